"""`make demo`: the main job end to end, by the commands that people type. Every figure in the summary is measured in
this run.

v1 is trained, gated, deployed; v2 is trained while v1 serves, gated against it on the same examples, and switched in
under open streams; v3 is corrupted on purpose and must be refused. The endpoint is left running.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from rich.console import Console
from rich.table import Table

from benchmarks.serve.streams import Streams
from configs.errors import ExternalError, TunegateError
from configs.read import read_environment
from configs.verdict import Verdict
from eval.report.headline import headline
from infra.haproxy.api_keys import api_key

if TYPE_CHECKING:
    from serve.record.facts import Receipt

FOLDER = Path("build/demo")
ENVIRONMENT = FOLDER / "deploy.yaml"
TUNEGATE = [str(Path(sys.executable).with_name("tunegate"))]
VERSIONS = {"v1": "calls-v1", "v2": "calls-v2", "v3": "calls-spoiled"}
STREAMS = 10
console = Console(stderr=True)


def tunegate(*arguments: str, expected: tuple[int, ...] = (0,)) -> int:
    """Runs one command with its own progress on the terminal."""
    console.print(f"[bold]$ tunegate {' '.join(arguments)}", soft_wrap=True)
    code = subprocess.run([*TUNEGATE, *arguments]).returncode
    if code not in expected:
        raise ExternalError(
            f"tunegate {' '.join(arguments)} ended with {code}, expected {expected}",
            hint=f"tunegate {' '.join(arguments)}",
        )
    return code


def free(ports: list[int]) -> list[int]:
    """Each port itself where nobody holds it, else one that the system gives."""
    found = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
    return found


def make_environment() -> str:
    """A fresh environment of the demo's own, so that no tracked file changes; returns its base URL."""
    if ENVIRONMENT.exists():
        tunegate("stop", str(ENVIRONMENT))
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True)
    router_port, blue, green = free([8090, 8171, 8172])
    ENVIRONMENT.write_text(
        f"# tunegate deploy {ENVIRONMENT}\nname: demo\nmodel: assistant\nrelease: null\n"
        "release_gate: configs/gates/calls.yaml\n"
        f"router: {{port: {router_port}}}\nslot_ports: [{blue}, {green}]\n"
        f"load_test: {{users: 4, seconds: 12, max_tokens: 24}}\nbake_seconds: 10\n"
        "watch: {on_inconclusive: accept}\n"  # a demo's few streams need not be enough
        f"start_timeout_seconds: 600\nstate_dir: {FOLDER}/deploy\n",
        encoding="utf8",
    )
    return f"http://127.0.0.1:{router_port}"


class Version(TypedDict):
    """What the run of one version left behind. `release`: its name; `train`: steps, seconds, tokens a second."""

    release: str
    digest: str
    verdict: str
    reasons: list[str]
    headline: str
    metrics: dict[str, float]
    size_bytes: int
    train: dict[str, float]


def release_of(version: str) -> Version:
    """Read from its own files."""
    root = Path("build") / VERSIONS[version]
    verdict, metrics, training = (
        json.loads((root / file).read_text(encoding="utf8"))
        for file in ("gate/verdict.json", "eval/metrics.json", "trained/training.json")
    )
    return {
        "release": verdict["release"].partition("@")[0],
        "digest": verdict["release"].partition("@")[2],
        "verdict": verdict["outcome"],
        "reasons": [one["sentence"] for one in verdict["results"] if one["outcome"] != "pass"],
        "headline": headline(Verdict.model_validate(verdict)),
        "metrics": metrics["metrics"],
        "size_bytes": metrics["size_bytes"],
        "train": {key: training[key] for key in ("steps", "seconds", "tokens_per_second")},
    }


def run_version(version: str, expected: tuple[int, ...]) -> Version:
    console.rule(f"{version}: from YAML to a verdict")
    tunegate("run", f"configs/finetune/{VERSIONS[version]}.yaml", "--production", str(ENVIRONMENT), expected=expected)
    return release_of(version)


