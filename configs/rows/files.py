"""`data.files` and its kin: paths, patterns and URLs of rows, and the format that a name's end tells."""

from __future__ import annotations

from glob import glob, has_magic
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from configs.section import must_exist, stay_inside

URL_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "https", "memory")
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
PACKED = (".gz", ".bz2", ".xz")


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
    if info.context and not glob(location, root_dir=info.context["root"], recursive=True):
        raise ValueError("a pattern that some file matches")
    return location


Location = Annotated[str, AfterValidator(check_location)]


def suffix_format(location: str) -> str | None:
    """jsonl, csv, parquet or arrow by the name's end, compression looked through."""
    for packed in PACKED:
        location = location.removesuffix(packed)
    return next((kind for suffix, kind in SUFFIXES.items() if location.endswith(suffix)), None)
