"""One bad release for each proof, deployed for real behind the real router: stopped by that proof, and what served
serves on.

The servers are the fake vLLM of the tests, which misbehaves as it is told; locust, the gate and the watch are the
product's own.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import chdir
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.prove import FOLDER, Row, console

GATE = """rules:
- {rule: goodput, maximum_error_rate: 0}
- {rule: latency, metric: latency_p50_ms, relative_to: blue, maximum_ratio: 5}
"""
# What each is stopped by, in the words of the refusal.
FAULTS = {
    "wrong digest": "model.safetensors",
    "dead generation": "empty answer",
    "parity broken": "differ from the trainer's own",
    "slow": "load gate fail",
}
MODES = {"dead generation": "empty", "parity broken": "wrong", "slow": "slow"}
USERS = 4


def rows() -> list[Row]:
    from tests.support.judging import judged_when_asked

    folder = FOLDER.absolute() / "bad-greens"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with chdir(folder), patch.dict(os.environ), judged_when_asked():
        return measure(folder)


def measure(folder: Path) -> list[Row]:
    from eval.gate import read_rules
    from eval.rules.decide import decide_load
    from serve.deploy import deploy, stop_all
    from tests.support.fake_servers import fake_environment, fake_world, publish_fake

    os.environ.update(fake_world(folder))
    Path("gate.yaml").write_text(GATE, encoding="utf8")
    rules = read_rules(Path("gate.yaml"))
    load = {"users": 2, "seconds": 4, "max_tokens": 8}
    env = replace(
        fake_environment(gate="gate.yaml", load_test=load),
        load_gate=lambda reference, figures: decide_load(rules, reference, figures),
    )
    try:
        good = publish_fake("good")
        deploy(env, good)
        found = [stopped_by(env, name, words, good, folder) for name, words in FAULTS.items()]
        return [
            *found,
            rolled_back(replace(env, config=env.config.model_copy(update={"bake_seconds": 30})), good, folder),
        ]
    finally:
        stop_all(env)


def stopped_by(env: Any, name: str, words: str, good: str, folder: Path) -> Row:
    from configs.errors import TunegateError
    from serve.deploy import deploy
    from tests.support.fake_servers import misbehave, publish_fake

    release = name.replace(" ", "-")
    bad = publish_fake(release)
    if name in MODES:
        misbehave(folder, **{release: MODES[name]})
    else:
        next(Path("releases").glob(f"{release}@*")).joinpath("release/model.safetensors").write_text(
            "bytf of another release"
        )
    try:
        deploy(env, bad)
        why = "deployed"
    except TunegateError as error:
        why = error.message
    console.print(f"{name}: {why}", markup=False)
    serves, answered = env.record.state(), ask(env)
    held = words in why and serves.release_of(serves.active) == good and answered == (200, good.partition("@")[2])
    return Row(
        f"bad green, {name}: stopped by its proof, what served serves on", "yes" if held else why[:80], "yes", held
    )


def ask(env: Any) -> tuple[int, str | None]:
    import httpx

    from infra.haproxy.api_keys import api_key

    body = {"model": env.config.model, "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 2}
    reply = httpx.post(
        f"{env.router.base_url}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {api_key(env.config)}"},
        timeout=20,
    )
    return reply.status_code, reply.headers.get("x-tunegate-release")


def rolled_back(env: Any, good: str, folder: Path) -> Row:
    """It passes every proof and fails its users: seconds from its first failed answer until the old release has all
    requests again."""
    from configs.errors import TunegateError
    from serve.deploy import deploy
    from tests.support.fake_servers import misbehave, publish_fake

    misbehave(folder)
    bad, errors, ended = publish_fake("later"), list[float](), threading.Event()

    def turn_bad() -> None:
        while not any(
            event.kind == "switched" and event.slot == "green" for event in env.record.read()[-4:]
        ) and not ended.wait(0.02):
            pass
        misbehave(folder, later="error")

    def use() -> None:
        while not ended.wait(0.02):
            if ask(env)[0] >= 500:
                errors.append(time.time())

    threads = [threading.Thread(target=one) for one in (turn_bad, *([use] * USERS))]
    for thread in threads:
        thread.start()
    try:
        deploy(env, bad)
        why = "baked"
    except TunegateError as error:
        why = error.message
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    back = [datetime.fromisoformat(event.at).timestamp() for event in env.record.read() if event.kind == "switched"][-1]
    seconds = back - min(errors, default=float("nan"))
    held = "under traffic" in why and ask(env) == (200, good.partition("@")[2]) and seconds < 10
    console.print(f"error-prone after promotion: {why}", markup=False)
    return Row(
        f"bad green, error-prone only after promotion: rolled back during the bake ({len(errors)} requests failed), "
        "seconds from the first error",
        round(seconds, 2),
        "within seconds",
        held,
    )


if __name__ == "__main__":
    for row in rows():
        print(row)
