"""Named entities in financial agreements (Salinas Alvarado et al. 2015), as the evals of OpenAI's package `evals` carry
them: texts and lists of entities."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

from configs.errors import InputError
from train.sources.source import Batch, Row, Source, packaged

SAMPLES = "evals/registry/data/ner_finance/samples.jsonl"
TYPES = {"PERSON": "PER", "ORGANIZATION": "ORG", "LOCATION": "LOC"}
WORD = re.compile(r"\w+|[^\w\s]")
ENTITY = re.compile(r"\s*(.*?) - (PERSON|ORGANIZATION|LOCATION)(?:,|$)")


def read_ner_finance() -> Source:
    """Words with BIO tags. A row whose entities cannot all be found in its text is left out and counted."""
    try:
        distribution = metadata.distribution("evals")
        lines = Path(str(distribution.locate_file(SAMPLES))).read_text(encoding="utf8").split("\n")
        samples = [json.loads(line) for line in lines if line]
        rows = [
            (number, tag_words(sample["input"][-1]["content"], sample["ideal"]))
            for number, sample in enumerate(samples, 1)
        ]
    except metadata.PackageNotFoundError:
        raise InputError("data.source ner_finance: package evals is not installed", hint="make setup") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"data.source ner_finance: {SAMPLES} is missing or unreadable ({error})", hint="make setup"
        ) from error
    aligned = [(number, {"id": f"ner-{number}"} | row) for number, row in rows if row is not None]
    batch = Batch(
        "ner_finance/samples.jsonl", "", [number for number, _ in aligned], [row for _, row in aligned], "ner"
    )
    return packaged(
        f"evals {distribution.version}: {SAMPLES}",
        "MIT (package), CC BY 3.0 (text)",
        [batch],
        {"entity_not_found": len(rows) - len(aligned)},
    )


def tag_words(text: str, ideal: str) -> Row | None:
    """Entities are listed in the order in which they stand in the text; None where one of them does not stand there."""
    words = WORD.findall(text)
    tags, start = ["O"] * len(words), 0
    for name, kind in entities_of(ideal):
        wanted = WORD.findall(name)
        at = find(words, wanted, tags, start)
        at = find(words, wanted, tags, 0) if at is None else at  # a few lists are out of order
        if at is None:
            return None
        start = at + len(wanted)
        tags[at:start] = [f"B-{TYPES[kind]}", *[f"I-{TYPES[kind]}"] * (len(wanted) - 1)]
    return {"tokens": words, "tags": tags}


def entities_of(ideal: str) -> list[tuple[str, str]]:
    """`[NAME - TYPE, NAME - TYPE]`; anything else lists none."""
    inner = ideal.strip().removeprefix("[").removesuffix("]") if ideal.strip().startswith("[") else ""
    return ENTITY.findall(inner)


def find(words: list[str], wanted: list[str], tags: list[str], start: int) -> int | None:
    """The first index at or after `start` where `wanted` stands and nothing is tagged yet."""
    starts = range(start, len(words) - len(wanted) + 1)
    return next(
        (
            at
            for at in starts
            if wanted and words[at : at + len(wanted)] == wanted and set(tags[at : at + len(wanted)]) == {"O"}
        ),
        None,
    )
