"""Whatever is killed, at every moment of a deploy: after it, what answers is proven and of one release a user, and the next run converges.

Enumerated, not sampled. TUNEGATE_KILLS=all runs every pair of strategy and victim (the benchmark does); the two of every day are run here.
`pytest -s` prints the counts. Alone: python -m pytest -s tests/serve/switch/test_kills.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.kills import Victim, enumerate_kills

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
DAILY: list[tuple[str, Victim]] = [("blue-green", "agent"), ("canary", "green")]
ALL: list[tuple[str, Victim]] = [
    *DAILY,
    *(("blue-green", victim) for victim in ("torn", "green", "blue", "haproxy")),
    *(("canary", victim) for victim in ("agent", "blue", "haproxy")),
    *(("swap", victim) for victim in ("agent", "torn", "green", "haproxy")),
    *(("adapter", victim) for victim in ("agent", "torn", "green", "haproxy")),
]
# What must be among the moments at which the agent dies.
MOMENTS = ["before acquired", "before start_slot", "before started", "before proven parity", "before switching", "before switch", "before switched"]


@pytest.mark.parametrize(("strategy", "victim"), ALL if os.environ.get("TUNEGATE_KILLS") == "all" else DAILY)
def test_a_kill_at_every_point_leaves_one_proven_release_and_the_next_run_converges(tmp_path: Path, strategy: str, victim: Victim) -> None:
    cases = enumerate_kills(tmp_path, strategy, victim)
    failed = [case for case in cases if case.failures]
    print(f"kills: {strategy} {victim}: {len(cases)} cases, {len(failed)} failed")
    assert failed == []
    seen = [case.at for case in cases]
    moments = [moment.replace("start_slot", "load_adapter") if strategy == "adapter" else moment for moment in MOMENTS]
    assert len(cases) >= 10 and (victim != "agent" or [moment for moment in moments if moment not in seen] == [])
