"""Switches under open streams, counted by the clients: what was cut, what failed, how long a flip took, and who
answered.

.venv/bin/python -m benchmarks.serve.switches fake    # 15 deploys and 15 rollbacks under 64 streams, the fake vLLM of
the tests behind the real router
.venv/bin/python -m benchmarks.serve.switches pairs   # the same with two servers a slot
.venv/bin/python -m benchmarks.serve.switches real    # 3 deploys and 2 rollbacks under 16 streams, two real vLLM
servers
.venv/bin/python -m benchmarks.serve.switches real-pairs    # 2 deploys and 1 rollback, two real vLLM servers a slot
.venv/bin/python -m benchmarks.serve.switches adapters    # 6 deploys and 5 rollbacks in one real vLLM server: each
deploy loads another adapter into it
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from benchmarks.prove import FOLDER, Row, console
from benchmarks.serve.gpus import four_gpus, gpus_seen, rows_of_gpus

if TYPE_CHECKING:
    from aiohttp import ClientSession

PYTHON = sys.executable
FLIP_MILLISECONDS, ROLLBACK_SECONDS = 50.0, 1.0
PROBE_SECONDS, PROBE_TOKENS = 0.25, 8


class Load(NamedTuple):
    """What one kind of servers can carry."""

    streams: int
    tokens: int
    deploys: int
    rollbacks: int


LOADS = {
    "fake": Load(64, 60, 15, 15),
    "pairs": Load(64, 60, 15, 15),
    "real": Load(16, 300, 3, 2),
    "real-pairs": Load(16, 300, 2, 1),
    "adapters": Load(16, 300, 6, 5),
}


async def stream_until(end: Path, url: str, model: str, key: str, load: Load) -> list[dict[str, Any]]:
    """`load.streams` streams open at any time, and a short, greedy request four times a second, until the file `end` is
    there; one line for each."""
    import aiohttp

    found: list[dict[str, Any]] = []

    async def keep_asking(session: aiohttp.ClientSession, kind: str, tokens: int, pause: float) -> None:
        while not end.exists():
            question = f"question {len(found) if kind == 'stream' else 0}"
            found.append(await ask(session, f"{url}/v1/chat/completions", body_of(model, question, tokens, kind), kind))
            await asyncio.sleep(pause)

    limits = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=limits, timeout=aiohttp.ClientTimeout(600), headers={"Authorization": f"Bearer {key}"}
    ) as session:
        streams = (keep_asking(session, "stream", load.tokens, 0) for _ in range(load.streams))
        await asyncio.gather(*streams, keep_asking(session, "probe", PROBE_TOKENS, PROBE_SECONDS))
    return found


def body_of(model: str, question: str, tokens: int, kind: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "stream": True,
        "ignore_eos": True,
        **({"temperature": 0} if kind == "probe" else {}),
    }


async def ask(session: ClientSession, url: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
    """What came of one request."""
    import aiohttp

    one: dict[str, Any] = {"kind": kind, "at": time.time(), "outcome": "failed"}
    try:
        async with session.post(url, json=body) as reply:
            headers = {name: reply.headers.get(f"x-tunegate-{name}") for name in ("release", "slot")}
            one |= {"status": reply.status, **headers}
            if reply.status == 200:
                one["outcome"] = "cut"
                one |= outcome_of([line async for line in reply.content if line.startswith(b"data: ")], kind)
    except aiohttp.ClientError as error:
        one["error"] = type(error).__name__
    return one | {"seconds": time.time() - one["at"]}


def outcome_of(lines: list[bytes], kind: str) -> dict[str, Any]:
    """Of a stream's data lines. Without a finish_reason and [DONE] it was cut, whatever the socket says."""
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    whole = bool(choices) and choices[-1].get("finish_reason") and lines[-1].strip() == b"data: [DONE]"
    return {
        "outcome": "completed" if whole else "cut",
        "text": "".join(one["delta"].get("content") or "" for one in choices) if kind == "probe" else None,
        "fingerprints": sorted({str(chunk.get("system_fingerprint")) for chunk in chunks}),
    }


