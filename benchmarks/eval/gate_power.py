"""What the shipped gates can tell at the rows they have: of every `non_inferior_to` on what is right or wrong, how
often a release passes that is as good, and how often one that is worse by the margin, or by twice as much.

python -m benchmarks.eval.gate_power
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.eval.statistics import DRAWS, draw_tables
from configs.loader import load
from configs.rules.gate import GateConfig
from configs.rules.paired import NonInferiorRule
from configs.run.config import RunConfig
from configs.run.metrics import METRICS
from eval.statistics.looks import confidence_at
from eval.statistics.tango import tango_interval

RUNS = ("sentiment", "calls-v2", "ner", "preferences")
DIFFERING = (0.0, 0.01, 0.02, 0.05, 0.1)  # share of rows that as good a release answers otherwise
LOST = 0.02  # of those that a worse one does, so many are gained, the loss beside


def rules() -> Iterator[tuple[str, int, NonInferiorRule]]:
    """The gate, the run's test rows, the rule."""
    for name in RUNS:
        run = load(Path(f"configs/finetune/{name}.yaml"), RunConfig)
        for rule in load(Path(run.gate), GateConfig).rules:
            known = METRICS.get(getattr(rule, "metric", "") or "")
            if isinstance(rule, NonInferiorRule) and known is not None and known.kind == "binary" and rule.margin:
                yield Path(run.gate).stem, run.data.test_rows, rule


def passes(n: int, rule: NonInferiorRule, differing: float, loss: float) -> float:
    """Share of releases that lose so much and pass, at the first look."""
    tables, counts = draw_tables(n, differing, loss, DRAWS)
    low, _ = tango_interval(tables[:, 0], tables[:, 1], n, confidence_at(rule.confidence, 1))
    return float(counts[low > -rule.margin].sum() / DRAWS)


def table() -> list[str]:
    same = " | ".join(f"{one:.0%}" for one in DIFFERING)
    lines = [
        "Chance to pass, at the first look: of a release that is as good as the reference and answers so many rows "
        "otherwise, and of one that truly loses the margin, or twice the margin.",
        "",
        f"| gate | rule | rows | {same} | loses the margin | twice |",
        "|---|---|---|" + "---|" * (len(DIFFERING) + 2),
    ]
    for gate, n, rule in rules():
        good = [passes(n, rule, one, 0.0) for one in DIFFERING]
        bad = [passes(n, rule, times * rule.margin + LOST, times * rule.margin) for times in (1, 2)]
        shares = " | ".join(f"{one:.1%}" for one in (*good, *bad))
        lines.append(f"| {gate} | {rule.name} | {n} | {shares} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
