"""Quantize: how the merged weights are pruned and compressed, and what that work needs of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section

Scheme = Literal["none", "int8", "fp8", "w4a16", "adapter"]
GROUP_SIZES = (128, 64, 32)


class Prune(Section):
    """Weights set to zero before quantization. Zeros save no bytes and no time in vLLM 0.32.0, which has no sparse
    kernel: this is for study."""

    method: Literal["magnitude", "wanda", "sparsegpt"] = Field(
        "wanda",
        description="magnitude: smallest weights; wanda: weight times input norm (arXiv:2306.11695); "
        "sparsegpt: with weight update (arXiv:2301.00774)",
    )
    structure: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="2:4: two of each four neighbours along a row"
    )
    sparsity: float = Field(0.5, gt=0, lt=1, description="share of zeros in each pruned layer")
    recovery_steps: int = Field(
        0, ge=0, le=1_000_000, description="optimizer steps on the train rows after pruning, all weights but the zeros"
    )
    recovery_learning_rate: float = Field(1e-4, gt=0, le=1)

    @model_validator(mode="after")
    def structure_fits(self) -> Prune:
        if self.structure == "2:4" and self.sparsity != 0.5:
            raise ValueError("sparsity 0.5 with structure 2:4")
        if self.structure == "2:4" and self.method == "magnitude":
            raise ValueError("method wanda or sparsegpt with structure 2:4")
        return self


class Quantize(Section):
    """How the merged weights are compressed."""

    scheme: Scheme = Field(
        "int8",
        description="int8: W8A8, weights per channel, activations per token; fp8: the same in float8 e4m3; "
        "w4a16: 4-bit weights in groups; none; adapter: nothing is merged, base and adapter are served as they are. "
        "For a GPU by default fp8, or none for a BERT",
    )
    algorithm: Literal["rtn", "gptq", "awq"] = Field(
        "rtn",
        description="rtn: round to nearest, no data; gptq (arXiv:2210.17323): int8, w4a16; "
        "awq (arXiv:2306.00978): w4a16",
    )
    group_size: Literal[128, 64, 32] | None = Field(
        None, description="for w4a16; null: the largest that divides the input columns of every quantized layer"
    )
    smoothquant: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="for int8: share of the activations' range moved into the weights (arXiv:2211.10438)",
    )
    calibration_rows: int = Field(
        128,
        ge=1,
        le=100_000,
        description="rows of the train split that gptq, awq, smoothquant, wanda and sparsegpt look at",
    )
    calibration_seed: int = Field(17, ge=0, le=2**32 - 1)
    prune: Prune | None = None
    compare_parent: bool = Field(
        False,
        description="also evaluate the unquantized parent: agreement, KL divergence, size and speed, in eval/card.md",
    )

    @model_validator(mode="after")
    def algorithm_fits(self) -> Quantize:
        if self.algorithm == "awq" and self.scheme != "w4a16":
            raise ValueError("scheme w4a16 with algorithm awq")
        if self.algorithm == "gptq" and self.scheme not in {"int8", "w4a16"}:
            raise ValueError("scheme int8 or w4a16 with algorithm gptq")
        if self.group_size is not None and self.scheme != "w4a16":
            raise ValueError("scheme w4a16 with group_size")
        if self.smoothquant is not None and self.scheme != "int8":
            raise ValueError("scheme int8 with smoothquant")
        if self.prune is not None and self.scheme == "adapter":
            raise ValueError("no prune with scheme adapter: the base stays as it is")
        return self

    @property
    def needs_calibration(self) -> bool:
        return (
            self.algorithm != "rtn"
            or self.smoothquant is not None
            or (self.prune is not None and self.prune.method != "magnitude")
        )


def choose_group_size(columns: set[int], wanted: int | None) -> int:
    """The largest group size that divides every quantized layer's input columns. Raises ValueError, saying what would,
    where none or not `wanted` does."""
    fitting = [size for size in GROUP_SIZES if all(column % size == 0 for column in columns)]
    if wanted in fitting or (wanted is None and fitting):
        return wanted or fitting[0]
    found = " and ".join(str(column) for column in sorted(columns))
    if not fitting:
        raise ValueError(
            f"scheme int8: none of the group sizes 128, 64 and 32 of w4a16 divides the base's {found} input columns"
        )
    raise ValueError(
        f"group_size {' or '.join(map(str, fitting))}: {wanted} does not divide the base's {found} input columns"
    )
