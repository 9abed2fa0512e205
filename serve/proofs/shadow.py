"""The shadow: what users ask of the old release is asked at the new one too; its answers are compared and thrown away.
Nobody waits for it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, TypedDict

from configs.environment.sampling import Shadow
from configs.errors import InconclusiveError, InputError, RefusedError
from configs.slots import SlotName, other
from infra.vllm.sampling import read_answer, sampling_of

if TYPE_CHECKING:
    import httpx

    from serve.record.environment import Environment

POLL_SECONDS = 0.1
LONGEST_SECONDS = 120.0
Row = dict[str, Any]  # JSON of a user's request, or of an answer to it


class ShadowFacts(TypedDict, total=False):
    """The proof's own facts. `exact`, `token_f1`: means over those `compared`; `latency_ratio`: of medians, new by
    old."""

    asked: int
    failed: int
    skipped: int
    compared: int
    error_rate: float
    exact: float
    token_f1: float
    latency_ratio: float


@dataclass(frozen=True)
class Pair:
    """One question asked of both. `exact` and `token_f1` are None where the answers are not to be compared: drawn by
    chance, or of an unknown shape."""

    ok: bool
    old_seconds: float
    new_seconds: float
    exact: float | None = None
    token_f1: float | None = None


def run(env: Environment, slot: SlotName, seconds: float | None = None, share: float | None = None) -> ShadowFacts:
    """Facts of the comparison. Raises RefusedError below a bound of `shadow:`, InconclusiveError where too few asked,
    InputError without sampling.

    Only what the redaction left as it was is asked: another question would have another answer.
    """
    settings, sampled = env.config.shadow or Shadow(), sampling_of(env.config, other(slot))
    if sampled is None:
        raise InputError(
            f"{env.config.name}: nothing is sampled, so there is nothing to ask",
            hint="shadow: {share: 0.1}, then deploy",
        )
    chosen = min(1.0, (share or settings.share) / sampled["share"])
    rows = follow(Path(sampled["folder"]), other(slot), settings.seconds if seconds is None else seconds)
    pairs, skipped = ask_all(rows, env.server_url(env.record.state(), slot), chosen, settings.concurrency)
    facts = summarise(pairs)
    facts["skipped"] = skipped
    check_bounds(facts, settings, env.config.name)
    return facts


def follow(folder: Path, slot: str, seconds: float) -> Iterator[Row]:
    """Rows that `slot` writes from now on, for so many seconds; a line that is still being written is read at the next
    look."""
    places = {
        path: path.stat().st_size for path in folder.glob(f"{slot}-*.jsonl")
    }  # "now" is the call, not the first row that is asked for
    return grown(folder, slot, places, time.monotonic() + seconds)


def grown(folder: Path, slot: str, places: dict[Path, int], deadline: float) -> Iterator[Row]:
    while True:
        ended = time.monotonic() >= deadline
        for path in sorted(folder.glob(f"{slot}-*.jsonl")):
            try:
                with path.open("rb") as stream:
                    stream.seek(places.get(path, 0))
                    whole = stream.read().rpartition(b"\n")[0]
            except FileNotFoundError:  # the oldest one goes when a new one begins
                continue
            places[path] = places.get(path, 0) + len(whole) + bool(whole)
            yield from (json.loads(line) for line in whole.split(b"\n") if line)
        if ended:
            return
        time.sleep(POLL_SECONDS)


def ask_all(rows: Iterator[Row], base_url: str, share: float, concurrency: int) -> tuple[list[Pair], int]:
    """Pairs, and how many questions were not asked: redacted, refused by the old release too, or too many for the new
    one to keep up with."""
    import httpx

    skipped = 0
    with (
        httpx.Client(base_url=base_url, timeout=LONGEST_SECONDS, verify=False) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        waiting: list[Future[Pair]] = []
        for row in rows:
            if random.random() >= share:
                continue
            busy = sum(not one.done() for one in waiting) >= 4 * concurrency
            if row["redactions"] or row["status"] != 200 or busy:
                skipped += 1
                continue
            waiting.append(pool.submit(ask, client, row))
        return [one.result() for one in waiting], skipped


def ask(client: httpx.Client, row: Row) -> Pair:
    import httpx

    started = time.perf_counter()
    try:
        reply = client.post(row["path"], json=row["body"])
        seconds = time.perf_counter() - started
        answer = read_answer(reply.text) if reply.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return Pair(False, row["seconds"], time.perf_counter() - started)
    if answer is None:
        return Pair(False, row["seconds"], seconds)
    return Pair(True, row["seconds"], seconds, *compare(row["body"], row["answer"], answer))


def compare(body: Row, old: Row, new: Row) -> tuple[float | None, float | None]:
    """Exact agreement and token F1 (SQuAD's, Rajpurkar et al. 2016), both in [0, 1]. A classifier's or tagger's are
    those of its labels."""
    if "json" in old and "json" in new:
        ours, theirs = labels_of(new["json"]), labels_of(old["json"])
        share = fmean(one == other for one, other in zip(ours, theirs, strict=False)) if ours and theirs else None
        return share, share
    # vLLM draws by chance unless temperature says otherwise.
    if "text" not in old or "text" not in new or body.get("temperature") != 0:
        return None, None
    return float(old["text"].strip() == new["text"].strip()), token_f1(old["text"], new["text"])


def token_f1(one: str, other: str) -> float:
    words, others = Counter(one.split()), Counter(other.split())
    total = words.total() + others.total()
    return 2 * (words & others).total() / total if total else 1.0


def labels_of(reply: Row) -> list[int]:
    """The likeliest class of each text, of each token of a tagger. Empty for anything else, an embedding say."""
    rows = reply.get("data") or []
    probs = [row["probs"] for row in rows if "probs" in row] or [
        token for row in rows for token in row.get("data") or [] if isinstance(token, list)
    ]
    return [max(range(len(one)), key=one.__getitem__) for one in probs if one]


def summarise(pairs: list[Pair]) -> ShadowFacts:
    good = [pair for pair in pairs if pair.ok]
    compared = [pair for pair in good if pair.exact is not None]
    facts: ShadowFacts = {"asked": len(pairs), "failed": len(pairs) - len(good), "compared": len(compared)}
    if pairs:
        facts["error_rate"] = facts["failed"] / len(pairs)
    if compared:
        facts["exact"] = round(fmean(pair.exact or 0.0 for pair in compared), 4)
        facts["token_f1"] = round(fmean(pair.token_f1 or 0.0 for pair in compared), 4)
    if good and (old := median(pair.old_seconds for pair in good)):
        facts["latency_ratio"] = round(median(pair.new_seconds for pair in good) / old, 3)
    return facts


def check_bounds(facts: ShadowFacts, settings: Shadow, name: str) -> None:
    """Too few requests prove nothing; a bound on agreement that nobody stated is not asked for."""
    enough("asked", facts["asked"], settings, name)
    if facts["error_rate"] > settings.maximum_error_rate:
        words = f"the shadow's error rate is {facts['error_rate']:.1%} of {facts['asked']}"
        raise RefusedError(
            f"{words}, expected at most {settings.maximum_error_rate:.1%}", hint=f"tunegate status {name}"
        )
    if not settings.minimum_agreement:
        return
    enough("compared", facts["compared"], settings, name)
    if facts[settings.agreement] < settings.minimum_agreement:
        found = f"{settings.agreement} {facts[settings.agreement]:.3f} on {facts['compared']} requests"
        words = f"the shadow's answers agree by {found}"
        raise RefusedError(f"{words}, expected at least {settings.minimum_agreement:g}", hint=f"tunegate status {name}")


def enough(what: str, count: int, settings: Shadow, name: str) -> None:
    if count < settings.minimum_requests:
        least = f"at least {settings.minimum_requests} are needed (of texts only temperature 0 is compared)"
        words = f"the shadow {what} {count} requests, {least}"
        raise InconclusiveError(words, hint=f"tunegate status {name}   (shadow.seconds, shadow.share)")
