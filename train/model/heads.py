"""The model of each task over given weights, with a new head where they lack one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.task import Problem, served_problem, served_task

# transformers chooses the loss by these (cross-entropy, BCE, MSE), and vLLM the activation (softmax, sigmoid, none):
# vllm/model_executor/layers/pooler/activations.py
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# vllm/model_executor/models/registry.py of vLLM 0.32.0: other architectures have no head for tokens there.
SERVED = (
    "BertForTokenClassification",
    "ModernBertForTokenClassification",
    "RobertaForTokenClassification",
    "XLMRobertaForTokenClassification",
)


class HeadConfig(TypedDict):
    """A head's size and the names of its outputs, as transformers' config takes them."""

    num_labels: int
    id2label: dict[int, str]
    label2id: dict[str, int]


def new_model(config: RunConfig, weights: Path, labels: list[str], dtype: Any = None, **quantization: Any) -> Any:
    """float32, unless `quantization` packs it; a language model's frozen weights may be of another torch `dtype`."""
    import torch
    from transformers import AutoModelForCausalLM

    if served_task(config.task) == "sequence-classification":
        return load_classifier(weights, labels, served_problem(config.task, config.problem), **quantization)
    if config.task == "token-classification":
        return load_tagger(weights, labels, **quantization)
    return AutoModelForCausalLM.from_pretrained(weights, dtype=dtype or torch.float32, **quantization)


def load_classifier(weights: Path, labels: list[str], problem: Problem = "single_label", **quantization: Any) -> Any:
    """float32, with a head of len(labels) classes, or of one output for a regression."""
    import torch
    from transformers import AutoModelForSequenceClassification

    outputs = ["value"] if problem == "regression" else labels
    return AutoModelForSequenceClassification.from_pretrained(
        weights, dtype=torch.float32, problem_type=PROBLEM_TYPES[problem], **named(outputs), **quantization
    )


def load_tagger(weights: Path, labels: list[str], **quantization: Any) -> Any:
    """float32. Raises RefusedError for an architecture whose tagger vLLM does not serve."""
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(
        weights, dtype=torch.float32, **named(labels), **quantization
    )
    if type(model).__name__ not in SERVED:
        raise RefusedError(
            f"{weights}: found a {type(model).__name__}, expected one that vLLM serves: {', '.join(SERVED)}",
            hint="give base another model",
        )
    return model


def named(outputs: list[str]) -> HeadConfig:
    names = dict(enumerate(outputs))
    return {"num_labels": len(names), "id2label": names, "label2id": {name: index for index, name in names.items()}}
