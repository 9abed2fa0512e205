"""BaseWeights: where the base weights come from."""

from __future__ import annotations

from pydantic import Field, model_validator

from configs.section import ExistingPath, Section


class BaseWeights(Section):
    """Where the base weights come from: an installed package that carries them, or a directory."""

    package: str | None = Field(None, description="an installed Python package that carries the weights")
    path: ExistingPath | None = Field(None, description="a directory of safetensors and tokenizer")

    @model_validator(mode="after")
    def exactly_one(self) -> BaseWeights:
        if (self.package is None) == (self.path is None):
            raise ValueError("exactly one of package or path")
        return self
