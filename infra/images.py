"""Builds and runs the images `agent` and `serve` (CPU) on this machine: python -m infra.images BASE --release DIR.
Docker must be running.

BASE is a local image with Python 3.11 and apt (docs/images.md says how to make one without a registry). Prints what was
seen; exit 3 where docker fails, 1 where an image does not do what it must. What only a GPU shows is not looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from configs.errors import ExternalError, RefusedError, TunegateError
from configs.release import read_manifest
from infra.git.command import head_revision

DOCKERFILE = "Dockerfile.gpu"
# As a cautious operator would: nothing may be written but what is named, and no right be gained.
CAUTIOUS = [
    "--network",
    "host",
    "--read-only",
    "--tmpfs",
    "/tmp:exec",
    "--tmpfs",
    "/home/tunegate:uid=10001",
    "-v",
    "/var/cache/tunegate",
    "--cap-drop",
    "ALL",
]
CAUTIOUS += ["--security-opt", "no-new-privileges"]
HEALTHY_SECONDS = 900
SERVER_LOG = Path("build/image-serve.log")
FIND_HAPROXY = """
import subprocess
from infra.haproxy.process import find_haproxy
print(subprocess.check_output([find_haproxy(), '-v'], text=True))
"""
# As Triton does: compiled against Python.h into its cache, and loaded from there.
COMPILE = """
import ctypes, os, subprocess, sysconfig
folder = os.environ['TRITON_CACHE_DIR']
os.makedirs(folder, exist_ok=True)
with open(f'{folder}/probe.c', 'w') as stream:
    stream.write('#include <Python.h>\\nint probe(void) { return PY_MAJOR_VERSION; }\\n')
headers = f"-I{sysconfig.get_path('include')}"
subprocess.run(['gcc', '-shared', '-fPIC', headers, f'{folder}/probe.c', '-o', f'{folder}/probe.so'], check=True)
print('compiled', ctypes.CDLL(f'{folder}/probe.so').probe())
"""
WRITE = """
try:
    open('/opt/tunegate/source/tunegate.py', 'a')
except OSError:
    print('refused')
