"""Verdicts as the gate would reach them, for releases that a test only wants to deploy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import serve.switch.reconcile
from configs.environment.config import DeployConfig
from configs.loader import load
from configs.metrics import EVALUATION_VERSION
from configs.rules.gate import GateConfig
from configs.verdict import NO_CHAMPION, Binding, Verdict
from infra.dvc.releases import folder_of
from infra.vllm.server import vllm_version
from serve.record.champion import last_served
from serve.switch.verdict import check_verdict

GATE = Path(__file__).with_name("release_gate.yaml")


def bound_verdict(
    reference: str, environment: str, gate: Path = GATE, champion: str | None = None, changes: Any = None
) -> Verdict:
    """One that passed for `environment` against `champion`; `changes` of its binding, by name."""
    binding = Binding(
        release=reference,
        outcome="pass",
        environment=environment,
        champion=champion or NO_CHAMPION,
        gate=gate.as_posix(),
        gate_digest=load(gate, GateConfig).digest,
        rows="sha256:" + "a" * 64,
        conditions="sha256:" + "b" * 64,
        versions={"evaluation": str(EVALUATION_VERSION), "vllm": vllm_version()},
        n=80,
        look=1,
    )
    found = binding.model_copy(update=changes or {}).sealed()
    return Verdict(release=reference, champion=champion, outcome="pass", results=[], binding=found)


def verdict_path(reference: str) -> Path:
    return folder_of(reference) / "gate" / "verdict.json"


@contextmanager
def judged_when_asked() -> Iterator[None]:
    """What a test published with a bare verdict is judged when it is asked for, as its pipeline would: for this
    environment, against what serves in it then."""

    def judge(config: DeployConfig, reference: str, path: Path) -> None:
        known = path.exists() and Verdict.read(path)
        if known and not known.results and known.outcome == "pass" and known.release == reference:
            gate = Path(config.release_gate) if config.release_gate else GATE
            champion = last_served(config) or (config.release if config.release != reference else None)
            judged = bound_verdict(reference, config.name, gate, champion)
            if judged != known:  # it may be signed
                judged.write(path)
        check_verdict(config.model_copy(update={"release_gate": config.release_gate or str(GATE)}), reference, path)

    with patch.object(serve.switch.reconcile, "check_verdict", judge):
        yield
