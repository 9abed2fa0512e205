"""From a text and its targets in characters to token ids and a loss mask."""

from __future__ import annotations

from typing import Any

Encoded = tuple[list[int], list[bool]]  # token ids, and for each whether it is a target
Spans = list[tuple[int, int]]  # [start, end) in characters, in their order


def encode_spans(tokenizer: Any, text: str, spans: Spans) -> Encoded:
    """Ids of `text`, without special tokens of the tokenizer's own, and which of them overlap a span; characters."""
    found = tokenizer.encode(text, add_special_tokens=False)
    cuts = [start for start, _ in spans if any(begin < start < end for begin, end in found.offsets)]
    if not cuts:
        return list(found.ids), mask_of(found.offsets, spans)
    ids: list[int] = []
    mask: list[bool] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        part = tokenizer.encode(text[start:end], add_special_tokens=False)
        ids += part.ids
        mask += mask_of([(begin + start, stop + start) for begin, stop in part.offsets], spans)
    return ids, mask


def mask_of(offsets: Spans, spans: Spans) -> list[bool]:
    """Both in order, so that one walk is enough."""
    mask, rest = [], iter([*spans, (1 << 62, 1 << 62)])
    start, end = next(rest)
    for begin, stop in offsets:
        while begin >= end:
            start, end = next(rest)
        mask.append(stop > start and stop > begin)
    return mask
