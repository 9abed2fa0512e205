"""BaseWeights: where the base weights come from, always by a name that cannot move."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pydantic import Field, model_validator

from configs.section import ExistingPath, Section

HUB_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
MLFLOW_PATTERN = r"^(models:/[^/@:\\]{1,200}/[0-9]{1,9}|runs:/[0-9a-f]{32}(/[A-Za-z0-9][A-Za-z0-9._-]*)+)$"


class BaseWeights(Section):
    """Where the base weights come from: exactly one of package, path, mlflow or hub. Safetensors (or a package's GGUF) only, remote code never."""

    package: str | None = Field(None, description="an installed Python package that carries the weights")
    path: ExistingPath | None = Field(None, description="a directory of safetensors, config.json and tokenizer")
    mlflow: str | None = Field(None, pattern=MLFLOW_PATTERN, description="models:/NAME/VERSION or runs:/RUN_ID/PATH; an alias could move and is refused")
    hub: str | None = Field(None, pattern=HUB_PATTERN, description="an id of the Hugging Face hub, OWNER/NAME")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="with hub: the commit, 40 hex digits; a branch or tag could move")
    digest: str | None = Field(
        None, pattern=r"^sha256:[0-9a-f]{64}$", description="refuse other bytes: the digest in build/base/NAME/manifest.json, of all its files"
    )

    @model_validator(mode="after")
    def exactly_one(self) -> BaseWeights:
        if sum(value is not None for value in (self.package, self.path, self.mlflow, self.hub)) != 1:
            raise ValueError("exactly one of package, path, mlflow or hub")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub together with revision, a commit of 40 hex digits")
        return self

    @property
    def name(self) -> str:
        """Names build/base/NAME."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.package or PurePosixPath(self.path or "").name or self.mlflow or self.hub or "")

    @property
    def pin(self) -> str | None:
        """The name by which the far side never gives other bytes; None where bytes here must be looked at."""
        return f"{self.hub}@{self.revision}" if self.hub else self.mlflow
