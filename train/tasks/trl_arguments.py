"""What every TRL trainer of a preference method is handed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.model.adapter import loading, lora_config, require_device
from train.model.dtype import base_dtype
from train.model.heads import new_model


def model_arguments(config: RunConfig, base: Path) -> dict[str, Any]:
    """Model, tokenizer and adapter, as every TRL trainer takes them. Raises RefusedError where the hardware cannot do
    the method."""
    require_device(config)
    model = new_model(config, base, [], base_dtype(config, base), **loading(config))
    return {
        "model": model,
        "processing_class": load_tokenizer(base),
        "peft_config": None if config.train.method == "full" else lora_config(config, model.new_layers),
    }


def padding_of(tokenizer: Any) -> int:
    """What fills a row up: masked everywhere, so any token will do."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
