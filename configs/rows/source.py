"""Where rows lie and how they are spelled: the keys that `data:` and each part of `data.mix` share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from configs.rows.files import PACKED, SUFFIXES, FileFormat, Location, suffix_format
from configs.rows.template import Template
from configs.section import NAME_PATTERN, Section


def check_format(found: object) -> object:
    """`format` was the files' format before it named the shape of a row."""
    if found in ("jsonl", "csv", "parquet", "arrow"):
        raise ValueError(
            f"openai, sharegpt, alpaca, trl or squad; the format of a file is a renamed key, file_format: {found}"
        )
    return found


RowFormat = Annotated[Literal["openai", "sharegpt", "alpaca", "trl", "squad"], BeforeValidator(check_format)]


class HubSplits(Section):
    """Names of a hub set's splits, for split.method given."""

    train: str = "train"
    validation: str = "validation"
    test: str = "test"


class RowSource(Section):
    """Where rows lie, and how a file spells them."""

    files: list[Location] = Field(
        default_factory=list,
        description="for source files: paths, patterns or URLs; with split.method given, the train rows",
    )
    file_format: FileFormat | None = Field(
        None, description="of the files; default: by suffix. text: a row a line, as field text"
    )
    hub_id: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$", description="for source hub")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="for source hub: the commit")
    hub_config: str | None = Field(
        None, description="for source hub: which of its configurations (subsets) is read; default: the only one"
    )
    hub_split: str | HubSplits = Field(
        "train",
        description="for source hub: which of its splits is read, and data.split drawn from it; "
        "with split.method given the names of all three, as {train: train, validation: dev, test: test}",
    )
    format: RowFormat | None = Field(
        None, description="how a row is spelled, where it is not as tunegate's own: the shape that a peer names so"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our field: your column, as in text: review_body")
    template: Template | None = Field(
        None, description="makes the conversation (or prompt and completion) of a row's columns"
    )

    def source_rules(self, source: str) -> dict[str, bool]:
        """What is expected, and whether it is so; `source` says which keys must be there."""
        own = source in ("files", "hub")
        return {
            "files exactly when source is files": (source == "files") == bool(self.files),
            "hub_id and revision exactly when source is hub": [self.hub_id is not None, self.revision is not None]
            == [source == "hub"] * 2,
            "hub_config and hub_split only with source hub": source == "hub"
            or (self.hub_config, self.hub_split) == (None, "train"),
            "columns, template, format and file_format only with source files or hub": own
            or not (self.columns or self.template or self.format or self.file_format),
            "format or template, not both": not (self.format and self.template),
            ends_expected(): self.file_format is not None or all(map(suffix_format, self.files)),
        }


def ends_expected() -> str:
    return f"files that end in {', '.join(SUFFIXES)} (also with {', '.join(PACKED)}), or file_format"


class MixPart(RowSource):
    """One source of `data.mix`, in its own shape."""

    name: str = Field(pattern=NAME_PATTERN, description="the value of the column source, and its name in the data card")
    source: Literal["files", "hub"] = "files"
    weight: float | None = Field(
        None,
        gt=0,
        description="its share of the rows, relative to the other parts' weights; no row is read twice, so the part "
        "that is used up first bounds all. Without weights all rows of all parts are read",
    )
