"""Where a run's rows come from: a packaged set (BFCL, sentiment, named entities), files of one's own, or the hub."""

from __future__ import annotations

from collections.abc import Callable

from configs.run.config import RunConfig
from train.sources.bfcl import read_bfcl, read_bfcl_preferences
from train.sources.files import read_own_files
from train.sources.hub import read_hub
from train.sources.ner_finance import read_ner_finance
from train.sources.sentiment import read_sentiment
from train.sources.source import Source


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
