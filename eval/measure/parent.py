"""A release beside its own unquantized parent, both through vLLM: agreement, KL divergence, size and speed, as metrics
and as a card."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.metrics import Metrics
from configs.release import Manifest
from configs.run.config import RunConfig
from eval.measure.rows import Rows, draw
from eval.metrics.rows import Row
from eval.metrics.samples import DIVERGENCE, Sample, write_samples
from infra.vllm.client import ask, chat_request, post

if TYPE_CHECKING:
    import httpx

PROBED_ROWS, PROBE_SEED = 128, 17  # a mean without a range needs 100 for an interval (eval/statistics/values.py)
TOP_LOGPROBS = 20  # vLLM's --max-logprobs allows no more by default
RARE = 1e-9


@dataclass(frozen=True)
class Probe:
    """What one server answered to drawn test rows: natural log-probabilities by row and outcome (a label, or a
    first token's id), and its speed."""

    distributions: dict[str, dict[str, float]]
    answers_per_second: float
    tokens_per_second: float

    @classmethod
    def read(cls, path: Path) -> Probe:
        return cls(**json.loads(path.read_text(encoding="utf8")))

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def probe(base_url: str, served_name: str, manifest: Manifest, rows: list[Row], config: RunConfig) -> Probe:
    """Asks PROBED_ROWS drawn rows twice: untimed for the distributions, which also warms the server, then timed at
    the run's own concurrency."""
    return asyncio.run(probe_rows(base_url, served_name, manifest, rows, config))


def rows_to_probe(rows: Rows) -> list[Row]:
    """The same ones of every release on these rows."""
    return [row for _, row in draw(rows(), PROBED_ROWS, PROBE_SEED)]


async def probe_rows(base_url: str, served_name: str, manifest: Manifest, rows: list[Row], config: RunConfig) -> Probe:
    import httpx

    places, settings = asyncio.Semaphore(config.evaluate.concurrency), config.evaluate
    async with httpx.AsyncClient() as client:

        async def distribution(row: Row) -> dict[str, float]:
            async with places:
                if "messages" in row:
                    return await first_token(client, base_url, served_name, row)
                if manifest.task != "sequence-classification" or manifest.problem != "single_label":
                    return {}  # no one distribution over outcomes
                return labels_of((await ask(client, base_url, served_name, manifest, row, max_new_tokens=1)).probs)

        async def answer(row: Row) -> int:
            async with places:
                found = await ask(client, base_url, served_name, manifest, row, max_new_tokens=settings.max_new_tokens)
            return found.completion_tokens or found.prompt_tokens

        distributions = await asyncio.gather(*(distribution(row) for row in rows))
        started = time.perf_counter()
        tokens = await asyncio.gather(*(answer(row) for row in rows))
        seconds = time.perf_counter() - started
    named = {str(row["id"]): found for row, found in zip(rows, distributions, strict=True)}
    return Probe(named, round(len(rows) / seconds, 3), round(sum(tokens) / seconds, 3))


async def first_token(client: httpx.AsyncClient, base_url: str, served_name: str, row: Row) -> dict[str, float]:
    """By token id, for two tokens may read alike (vLLM's `return_tokens_as_token_ids`)."""
    wanted = {"top_logprobs": TOP_LOGPROBS, "return_tokens_as_token_ids": True}
    reply = await post(client, f"{base_url}/v1/chat/completions", chat_request(served_name, row, 1) | wanted, None)
    tokens = (reply["choices"][0].get("logprobs") or {}).get("content") or []
    return {str(one["token"]): float(one["logprob"]) for one in tokens[0]["top_logprobs"]} if tokens else {}


def labels_of(probs: dict[str, float] | None) -> dict[str, float]:
    return {label: math.log(max(value, RARE)) for label, value in (probs or {}).items()}


def divergence(parent: dict[str, float], release: dict[str, float]) -> float:
    """KL(parent || release) in nats, over the outcomes that both name and one bucket for the rest.

    Exact for a classifier. For a GPT's top 20 tokens a lower bound: merging outcomes never raises it (Cover and Thomas,
    data processing inequality).
    """
    shared = sorted(parent.keys() & release.keys())
    pairs = [(math.exp(parent[name]), math.exp(release[name])) for name in shared]
    pairs.append((max(0.0, 1 - sum(p for p, _ in pairs)), max(0.0, 1 - sum(q for _, q in pairs))))
    return max(0.0, sum(p * math.log(p / max(q, RARE)) for p, q in pairs if p > RARE))


def compare(record: Metrics, parent: Metrics, folder: Path) -> dict[str, float]:
    """What metrics.json gains. `record` and `parent` are the two evaluations, which lie with their probes in `folder`
    and `folder`/parent."""
    mine, theirs = Probe.read(folder / "probe.json"), Probe.read(folder / "parent" / "probe.json")
    figures = {f"parent_{name}": value for name, value in parent["metrics"].items()}
    figures |= {
        f"{name}_change": record["metrics"][name] - value
        for name, value in parent["metrics"].items()
        if name in record["metrics"]
    }
    figures |= {"parent_agreement": agreement(folder), "size_ratio": record["size_bytes"] / parent["size_bytes"]}
    figures |= {"tokens_per_second": mine.tokens_per_second, "parent_tokens_per_second": theirs.tokens_per_second}
    figures |= {"speed_ratio": mine.answers_per_second / theirs.answers_per_second}
    pairs = {
        name: (theirs.distributions[name], mine.distributions[name])
        for name in sorted(theirs.distributions.keys() & mine.distributions.keys())
    }
    found = {name: divergence(before, after) for name, (before, after) in pairs.items() if before and after}
    write_divergences(record["release"], found, folder)
    return figures | ({"parent_kl_divergence": sum(found.values()) / len(found)} if found else {})


def write_divergences(release: str, found: dict[str, float], folder: Path) -> None:
    """Samples beside the parent's own: they are of this release alone, which their source names."""
    import pyarrow.parquet

    known = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pydict()
    clusters = dict(zip(map(str, known["id"]), known["cluster"], strict=True)) if "cluster" in known else {}
    write_samples(
        folder / "parent" / DIVERGENCE,
        (
            Sample(name, clusters.get(name), f"divergence:{release}", "kl_divergence", nats)
            for name, nats in found.items()
        ),
    )


def agreement(folder: Path) -> float:
    """Share of all test rows that both answered alike."""
    import pandas

    mine, theirs = (
        pandas.read_parquet(path / "predictions.parquet").set_index("id")["answer"].astype(str)
        for path in (folder, folder / "parent")
    )
    return float((mine == theirs.reindex(mine.index)).mean())


def write_card(record: Metrics, parent: Metrics, config: RunConfig) -> str:
    """Markdown beside the release, not in it: the release's digest is older than these figures."""
    metrics = record["metrics"]
    shared = [(name, metrics[name], value) for name, value in parent["metrics"].items() if name in metrics]
    rows = [(name.replace("_", " "), mine, theirs, f"{mine - theirs:+.4f}") for name, mine, theirs in shared]
    rows.append(
        (
            "tokens per second",
            metrics["tokens_per_second"],
            metrics["parent_tokens_per_second"],
            f"x {metrics['speed_ratio']:.2f} (answers)",
        )
    )
    lines = [f"| {name} | {mine:.4g} | {theirs:.4g} | {change} |" for name, mine, theirs, change in rows]
    lines.append(
        f"| bytes of weights | {record['size_bytes']:,} | {parent['size_bytes']:,} | x {metrics['size_ratio']:.3f} |"
    )
    same = [f"- Answered alike: {metrics['parent_agreement']:.1%} of {record['n']} test rows."]
    if "parent_kl_divergence" in metrics:
        what = "first tokens (top 20, a lower bound)" if "exact_match" in metrics else "label probabilities"
        rows_probed, nats = min(PROBED_ROWS, record["n"]), metrics["parent_kl_divergence"]
        same.append(
            f"- KL divergence of the {what} from the parent's, mean of {rows_probed} drawn test rows: {nats:.4g} nats."
        )
    how = f"both through vLLM in one run, {config.evaluate.concurrency} requests in flight."
    return "\n".join(
        [
            f"# {record['release']}",
            "",
            f"Beside its own unquantized parent, {how}",
            "",
            "| | release | parent | change |",
            "|---|---|---|---|",
            *lines,
            "",
            *same,
            "",
        ]
    )
