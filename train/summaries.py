"""What a stage has done, in a few lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from configs.paths import RunPaths
from infra.terminal import print_table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from configs.data_card import DataCard
    from configs.release import Manifest
    from configs.run.config import RunConfig
    from configs.training_record import TrainingReport


def summarise_card(card: DataCard, run: RunConfig) -> dict[str, object]:
    """What `prepare` made of the rows, for people."""
    left_out = {kind: count for kind, count in card["left_out"].items() if count}
    kept = {row["kind"]: row["count"] for row in card["findings"] if row["action"] == "keep" and row["count"]}
    longest = card["lengths"]["edges"][-1:] if card["lengths"]["counts"] else []
    return {
        "rows": ", ".join(f"{part['rows']:,} {split}" for split, part in card["splits"].items()),
        "folds": f"{len(card['folds'])}: all rows are test rows, each of one of them" if "folds" in card else "",
        "left out": count_kinds(left_out) or "none",
        "kept though found": count_kinds(kept),
        "longest row": f"{longest[0]} tokens, of data.max_tokens {run.data.max_tokens}" if longest else "",
        "labels": ", ".join(card["labels"]),
        "source": f"{card['source']} ({card['licence']})",
        "page": RunPaths.of(run.name).data / "data_card.html",
    }


def count_kinds(counts: dict[str, int]) -> str:
    """As in: 18 duplicate, 5 too long."""
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())


def summarise_training(record: TrainingReport, run: RunConfig) -> dict[str, object]:
    """How well and how fast it trained, for people."""
    best, peak = record["best_validation_loss"], record.get("peak_memory_bytes")
    return {
        "steps": f"{record['steps']}, {record['epochs']:.3g} epochs",
        "best": f"validation loss {best:.4g} at step {record['best_step']}" if best is not None else "",
        "took": f"{record['seconds']:.0f} s, {record['tokens_per_second'] or 0:,.0f} tokens a second",
        "peak memory": f"{peak / 2**30:.2f} GiB" if peak else "",
        "model": RunPaths.of(run.name).trained,
    }


def summarise_release(manifest: Manifest, run: RunConfig) -> dict[str, object]:
    """What was made and how much smaller it is, for people."""
    facts = manifest.quantization
    size, parent = facts["size_bytes"] / 2**20, facts["parent_size_bytes"] / 2**20
    scheme = " ".join(str(facts[key]) for key in ("scheme", "algorithm") if key in facts)
    return {
        "release": manifest.reference,
        "weights": f"{scheme}: {size:,.1f} MiB of {parent:,.1f}" if facts["scheme"] != "none" else f"{size:,.1f} MiB",
        "directory": RunPaths.of(run.name).release,
    }


def print_trials(trials: Sequence[FrozenTrial], parameters: Iterable[str]) -> None:
    """A line a trial, the best first."""
    from train.search.report import kind_of

    rows = [
        {"trial": trial.number, "ended": kind_of(trial), "validation_loss": trial.value and round(trial.value, 5)}
        | trial.params
        for trial in sorted(trials, key=lambda trial: (kind_of(trial) != "complete", trial.value or 0, trial.number))
    ]
    print_table(rows, ["trial", "ended", "validation_loss", *parameters])
