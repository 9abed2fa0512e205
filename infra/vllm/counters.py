"""What one slot has counted since its server started: vLLM's /metrics, read through its Prometheus text, and what our
middleware in it sums up by how alike requests are. Differences of two readings are a window."""

from __future__ import annotations

from typing import Any, TypedDict, cast

from pydantic import Field

from configs.section import Section
from infra.vllm.strata import COLUMNS, PATH, Strata

# Per request, not per token: the tokens of one answer are no independent observations.
HISTOGRAMS = {
    "first": "vllm:time_to_first_token_seconds", "per_token": "vllm:request_time_per_output_token_seconds",
    "lengths": "vllm:request_generation_tokens",
}  # fmt: skip
FINISHED = "vllm:request_success_total"
PROGRESS = (f"{FINISHED}{{", "vllm:generation_tokens_total{", "vllm:prompt_tokens_total{")
NO_ANSWER = ("abort", "error")
READ_SECONDS = 3.0


class Histogram(Section):
    """`counts[i]` observations lie above `edges[i - 1]` and at most at `edges[i]`; one more count than edges, for what
    lies above them all."""

    edges: list[float]
    counts: list[int]
    total: float = Field(description="sum of all observations, exact")

    @property
    def n(self) -> int:
        return sum(self.counts)

    def at_most(self, edge: float) -> int:
        return sum(count for upper, count in zip(self.edges, self.counts, strict=False) if upper <= edge)

    def quantile(self, share: float) -> float | None:
        """As Prometheus' histogram_quantile: linear within a bucket, the highest edge for what lies above them all.
        None of no observation."""
        rank, low = share * self.n, 0.0
        for high, count in zip(self.edges, self.counts, strict=False):
            if count and rank <= count:
                return min(high, low + (high - low) * rank / count)  # which rounding may put above
            rank, low = rank - count, high
        return low if self.n and self.edges else None


class Counted(Section):
    """Requests and failures as the router counts them, `strata` as our middleware does, the rest as vLLM; None where
    there is no such figure (a classifier has no tokens).

    `strata` or `answers` is None where the server was not read: a window that begins or ends there holds nothing of it.
    """

    requests: int = 0
    failed: int = Field(0, description="answered 5xx, refused, broken off or cut")
    strata: Strata | None = Field(None, description="users' requests alone, by how alike they are")
    answers: int | None = None
    truncated: int = Field(0, description="ended at max_tokens")
    first: Histogram | None = Field(None, description="seconds to the first token")
    per_token: Histogram | None = Field(None, description="seconds a token after the first, mean of each answer")
    lengths: Histogram | None = Field(None, description="tokens of each answer")


class ServedCounts(TypedDict, total=False):
    """The half of `Counted` that vLLM says; empty where it says nothing."""

    answers: int
    truncated: int
    first: Histogram
    per_token: Histogram
    lengths: Histogram


def read_metrics(*base_urls: str) -> ServedCounts:
    """What `Counted` takes from vLLM, of all these servers together. Empty where one does not answer: what was not read
    is not judged."""
    import httpx

    texts = []
    for base_url in base_urls:
        try:
            reply = httpx.get(
                f"{base_url}/metrics", timeout=READ_SECONDS, verify=False
            )  # loopback; reading certificates would take 30 ms each time
        except httpx.HTTPError:
            return {}
        if reply.status_code != 200:
            return {}
        texts.append(reply.text)
    return parse("\n".join(texts))


def read_strata(slot: str, *base_urls: str) -> Strata | None:
    """What the slot's servers together say of their users' requests. None where one does not answer, or was started by
    a tunegate that did not sum them up."""
    import httpx

    found: Strata = {}
    for base_url in base_urls:
        try:
            reply = httpx.get(f"{base_url}{PATH}", timeout=READ_SECONDS, verify=False)
            one = reply.json() if reply.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
        if not isinstance(one, dict):
            return None
        found = sum_of(found, one.get(slot, {}))
    return found