@contextmanager
def clients(folder: Path, url: str, model: str, load: Load) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Clients in a process of their own; the yielded function ends them and gives their lines."""
    end, lines = folder / "end", folder / "lines.json"
    end.unlink(missing_ok=True)
    words = [PYTHON, "-m", "benchmarks.serve.switches", "clients", str(end), url, model, json.dumps(load), str(lines)]
    # The key travels in the environment, never in a command line.
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, cwd=folder)

    def close() -> list[dict[str, Any]]:
        end.touch()
        if process.wait(600):
            raise RuntimeError(f"the clients ended with {process.returncode}")
        found: list[dict[str, Any]] = json.loads(lines.read_text(encoding="utf8"))
        return found

    try:
        yield close
    finally:
        process.kill()


def switch_often(
    env: Any, releases: tuple[str, ...], load: Load
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[float]]:
    """What the record says of each switch, the clients' lines, and the seconds of each rollback."""
    from infra.haproxy.api_keys import api_key
    from serve.deploy import deploy, rollback

    deploy(env, releases[0])
    os.environ["TUNEGATE_PROVE_KEY"] = api_key(env.config)
    rollbacks = []
    with clients(Path.cwd(), env.router.base_url, env.config.model, load) as close:
        for number in range(load.deploys):
            wait_for_streams(env, load.streams)
            candidate = releases[1 + number % (len(releases) - 1)]
            deploy(env, candidate)
            if number < load.rollbacks:
                wait_for_streams(env, load.streams)
                started = time.monotonic()
                rollback(env)
                rollbacks.append(time.monotonic() - started)
            else:
                releases = (candidate, *(one for one in releases if one != candidate))
            console.print(f"deploy {number + 1} of {load.deploys}, {len(rollbacks)} rollbacks")
        lines = close()
    # The first deployment opened the router; the streams are those of both slots at the flip.
    switched = [event.facts for event in env.record.read() if event.kind == "switched"][1:]
    return [one | {"open": sum(slot["open"] for slot in one["before"].values())} for one in switched], lines, rollbacks


def wait_for_streams(env: Any, count: int) -> None:
    """Until the slot that is about to be left has them, but for the few that are between two answers."""
    deadline = time.monotonic() + 120
    while env.router.traffic()[env.router.active()].open < 0.9 * count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} streams were not open within two minutes")
        time.sleep(0.05)


def wrong_releases(lines: list[dict[str, Any]], golden: dict[str, str], *, by_name: bool) -> int:
    """Answers whose header names no deployed release, or another than what answered.

    `golden`: by digest, the greedy answer to question 0 that the release was published with. `by_name`: the fake names
    its release instead.
    """
    completed = [one for one in lines if one["outcome"] == "completed"]
    if by_name:
        return sum(
            {one["release"], *one["fingerprints"]} - {"None"} not in [{digest} for digest in golden]
            for one in completed
        )
    return sum(one["release"] not in golden or one["text"] not in (None, golden[one["release"]]) for one in completed)


def golden_answers(releases: tuple[str, ...]) -> dict[str, str]:
    from infra.dvc.releases import folder_of

    found = {
        one: (folder_of(one) / "release/golden.jsonl").read_text(encoding="utf8").split("\n")[0] for one in releases
    }
    return {one.partition("@")[2]: json.loads(line)["answer"] for one, line in found.items()}


