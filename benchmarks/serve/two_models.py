"""Two models behind one router: each is switched by itself under the other's open streams, as the clients count them.

.venv/bin/python -m benchmarks.prove serve models

The router is the real HAProxy, the servers are the fake vLLM of the tests.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.prove import FOLDER, Row, console
from benchmarks.serve.switches import Load, clients, wait_for_streams, wrong_releases
from configs.environment.config import DeployConfig
from infra.haproxy.api_keys import api_key
from serve.deploy import deploy, rollback, stop_all
from serve.record.environment import Environment
from tests.serve.conftest import free_ports
from tests.support.fake_servers import fake_environment, fake_world, publish_fake
from tests.support.judging import judged_when_asked

LOAD = Load(32, 60, 8, 8)


class Moved(NamedTuple):
    """What the clients of the other model counted while one was switched; `open`: the fewest streams at a switch."""

    lines: list[dict[str, Any]]
    open: int
    wrong: int


def rows() -> list[Row]:
    folder = FOLDER.absolute() / "two-models"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    with (
        chdir(folder),
        patch.dict(os.environ, fake_world(folder) | {"TUNEGATE_FAKE_PACE": "0.05"}),
        judged_when_asked(),
    ):
        first, second = environments()
        try:
            releases = [publish_fake(name) for name in ("one", "two", "three", "four")]
            deploy(first, releases[0])
            deploy(second, releases[1])
            found = [moved(second, first, releases), moved(first, second, releases)]
        finally:
            stop_all(second)
            stop_all(first)
    lines = [line for one in found for line in one.lines]
    count = {outcome: sum(line["outcome"] == outcome for line in lines) for outcome in ("completed", "cut", "failed")}
    switches, fewest = 2 * (LOAD.deploys + LOAD.rollbacks), min(one.open for one in found)
    return [
        Row(
            f"two models behind one router, {switches} switches of either under at least {fewest} streams of the "
            f"other: streams cut of {count['completed'] + count['cut']}",
            count["cut"],
            f"0, about {LOAD.streams} open",
            count["cut"] == 0 and fewest >= 0.9 * LOAD.streams,
        ),
        Row(f"two models: requests failed of {len(lines)}", count["failed"], "0", count["failed"] == 0),
        Row(
            "two models: answers with a wrong x-tunegate-release",
            sum(one.wrong for one in found),
            "0",
            not any(one.wrong for one in found),
        ),
    ]


def environments() -> tuple[Environment, Environment]:
    """The second one is behind the router of the first."""
    settings = {"drain_deadline_seconds": 600, "keep_old_slot": True}
    first = fake_environment(**settings)
    facts = first.config.model_dump(mode="json", exclude_unset=True)
    facts |= {"name": "second", "model": "second", "router_of": first.config.name, "slot_ports": free_ports(2)}
    del facts["router"]
    config = DeployConfig.model_validate(facts | {"state_dir": "state-second"})
    return first, Environment(config.behind(first.config))


def moved(env: Environment, asked: Environment, releases: list[str]) -> Moved:
    """`asked` keeps its release, and its clients."""
    os.environ["TUNEGATE_PROVE_KEY"] = api_key(asked.config)
    serves = asked.record.state().release_of(asked.record.state().active)
    fewest = LOAD.streams
    with clients(Path.cwd(), asked.router.base_url, asked.config.model, LOAD) as close:
        for number in range(LOAD.deploys):
            wait_for_streams(asked, LOAD.streams)
            slots = env.record.state().slots.values()
            here = {slot.release for slot in slots if slot}  # one that is warm would only be switched to
            deploy(env, next(one for one in releases if one not in {*here, serves}))
            rollback(env)
            fewest = min(fewest, sum(one.open for one in asked.router.traffic().values()))
            console.print(f"{env.config.name}: deploy and rollback {number + 1} of {LOAD.deploys}")
        lines = close()
    golden = {str(serves).partition("@")[2]: ""}
    return Moved(lines, fewest, wrong_releases(lines, golden, by_name=True))
