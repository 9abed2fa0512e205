"""What every config is made of: strict sections, and paths that stay inside the checkout."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

JsonObject = dict[str, Any]  # of a shape that is not ours: a user's schema, the body of a request, a YAML as it is read
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def stay_inside(path: str) -> str:
    """Refuses absolute paths and `..`: a config names only files of its own checkout."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("a path inside the checkout, relative, without '..'")
    return path


def lead_nowhere_else(path: str) -> str:
    """A folder of the checkout, or any by its absolute path; `..` would hide which."""
    if ".." in PurePosixPath(path).parts or not path:
        raise ValueError("a folder inside the checkout, or an absolute path, without '..'")
    return path


def must_exist(path: str, info: ValidationInfo) -> str:
    """Looks only when the loader passes the checkout's root: a manifest's copy is not looked up again."""
    if info.context and not os.path.exists(
        info.context["root"] / path
    ):  # which, unlike Path.exists, takes a name too long for no
        raise ValueError("a file or folder that exists")
    return path


InsidePath = Annotated[str, AfterValidator(stay_inside)]
ExistingPath = Annotated[InsidePath, AfterValidator(must_exist)]
FolderPath = Annotated[str, AfterValidator(lead_nowhere_else)]


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant; None where none is near. `cutoff`: difflib's ratio, 1 for equal names."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


class Section(BaseModel):
    """Unknown keys are refused; values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
