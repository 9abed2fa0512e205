"""`data.files` and its kin: paths, patterns and URLs of rows, and the format that a name's end tells."""

from __future__ import annotations

import os
from glob import glob, has_magic
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo

from configs.section import must_exist, stay_inside

FileFormat = Literal["jsonl", "json", "csv", "tsv", "text", "parquet", "arrow"]
URL_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "https", "memory")
SUFFIXES: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
PACKED = (".gz", ".bz2", ".xz", ".zst")


def matches(location: str, root: Path | None = None) -> list[str]:
    """The local files that a path or pattern means, sorted, relative to `root`. A name that is there is that file,
    brackets and all."""
    if not has_magic(location) or os.path.exists(os.path.join(root or "", location)):
        return [location]
    return sorted(glob(location, root_dir=root, recursive=True))


def check_location(location: str, info: ValidationInfo) -> str:
    """A path or pattern inside the checkout, or a URL that fsspec reads. `file://` would leave the checkout, and so
    might a chain of URLs."""
    scheme, is_url, _ = location.partition("://")
    if is_url or "::" in location:
        if scheme not in URL_SCHEMES or "::" in location:
            raise ValueError(f"a path inside the checkout, or one URL of {', '.join(URL_SCHEMES)}")
        return location
    stay_inside(location)
    if not has_magic(location):
        return must_exist(location, info)
    if info.context and not matches(location, info.context["root"]):
        raise ValueError("a pattern that some file matches")
    return location


Location = Annotated[str, AfterValidator(check_location)]


def suffix_format(location: str) -> FileFormat | None:
    """The format by the name's end, in capitals too, compression looked through."""
    location = location.lower()
    for packed in PACKED:
        location = location.removesuffix(packed)
    return next((kind for suffix, kind in SUFFIXES.items() if location.endswith(suffix)), None)
