"""What the serving room promises, measured: the checks of `make prove-serve` (benchmarks/prove.py)."""

from __future__ import annotations

import re
import sys

from benchmarks.prove import Check, Row, run, tested
from benchmarks.serve import applications, bad_greens, clock, outages, record, router_cost, switches, two_models

# 50 steps each; the machine must take 20,000 steps at least.
MACHINE_EXAMPLES = 1_000  # some 22 steps each: a hundred examples more or fewer of the search decide nothing


def counted(path: str, pattern: str, **environment: str) -> tuple[list[tuple[str, ...]], bool]:
    """What a test prints of itself, by `pattern`; whether it passed."""
    words = (sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", path)
    done = run(*words, expected=(0, 1, 2, 3, 4, 5), environment=environment)
    return [one.groups() for one in re.finditer(pattern, done.stdout)], done.returncode == 0


def kills() -> list[Row]:
    """Every point of a deploy, every strategy, every victim."""
    found, passed = counted(
        "tests/serve/switch/test_kills.py", r"kills: (\S+) (\S+): (\d+) cases, (\d+) failed", TUNEGATE_KILLS="all"
    )
    cases, failed = sum(int(one[2]) for one in found), sum(int(one[3]) for one in found)
    shown = "; ".join(f"{strategy} {victim} {count}" for strategy, victim, count, _ in found)
    return [
        Row(
            f"kill -9 at every step, {cases} cases ({shown}): cases after which not exactly one proven release served",
            failed,
            "0",
            passed,
        )
    ]


def machine() -> list[Row]:
    drawn = {"TUNEGATE_MACHINE_EXAMPLES": str(MACHINE_EXAMPLES), "HYPOTHESIS_PROFILE": "search"}
    found, passed = counted("tests/serve/plan/test_planner_machine.py", r"planner steps: (\d+)", **drawn)
    steps = int(found[-1][0]) if found else 0
    return [
        Row(
            "steps of the planner's state machine without a broken invariant",
            steps,
            "at least 20,000",
            passed and steps >= 20_000,
        )
    ]


def usage() -> list[Row]:
    """Through the real vLLM, streamed and not, some with several answers."""
    path, wanted = "tests/infra/vllm/test_usage_served.py", 1000
    pattern = r"usage: (\d+) requests of (\d+) keys, (\d+) tokens"
    found, passed = counted(path, pattern, TUNEGATE_USAGE_REQUESTS=str(wanted))
    requests, keys, tokens = found[-1] if found else ("0", "0", "0")
    name = f"usage of {keys} keys by {requests} requests, {tokens} tokens: metered and as their clients counted it"
    return [Row(name, "equal" if passed else "not equal", "equal", passed and requests == str(wanted))]


def refusals() -> list[Row]:
    found, passed = counted("tests/infra/haproxy/test_refusals.py", r"(\d+) requests refused")
    count = int(found[-1][0]) if found else 0
    return [
        Row(
            f"requests that are not allowed, {count} of them: reached the model server",
            "none" if passed else "some",
            "none of 200",
            passed and count >= 200,
        )
    ]


def agent() -> list[Row]:
    paths = [f"tests/serve/test_{name}.py" for name in ("agent", "agent_faults", "agent_busy", "supervise")]
    paths.append("tests/infra/haproxy/test_servers.py")
    return tested("crashes, hangs, a full disk, a proof that hangs, nobody but HAProxy: what serves serves on", *paths)


CHECKS: dict[str, Check] = {
    "switches": lambda: switches.rows("fake"),
    "pairs": lambda: switches.rows("pairs"),
    "models": two_models.rows,
    "real": lambda: switches.rows("real"),
    "real-pairs": lambda: switches.rows("real-pairs"),
    "adapters": lambda: switches.rows("adapters"),
    "cost": router_cost.rows,
    "applications": applications.rows,
    "bad": bad_greens.rows,
    "kills": kills,
    "outages": outages.rows,
    "clock": clock.rows,
    "machine": machine,
    "refusals": refusals,
    "agent": agent,
    "record": record.rows,
    "usage": usage,
    "served": lambda: tested(
        "one environment's life with the real vLLM",
        "tests/serve/test_deploy.py",
        "tests/serve/switch/test_shared_server_served.py",
    ),
}