def rows(kind: str) -> list[Row]:
    import numpy

    from serve.deploy import stop_all
    from tests.support.judging import judged_when_asked

    load = LOADS[kind]
    folder = FOLDER.absolute() / f"switches-{kind}"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    with chdir(folder), patch.dict(os.environ), judged_when_asked(), four_gpus(kind):
        env, releases = world(kind, folder)
        try:
            flips, lines, rollbacks = switch_often(env, releases, load)
            golden = golden_answers(releases)
            started = [event.facts for event in env.record.read() if event.kind == "started"]
            sees = gpus_seen(env)
        finally:
            stop_all(env)
    count = {outcome: sum(one["outcome"] == outcome for one in lines) for outcome in ("completed", "cut", "failed")}
    opened = [one["open"] for one in flips]
    flip = float(numpy.percentile([one["flip_milliseconds"] + one["first_request_milliseconds"] for one in flips], 99))
    loaded = (
        f"{len(started) - 1} adapters loaded into one real server"
        if len({one["pid"] for one in started}) == 1
        else f"two {'real' if kind == 'real-pairs' else 'fake'} servers a slot"
        if "pairs" in kind
        else f"{kind} servers"
    )
    head = f"{len(flips)} switches, {loaded}, {min(opened)} to {max(opened)} streams open at each"
    wrong = wrong_releases(lines, golden, by_name=kind in ("fake", "pairs"))
    goal = f"0, about {load.streams} open"
    return [
        Row(
            f"{head}: streams cut of {count['completed'] + count['cut']}",
            count["cut"],
            goal,
            count["cut"] == 0 and min(opened) >= 0.9 * load.streams,
        ),
        Row(f"{kind}: requests failed of {len(lines)}", count["failed"], "0", count["failed"] == 0),
        Row(
            f"{kind}: flip p99, command to first request on the new slot",
            round(flip, 1),
            f"below {FLIP_MILLISECONDS:g} ms",
            flip < FLIP_MILLISECONDS,
        ),
        Row(
            f"{kind}: longest of {len(rollbacks)} rollbacks",
            round(max(rollbacks), 2),
            f"below {ROLLBACK_SECONDS:g} s",
            max(rollbacks) < ROLLBACK_SECONDS,
        ),
        Row(f"{kind}: answers with a wrong x-tunegate-release", wrong, "0", wrong == 0),
        *rows_of_gpus(kind, sees),
    ]


def world(kind: str, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """An environment without a load gate, and releases that differ."""
    from tests.support.fake_servers import fake_environment, fake_world, publish_fake, two_servers_a_slot

    settings: dict[str, Any] = {"bake_seconds": 1, "drain_deadline_seconds": 600, "keep_old_slot": True}
    settings |= two_servers_a_slot() if "pairs" in kind else {}
    if kind in ("fake", "pairs"):
        os.environ |= fake_world(folder) | {
            "TUNEGATE_FAKE_PACE": "0.05"
        }  # 20 tokens a second in each stream, as a small model gives under load
        return fake_environment(**settings), (publish_fake("one"), publish_fake("two"))
    from tests.support.tiny_release import write_release

    os.environ["TUNEGATE_SERVE_PYTHON"] = str(Path(__file__).parents[2] / ".venv-serve/bin/python")
    if kind == "adapters":
        names = ("one", "two", "three", "four")
        return fake_environment(capacity="adapter", **settings), tuple(
            write_release(folder, name, 1, adapter_seed=seed) for seed, name in enumerate(names)
        )
    if kind == "real-pairs":
        settings["slots"] = {"servers": 2, "devices": "auto"}
    return fake_environment(**settings), (
        write_release(folder, "one", 1, enforce_eager=True),
        write_release(folder, "two", 2, enforce_eager=True),
    )


def main() -> None:
    if sys.argv[1] == "clients":
        end, url, model, load, target = sys.argv[2:]
        found = asyncio.run(
            stream_until(Path(end), url, model, os.environ["TUNEGATE_PROVE_KEY"], Load(*json.loads(load)))
        )
        Path(target).write_text(json.dumps(found), encoding="utf8")
        return
    for row in rows(sys.argv[1]):
        print(row)


if __name__ == "__main__":
    main()
