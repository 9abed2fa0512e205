"""The model of each task over given weights, with a new head where they lack one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict

from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.run.family import BLOCK, HEADS, TEXT_PARTS, true_attention
from configs.task import Problem, served_problem, served_task
from infra.files.atomic import read_json
from infra.tokenizer import load_tokenizer
from train.layers.ranks import as_rank_0

# transformers chooses the loss by these (cross-entropy, BCE, MSE), and vLLM the activation (softmax, sigmoid, none):
# vllm/model_executor/layers/pooler/activations.py
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# The text model's names in a checkpoint of one that also sees, to its own (transformers, modeling_gemma3.py).
TEXT_NAMES = {r"^(model\.)?language_model\.(model\.)?": "model."}


class HeadConfig(TypedDict):
    """A head's size and the names of its outputs, as transformers' config takes them."""

    num_labels: int
    id2label: dict[int, str]
    label2id: dict[str, int]


def new_model(config: RunConfig, weights: Path, labels: list[str], dtype: Any = None, **loading: Any) -> Any:
    """In float32 or another torch `dtype`, on the CPU unless `loading`, keywords of transformers' from_pretrained, says
    otherwise (train/model/adapter.py:loading).

    Raises RefusedError where vLLM serves no such model for the task, or the weights lack a part of the model itself.
    """
    from transformers import AutoModelForCausalLM

    require_served(config, weights)
    if served_task(config.task) == "sequence-classification":
        return load_classifier(weights, labels, served_problem(config.task, config.problem), dtype, **loading)
    if config.task == "token-classification":
        return load_tagger(weights, labels, dtype, **loading)
    model = load(AutoModelForCausalLM, weights, dtype=dtype, **loading)
    if model.new_layers:
        raise RefusedError(
            f"{weights}: found no weights of {', '.join(model.new_layers)}, expected those of a whole language model",
            hint="give base a model that was saved with its head",
        )
    return model


def require_served(config: RunConfig, weights: Path) -> None:
    """What `check` says of a base that is here, for one that was fetched after it. Raises RefusedError."""
    if reason := config.base_refusal(read_json(weights / "config.json")):
        raise RefusedError(f"{weights}: expected {reason}", hint="give base another model")


def load_classifier(
    weights: Path, labels: list[str], problem: Problem = "single_label", dtype: Any = None, **loading: Any
) -> Any:
    """With a head of len(labels) classes, or of one output for a regression."""
    from transformers import AutoModelForSequenceClassification

    outputs = ["value"] if problem == "regression" else labels
    named_outputs: dict[str, Any] = {"problem_type": PROBLEM_TYPES[problem], **named(outputs)}
    return load(AutoModelForSequenceClassification, weights, named_outputs, dtype, **loading)


def load_tagger(weights: Path, labels: list[str], dtype: Any = None, **loading: Any) -> Any:
    from transformers import AutoModelForTokenClassification

    return load(AutoModelForTokenClassification, weights, {**named(labels)}, dtype, **loading)


def load(kind: Any, weights: Path, outputs: dict[str, Any] | None = None, dtype: Any = None, **loading: Any) -> Any:
    """`kind`: a class of transformers' Auto. The model's `new_layers` are those whose weights were drawn: they must be
    trained and saved.

    A head of another size is drawn anew. Raises RefusedError where a part of the model itself would be.
    """
    import torch
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(weights, **(outputs or {}))
    names = {}
    if shape.model_type in TEXT_PARTS:
        shape, names = shape.get_text_config(), {"key_mapping": TEXT_NAMES}
        shape.update(outputs or {})
    source: Path | None = weights
    if "state_dict" in loading:  # transformers takes no folder beside it, and its Auto classes none but a folder
        with torch.device("meta"):
            kind, source = type(kind.from_config(shape)), None
    model, found = kind.from_pretrained(
        source,
        config=shape,
        dtype=dtype or torch.float32,
        attn_implementation=true_attention(shape.to_dict()),
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **names,
        **loading,
    )
    if names:
        model._weight_conversions = None  # saved by its own names: transformers would write back the whole's
    drawn = as_rank_0([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])])
    model.new_layers = outermost({name.rpartition(".")[0] for name in drawn})
    if lacking := [name for name in model.new_layers if BLOCK.search(f".{name}.") or "embed" in name]:
        raise RefusedError(
            f"{weights}: found {len(drawn)} tensors of {type(model).__name__} missing or of another size, among them "
            f"{lacking[0]}; expected all but a head",
            hint="give base weights that were saved whole, of this very architecture",
        )
    use_padding(model, weights)
    return model


def outermost(names: set[str]) -> list[str]:
    """Without those that lie in another of them, or in a task's head, which is trained whole anyway."""
    found = {name for name in names if not any(name.startswith(f"{other}.") for other in names)}
    return sorted(name for name in found if not re.fullmatch(HEADS, name))


def use_padding(model: Any, weights: Path) -> None:
    """The tokenizer's padding token in the model's config where there is none: by it transformers finds the last token
    of a decoder's text."""
    if model.config.pad_token_id is not None:
        return
    padding = load_tokenizer(weights).pad_token_id
    model.config.pad_token_id = padding
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = padding


def named(outputs: list[str]) -> HeadConfig:
    names = dict(enumerate(outputs))
    return {"num_labels": len(names), "id2label": names, "label2id": {name: index for index, name in names.items()}}
