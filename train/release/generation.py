"""How a release's answers end and are drawn: its generation_config.json, which vLLM reads as its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.family import bending
from infra.files.atomic import read_json
from infra.tokenizer import read_tokenizer


def settle_generation(model: Any, tokenizer: Any) -> None:
    """Answers end at the end of a turn too, and nothing bends a greedy one: a penalty there would be vLLM's default for
    every request. What an application may draw by (temperature, top_p, top_k) stays."""
    settings = getattr(model, "generation_config", None)
    if settings is None or not model.can_generate():
        return
    for key in bending(settings.to_dict()):
        setattr(settings, key, None)
    settings.eos_token_id = end_ids(model, tokenizer)
    settings.pad_token_id = tokenizer.pad_token_id


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens at which an answer ends: the base's own, the tokenizer's, and what its chat template ends a turn with."""
    own = getattr(model.generation_config, "eos_token_id", None)
    template = read_tokenizer(Path(tokenizer.name_or_path)).end_ids
    known = own if isinstance(own, list) else [own]
    return sorted({token for token in [*known, tokenizer.eos_token_id, *template] if token is not None})


def taken_out(base: Path) -> dict[str, Any]:
    """What of the base's generation_config.json no release of it holds."""
    return bending(read_json(base / "generation_config.json") or {})
