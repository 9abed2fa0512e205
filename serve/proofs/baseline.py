"""Blue's figures under the very load that green gets, so that rules with `relative_to: blue` compare like with like."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from configs.environment.load_test import LoadTest
from configs.loader import load
from configs.release import Manifest
from configs.rules.cost import GoodputRule, LatencyRule
from configs.rules.gate import GateConfig
from infra.files.atomic import write_json
from infra.haproxy.servers import Traffic

Measure = Callable[[str, Manifest, Path], dict[str, float]]
POLL_SECONDS = 1.0
NO_BASELINE = {"blue_absent": 1.0}  # tells the gate: nothing else serves to be compared with


@dataclass(frozen=True)
class Blue:
    """What serves while green is proven. `traffic` is the router's own count of it."""

    base_url: str
    manifest: Manifest
    traffic: Callable[[], Traffic]


def needs_baseline(gate: Path) -> bool:
    """Whether a rule compares: blue is not measured for nothing."""
    return any(
        isinstance(rule, LatencyRule | GoodputRule) and rule.relative_to == "blue"
        for rule in load(gate, GateConfig).rules
    )


def measure_baseline(
    blue: Blue | None, settings: LoadTest, prompts: Path, folder: Path, measure: Measure
) -> tuple[dict[str, float], dict[str, str]]:
    """Figures as `blue_*`, and how they were had.

    Idle, it is measured now. Under traffic that would slow its users and its figures alike: then a measure of the same
    release, load and machine is taken where there is one, else it is measured all the same, and the facts say under
    what traffic.
    """
    if blue is None:
        return dict(NO_BASELINE), {"blue": "nothing else serves"}
    path = kept_at(folder, blue.manifest.reference, settings, prompts)
    busy = traffic_now(blue)
    if busy and path.exists():
        kept = json.loads(path.read_text(encoding="utf8"))
        return prefixed(kept["figures"]), {
            "blue": blue.manifest.reference,
            "blue_measured": f"kept from {kept['at']}",
            "blue_traffic": busy,
        }
    figures = measure(blue.base_url, blue.manifest, folder / "blue")
    if not busy:
        keep_figures(folder, blue.manifest.reference, settings, prompts, figures)
    return prefixed(figures), {
        "blue": blue.manifest.reference,
        "blue_measured": f"under traffic: {busy}" if busy else "idle",
        "blue_traffic": busy,
    }


def prefixed(figures: dict[str, float]) -> dict[str, float]:
    return {f"blue_{name}": value for name, value in figures.items()}


def traffic_now(blue: Blue) -> str:
    """In words; empty where no request was open or came within POLL_SECONDS."""
    before = blue.traffic()
    time.sleep(POLL_SECONDS)
    after = blue.traffic()
    came = after.total - before.total
    if not (after.open or before.open or came):
        return ""
    return f"{after.open} open, {came / POLL_SECONDS:.3g} requests a second"


def keep_figures(folder: Path, reference: str, settings: LoadTest, prompts: Path, figures: dict[str, float]) -> None:
    """Green's own figures too: it is blue next time."""
    path = kept_at(folder, reference, settings, prompts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"release": reference, "at": datetime.now(UTC).isoformat(timespec="seconds"), "figures": figures})


def kept_at(folder: Path, reference: str, settings: LoadTest, prompts: Path) -> Path:
    """A name made of all that the figures hang on: the bytes, the load with its questions, the machine."""
    facts = [reference, settings.model_dump(mode="json"), questions_in(prompts), contents_of(settings.trace), machine()]
    return folder / "measured" / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]}.json"


def questions_in(prompts: Path) -> list[dict[str, object]]:
    """Golden lines without their answers: another release's differ in nothing else."""
    lines = [json.loads(line) for line in prompts.read_text(encoding="utf8").split("\n") if line.strip()]
    return [
        {name: line[name] for name in ("messages", "tools", "prompt", "text", "input_ids") if name in line}
        for line in lines
    ]


def contents_of(trace: str | None) -> str | None:
    if trace is None:
        return None
    paths = sorted(Path(trace).glob("*.jsonl")) if Path(trace).is_dir() else [Path(trace)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def machine() -> list[object]:
    """Which one, and how much of it is ours."""
    return [platform.node(), platform.machine(), len(os.sched_getaffinity(0))]