def deploy(found: Version) -> Receipt:
    command = [*TUNEGATE, "deploy", str(ENVIRONMENT), f"{found['release']}@{found['digest']}", "--json"]
    console.print(f"[bold]$ tunegate {' '.join(command[1:])}", soft_wrap=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        for line in process.stderr:
            console.print(f"  {line.rstrip()}", highlight=False, soft_wrap=True)
        output = process.stdout.read()
    if process.returncode:
        raise ExternalError(f"the deployment ended with {process.returncode}", hint=f"tunegate status {ENVIRONMENT}")
    receipt: Receipt = json.loads(output)["receipt"]
    return receipt


def main() -> None:
    started = time.time()
    base_url = make_environment()
    versions = {"v1": run_version("v1", (0,))}
    console.rule("v1 goes live")
    deploy(versions["v1"])
    streams = Streams(base_url + "/v1", "assistant", api_key(read_environment(str(ENVIRONMENT))), STREAMS)
    versions["v2"] = run_version("v2", (0,))
    console.rule(f"v2 takes over from v1 under {STREAMS} open streams")
    streams.open()  # before green starts: the bake holds green's figures against those of blue under the same traffic
    receipt = deploy(versions["v2"])
    counted = streams.close()
    versions["v3"] = run_version("v3", (1,))
    console.rule("v3 was refused: what served serves on")
    tunegate("deploy", str(ENVIRONMENT), "calls-spoiled", expected=(1, 2))
    served = streams.ask()
    base = json.loads((Path("build") / VERSIONS["v1"] / "eval/base/metrics.json").read_text(encoding="utf8"))
    summary = {
        "wall_seconds": round(time.time() - started, 1),
        "versions": versions,
        "quality": {
            "base": base["metrics"]["exact_match"],
            **{name: found["metrics"]["exact_match"] for name, found in versions.items()},
        },
        "switch": {
            "streams_open_at_switch": receipt["streams_open_at_switch"],
            **counted,
            "flip_milliseconds": receipt["flip_milliseconds"],
            "receipt": receipt,
        },
        "served": {"base_url": base_url + "/v1", **served},
    }
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf8")
    show(summary)
    check(summary)


def check(summary: dict[str, Any]) -> None:
    """The demo's own promise: it ends well only if all of this is so."""
    quality, switch = summary["quality"], summary["switch"]
    wrong = [
        text
        for holds, text in (
            (quality["base"] < quality["v1"] < quality["v2"], f"exact match did not rise: {quality}"),
            (
                switch["streams_open_at_switch"] >= 8,
                f"{switch['streams_open_at_switch']} streams were open at the switch, expected 8 or more",
            ),
            (
                switch["streams_cut"] == 0 and switch["requests_failed"] == 0,
                f"{switch['streams_cut']} streams cut, {switch['requests_failed']} requests failed",
            ),
            (
                summary["served"]["release"] == summary["versions"]["v2"]["digest"],
                f"{summary['served']['release']} serves, expected v2",
            ),
        )
        if not holds
    ]
    if wrong:
        raise ExternalError(
            "the demo did not show what it promises:\n" + "\n".join(f"  {line}" for line in wrong),
            hint=f"less {FOLDER}/summary.json",
        )


def show(summary: dict[str, Any]) -> None:
    table = Table(title=f"tunegate demo, {summary['wall_seconds']:.0f} s")
    for column in ("version", "digest", "exact match", "verdict", "why"):
        table.add_column(column)
    table.add_row("base", "", f"{summary['quality']['base']:.3f}", "", "the untuned weights")
    for name, found in summary["versions"].items():
        table.add_row(
            name,
            found["digest"][7:19],
            f"{found['metrics']['exact_match']:.3f}",
            found["verdict"],
            found["headline"],
        )
    console.print(table)
    switch, served = summary["switch"], summary["served"]
    counts = ", ".join(
        f"{switch[name]} {name.replace('_', ' ')}"
        for name in ("streams_open_at_switch", "streams_completed", "streams_cut", "requests_failed")
    )
    console.print(f"switch in {switch['flip_milliseconds']} ms: {counts}")
    body = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16})
    print(f"curl -i {served['base_url']}/chat/completions -H 'Content-Type: application/json' \\")
    print(f"  -H \"Authorization: Bearer $(cat {FOLDER}/deploy/api_key)\" -d '{body}'")
    print("stop it: make stop")


if __name__ == "__main__":
    try:
        main()
    except TunegateError as error:
        console.print(f"[red]error: {error}")
        sys.exit(error.exit_code)