def sum_of(one: Strata, other: Strata, sign: int = 1) -> Strata:
    """`sign` -1: the one less the other. A stratum without a request is left out."""
    nothing = [0.0] * len(COLUMNS)
    rows = {
        name: [a + sign * b for a, b in zip(one.get(name, nothing), other.get(name, nothing), strict=True)]
        for name in sorted({*one, *other})
    }
    return {name: row for name, row in rows.items() if row[0]}


def read_progress(base_url: str) -> int | None:
    """Grows as long as the server gets anywhere: tokens read and written, and requests finished, those that their
    clients gave up excepted. None where it does not say.

    Finished requests alone would call a server hung that writes long answers. Reads these lines alone, for it is asked
    often.
    """
    import httpx

    try:
        reply = httpx.get(f"{base_url}/metrics", timeout=READ_SECONDS, verify=False)
    except httpx.HTTPError:
        return None
    lines = [line for line in reply.text.splitlines() if line.startswith(PROGRESS)]
    counts = [float(line.rpartition(" ")[2]) for line in lines if 'finished_reason="abort"' not in line]
    return int(sum(counts)) if counts else None


def parse(text: str) -> ServedCounts:
    """Sums over all engines of the server. Empty for what is no Prometheus text."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return {}
    found = {key: one for key, name in HISTOGRAMS.items() if (one := histogram(samples, name)) is not None}
    ends = [(sample.labels.get("finished_reason"), int(sample.value)) for sample in samples if sample.name == FINISHED]
    answers = sum(count for reason, count in ends if reason not in NO_ANSWER)
    if not found and not ends:
        return {}
    truncated = sum(count for reason, count in ends if reason == "length")
    return cast("ServedCounts", found | {"answers": answers, "truncated": truncated})


def histogram(samples: list[Any], name: str) -> Histogram | None:
    cumulative: dict[float, int] = {}
    for sample in samples:
        if sample.name == f"{name}_bucket":
            edge = float(sample.labels["le"])
            cumulative[edge] = cumulative.get(edge, 0) + int(sample.value)
    edges = sorted(cumulative)
    if not edges:
        return None
    counts = [cumulative[edge] - (cumulative[edges[place - 1]] if place else 0) for place, edge in enumerate(edges)]
    return Histogram(
        edges=edges[:-1],
        counts=counts,
        total=sum(float(sample.value) for sample in samples if sample.name == f"{name}_sum"),
    )


def between(earlier: Counted, later: Counted) -> Counted:
    """What was counted from one reading to the other; a half that went backwards has begun anew, as after a restart,
    and stands as it is."""
    router = {name: getattr(later, name) - getattr(earlier, name) for name in ("requests", "failed")}
    if min(router.values()) < 0:
        router = {"requests": later.requests, "failed": later.failed}
    return Counted(**router, strata=strata_between(earlier.strata, later.strata), **served_between(earlier, later))


def strata_between(earlier: Strata | None, later: Strata | None) -> Strata | None:
    if earlier is None or later is None:
        return None
    grown = sum_of(later, earlier, -1)
    return later if any(row[0] < 0 for row in grown.values()) else grown


def served_between(earlier: Counted, later: Counted) -> ServedCounts:
    if earlier.answers is None or later.answers is None:
        return {}
    counts = {"answers": later.answers - earlier.answers, "truncated": later.truncated - earlier.truncated}
    grown = {name: growth(getattr(earlier, name), getattr(later, name)) for name in HISTOGRAMS}
    anew = min(counts.values()) < 0 or any(one is None for name, one in grown.items() if getattr(later, name))
    return cast("ServedCounts", later.model_dump(exclude={"requests", "failed", "strata"}) if anew else counts | grown)


def growth(earlier: Histogram | None, later: Histogram | None) -> Histogram | None:
    """None where it shrank: that is another server's."""
    if earlier is None or later is None:
        return later
    if earlier.edges != later.edges:
        return None
    counts = [after - before for before, after in zip(earlier.counts, later.counts, strict=True)]
    return (
        None
        if min(counts) < 0
        else Histogram(edges=later.edges, counts=counts, total=max(0.0, later.total - earlier.total))
    )
