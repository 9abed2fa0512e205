"""BaseWeights: where the base weights come from, always by a name that cannot move."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from configs.digest import key_of
from configs.run.family import size_of, text_config
from configs.run.gguf import read_gguf_header
from configs.section import Section, must_exist, stay_inside

ROOTS = "TUNEGATE_BASES"  # folders outside the checkout from which bases may come, parted as in PATH

HUB_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
MLFLOW_PATTERN = r"^(models:/[^/@:\\]{1,200}/[0-9]{1,9}|runs:/[0-9a-f]{32}(/[A-Za-z0-9][A-Za-z0-9._-]*)+)$"


def allowed_roots() -> list[Path]:
    """Folders that this machine's own people opened for bases: TUNEGATE_BASES, and the lines of
    ~/.config/tunegate/bases. No YAML can: a merge request must not read what it likes of a runner."""
    listed = [root for root in os.environ.get(ROOTS, "").split(os.pathsep) if root]
    with suppress(OSError):
        listed += [line.strip() for line in roots_file().read_text(encoding="utf8").splitlines() if line.strip()]
    return [Path(root).expanduser().resolve() for root in listed if Path(root).expanduser().is_absolute()]


def roots_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "tunegate/bases"


def may_be_read(path: Path) -> bool:
    """Whether its real place, links followed, is in the checkout or below one of the allowed roots."""
    real = path.resolve()
    return any(real.is_relative_to(root) for root in (Path.cwd().resolve(), *allowed_roots()))


def check_place(path: str, info: ValidationInfo) -> str:
    """A path inside the checkout, or an absolute one below a root that this machine allows."""
    if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        stay_inside(path)
    if (PurePosixPath(path).is_absolute() or info.context) and not may_be_read(Path(path)):
        raise ValueError(
            "a path inside the checkout, or below a folder that this machine allows "
            f"(export {ROOTS}={PurePosixPath(path).parent if PurePosixPath(path).is_absolute() else '/FOLDER'}, "
            f"or a line in {roots_file()})"
        )
    return must_exist(path, info)


class BaseWeights(Section):
    """Where the base weights come from: exactly one of package, path, mlflow or hub. Safetensors (or a package's GGUF)
    only, remote code never."""

    package: str | None = Field(None, description="an installed Python package that carries the weights")
    path: Annotated[str, AfterValidator(check_place)] | None = Field(
        None,
        description="a directory of safetensors, config.json and tokenizer; in the checkout, or absolute below a "
        "folder that TUNEGATE_BASES or ~/.config/tunegate/bases lists on this machine",
    )
    mlflow: str | None = Field(
        None,
        pattern=MLFLOW_PATTERN,
        description="models:/NAME/VERSION or runs:/RUN_ID/PATH; an alias could move and is refused",
    )
    hub: str | None = Field(None, pattern=HUB_PATTERN, description="an id of the Hugging Face hub, OWNER/NAME")
    revision: str | None = Field(
        None, pattern=r"^[0-9a-f]{40}$", description="with hub: the commit, 40 hex digits; a branch or tag could move"
    )
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="refuse other bytes: the digest in build/base/NAME/manifest.json, of all its files",
    )

    add_tokens: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        description="new tokens of the tokenizer, as <call>; their rows of embedding and head are trained too",
    )

    @model_validator(mode="after")
    def tokens_are_sound(self) -> BaseWeights:
        if len(set(self.add_tokens)) < len(self.add_tokens) or not all(token.strip() for token in self.add_tokens):
            raise ValueError("add_tokens that are no blanks, each once")
        return self

    @model_validator(mode="after")
    def exactly_one(self) -> BaseWeights:
        if sum(value is not None for value in (self.package, self.path, self.mlflow, self.hub)) != 1:
            raise ValueError("exactly one of package, path, mlflow or hub")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub together with revision, a commit of 40 hex digits")
        return self

    @property
    def name(self) -> str:
        """What a manifest and a model card call it."""
        return re.sub(
            r"[^A-Za-z0-9._-]+",
            "-",
            self.package or PurePosixPath(self.path or "").name or self.mlflow or self.hub or "",
        )

    @property
    def folder(self) -> Path:
        """Where it is made. Directories of one name in two places are two bases, and so are two revisions."""
        place = PurePosixPath(self.path or self.name)
        elsewhere = key_of(str(place)).removeprefix("sha256:") if len(place.parts) > 1 else ""
        return Path("build/base") / "-".join(filter(None, (self.name, (self.revision or elsewhere)[:8])))

    @property
    def pin(self) -> str | None:
        """The name by which the far side never gives other bytes; None where bytes here must be looked at."""
        return f"{self.hub}@{self.revision}" if self.hub else self.mlflow


def input_columns(base: BaseWeights, root: Path) -> set[int] | None:
    """Input columns of the layers that quantization takes, as transformers names sizes; None where the base is not here
    to be read."""
    found = text_config(read_config(base, root) or {})
    sizes = {}
    for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
        with suppress(KeyError):
            sizes[name] = size_of(found, name)
    heads = sizes.pop("num_attention_heads", None)
    attention = found["head_dim"] * heads if found.get("head_dim") and heads else None
    return {int(size) for size in (*sizes.values(), attention) if size} or None


def read_config(base: BaseWeights, root: Path) -> dict[str, Any] | None:
    """The directory's or the package's own config.json, else that of the base made by an earlier run, else the
    package's GGUF header."""
    own = [root / base.path] if base.path else [file.parent for file in packaged(base.package, ".safetensors")]
    for folder in [*own, root / base.folder]:
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    headers = packaged(base.package, ".gguf")
    if not headers:
        return None
    try:
        return gguf_config(read_gguf_header(headers[0]))
    except (OSError, ValueError, KeyError):  # prepare says what is wrong with it
        return None


def packaged(package: str | None, ending: str) -> list[Path]:
    if package is None:
        return []
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return []
    return [
        Path(str(distribution.locate_file(file))) for file in distribution.files or [] if str(file).endswith(ending)
    ]


def gguf_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes in a GGUF file's metadata by their transformers names (ggml/docs/gguf.md)."""
    architecture = fields["general.architecture"]
    names = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "max_position_embeddings": "context_length",
        "final_logit_softcapping": "final_logit_softcapping",
    }
    found = {ours: fields.get(f"{architecture}.{theirs}") for ours, theirs in names.items()}
    return {name: value for name, value in found.items() if value is not None}
