"""Quantize: how the merged weights are compressed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class Quantize(Section):
    """How the merged weights are compressed."""

    scheme: Literal["int8", "none"] = Field("int8", description="int8: W8A8, weights per channel, activations per token")
    compare_parent: bool = Field(False, description="also evaluate the unquantized parent, for the model card and the `quantization` figures")