"""


def docker(*words: str, errors: bool = False) -> str:
    """Its output, with what stands on stderr if `errors`. Raises ExternalError with its last words: the old builder
    says on stdout why a step failed."""
    try:
        run = subprocess.run(["docker", *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise ExternalError("docker is not installed", hint="apt-get install docker.io") from None
    if run.returncode:
        raise ExternalError(
            f"docker {' '.join(words[:3])}: {(run.stdout[-1500:] + run.stderr[-1500:]).strip()}", hint="docker info"
        )
    return (run.stdout + run.stderr * errors).strip()


def build(target: str, base: str, settings: dict[str, str]) -> str:
    """The image's name."""
    values = {"BASE": base, "REVISION": head_revision()} | settings
    arguments = [word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")]
    started = time.monotonic()
    docker(
        "build", "--network", "host", "-f", DOCKERFILE, "--target", target, "-t", f"tunegate-{target}", *arguments, "."
    )
    size = int(docker("image", "inspect", "--format", "{{.Size}}", f"tunegate-{target}"))
    print(f"tunegate-{target}: built in {time.monotonic() - started:.0f} s, {size / 1e6:.0f} MB")
    return f"tunegate-{target}"


def look(image: str) -> None:
    """Labels, user, health check. Raises RefusedError where one is missing."""
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    revision = config["Labels"].get("org.opencontainers.image.revision")
    if revision != head_revision() or config["User"] != "10001" or "Healthcheck" not in config:
        raise RefusedError(
            f"{image}: found revision {revision}, user {config['User']!r}, health check {config.get('Healthcheck')}",
            hint=f"less {DOCKERFILE}",
        )
    print(
        f"{image}: revision {revision[:12]}, user {config['User']}, health check {config['Healthcheck']['Test'][1]} …"
    )


def try_agent(image: str) -> None:
    """The command line, the router's binary, and an agent's turn in a checkout that is mounted, the root read-only.
    Raises RefusedError if it can write."""
    configs, build = (
        ["-v", f"{Path.cwd()}/configs:/srv/tunegate/configs:ro"],
        ["--tmpfs", "/srv/tunegate/build:uid=10001"],
    )
    python = ["run", "--rm", "--network", "host", "--entrypoint", "python", image, "-c"]
    print(f"{image}: {docker('run', '--rm', *CAUTIOUS, image, '--version')}")
    print(docker("run", "--rm", *CAUTIOUS, *configs, image, "check", "configs/deploy/local.yaml"))
    print(f"{image}: {docker(*python, FIND_HAPROXY).splitlines()[0]}")
    docker("run", "--rm", *CAUTIOUS, *configs, *build, image, "agent", "local", "--once")
    print(f"{image}: an agent's turn with nothing pinned ended well: root read-only, no capability, user 10001")
    if docker(*python, WRITE) != "refused":
        raise RefusedError(f"{image}: its own code can be written by the user that runs it", hint=f"less {DOCKERFILE}")


def try_serve(image: str, release: Path, port: int) -> None:
    """What is compiled in it can be loaded. A real vLLM serves `release` until docker calls it healthy, then answers
    one prompt. Raises RefusedError where it does not."""
    manifest = read_manifest(release)
    python = ["--rm", "--entrypoint", "/opt/tunegate/.venv-serve/bin/python"]
    if docker("run", *CAUTIOUS, *python, image, "-c", COMPILE) != "compiled 3":
        raise RefusedError(f"{image}: what is compiled at run time cannot be loaded", hint=f"less {DOCKERFILE}")
    # A volume takes the owner of the image's folder, and what the server said can be fetched from it when the container
    # has ended.
    mounts = [
        "-v",
        f"{release.absolute()}:/release:ro",
        "-v",
        "/srv/tunegate",
        "--env",
        f"TUNEGATE_HEALTH=http://127.0.0.1:{port}/health",
    ]
    started = time.monotonic()
    container = docker(
        "run", "-d", *CAUTIOUS, "--shm-size", "1g", *mounts, image, "serve", "/release", "--port", str(port)
    )
    try:
        while (
            state := docker("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", container)
        ) != "running healthy":
            if not state.startswith("running") or time.monotonic() - started > HEALTHY_SECONDS:
                said = docker("logs", container, errors=True)
                SERVER_LOG.parent.mkdir(exist_ok=True)
                with contextlib.suppress(ExternalError):  # there is none where the release was refused
                    docker("cp", f"{container}:/srv/tunegate/build/serve/{port}.log", str(SERVER_LOG))
                raise RefusedError(
                    f"{image}: {state} after {time.monotonic() - started:.0f} s:\n{said}", hint=f"less {SERVER_LOG}"
                )
            time.sleep(2)
        print(f"{image}: healthy after {time.monotonic() - started:.0f} s; {ask(port, manifest.name)}")
    finally:
        docker("rm", "-f", "-v", container)


def ask(port: int, model: str) -> str:
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
    ).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return f"it answered {json.load(answer)['choices'][0]['message']['content']!r}"
    except urllib.error.URLError as error:
        raise RefusedError(f"no answer on port {port}: {error}", hint="docker logs CONTAINER") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="a local image with Python 3.11 and apt")
    parser.add_argument(
        "--release", type=Path, help="a GPT's release directory, to build and run `serve` (CPU) as well"
    )
    parser.add_argument(
        "--uv-flags",
        default="--torch-backend=cpu",
        help="of uv pip install, for the CPU's torch; its wheel in the base: --find-links DIR",
    )
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    try:
        # The same flags for both: others would have the old builder make the agent's environment twice.
        flags = {"UV_FLAGS": given.uv_flags}
        agent = build("agent", given.base, flags)
        look(agent)
        try_agent(agent)
        if given.release:
            serve = build("serve", given.base, flags | {"SERVE_LOCK": "serve.txt"})
            look(serve)
            try_serve(serve, given.release, given.port)
    except TunegateError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
