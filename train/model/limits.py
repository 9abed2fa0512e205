"""What a base's own files say that it cannot do, before anything is loaded: tokens that its embedding lacks, rows
longer than it has positions. Headers and JSON alone, no torch."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import InputError
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from configs.run.family import size_of, text_config, true_attention
from infra.files.atomic import read_json
from train.model.base_files import weight_files
from train.model.find_base import find_weights
from train.model.tensors import read_shapes

EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|word_embeddings|wte|embed_in|tok_embeddings|shared)\.weight")
# Tokens that stand for what is no text: text-only members of such families have no row for them (Gemma 3 1B).
NO_TEXT = re.compile(r"image|audio|video|vision", re.IGNORECASE)
# vLLM takes the smallest of these (vllm/transformers_utils/model_arch_config_convertor.py).
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "model_max_length",
)
# Their positions are counted from padding_idx + 1 (transformers, create_position_ids_from_input_ids).
OFFSET = re.compile(r"(xlm-)?roberta.*|camembert|data2vec-text|ibert|luke|longformer|mpnet|xmod")
SCALED = ("linear", "dynamic")  # the other kinds of rope scaling state the length that they were scaled to


class Limit(NamedTuple):
    """`key` of the YAML: what was found, what was expected."""

    key: str
    found: str
    expected: str


def refuse_beyond_limits(config: RunConfig, directory: Path) -> None:
    """Raises InputError with every limit of the base that the run goes beyond."""
    limits = limits_of(config, directory)
    if limits:
        lines = "\n".join(f"  {one.key}: found {one.found}, expected {one.expected}" for one in limits)
        raise InputError(f"{directory}: the base cannot do what the run asks\n{lines}", hint="tunegate check CONFIG")


def limits_here(config: RunConfig) -> list[Limit]:
    """Of the base where it lies on this machine; none where it would have to be fetched first. Raises what
    `find_weights` raises."""
    directory = directory_here(config.base)
    return limits_of(config, directory) if directory else []


def directory_here(base: BaseWeights) -> Path | None:
    made = base.folder
    if base.path or (base.package and is_installed(base.package)):
        source = find_weights(base, made).source
        if source.suffix != ".gguf":
            return source
    return made if (made / "config.json").exists() else None


def is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def limits_of(config: RunConfig, directory: Path) -> list[Limit]:
    architecture = text_config(read_json(directory / "config.json") or {})
    limits = limits_of_tokens(architecture, directory)
    if config.train.attention == "sdpa" and true_attention(architecture):
        limits.append(Limit("train.attention", "sdpa, which leaves out the base's cap on the scores", "auto or eager"))
    limits += limits_of_split(architecture, config.serving.tensor_parallel_size)
    positions = positions_of(architecture, read_json(directory / "tokenizer_config.json") or {})
    wanted = {"data.max_tokens": config.data.max_tokens, "serving.max_model_len": config.serving.max_model_len}
    return limits + [
        Limit(key, str(length), f"at most {positions}, the positions that the base has")
        for key, length in wanted.items()
        if positions is not None and length > positions
    ]


def limits_of_split(architecture: dict[str, Any], split: int) -> list[Limit]:
    """vLLM gives each of the processes as many heads (vllm/config/model.py, verify_with_parallel_config)."""
    try:
        heads = size_of(architecture, "num_attention_heads")
    except KeyError:
        return []
    expected = f"a divisor of {heads}, the base's attention heads"
    return [Limit("serving.tensor_parallel_size", str(split), expected)] if heads % split else []


def limits_of_tokens(architecture: dict[str, Any], directory: Path) -> list[Limit]:
    stated, rows = architecture.get("vocab_size"), embedding_rows(directory)
    if rows is not None and isinstance(stated, int) and stated != rows:
        return [Limit("base", f"an embedding of {rows} rows and vocab_size {stated} in config.json", "as many")]
    size = rows if rows is not None else stated
    beyond = tokens_beyond(directory, size) if isinstance(size, int) else []
    if not beyond:
        return []
    shown = ", ".join(f"{token!r} ({number})" for token, number in beyond[:3])
    rest = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
    expected = (
        f"token ids below {size}, the rows of its embedding: take them out of tokenizer.json, or make the "
        "embedding larger (model.resize_token_embeddings(len(tokenizer)), then save_pretrained)"
    )
    return [Limit("base", f"tokens that the base has no embedding for: {shown}{rest}", expected)]


def embedding_rows(directory: Path) -> int | None:
    """None where no tensor has a name that a token embedding goes by."""
    try:
        shapes = [read_shapes(file) for file in weight_files(directory) if file.exists()]
    except ValueError:
        return None
    found = [
        shape[0] for file in shapes for name, shape in file.items() if EMBEDDING.fullmatch(name) and len(shape) == 2
    ]
    return max(found, default=None)


def tokens_beyond(directory: Path, size: int) -> list[tuple[str, int]]:
    """Tokens of tokenizer.json, by number, that `size` rows do not hold."""
    try:
        page = json.loads((directory / "tokenizer.json").read_text(encoding="utf8"))
        vocabulary = page["model"].get("vocab") or {}
        added = {token["content"]: int(token["id"]) for token in page.get("added_tokens") or []}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    if isinstance(vocabulary, list):  # Unigram: pieces with their scores, by number
        vocabulary = {str(piece[0]): number for number, piece in enumerate(vocabulary[size:], size)}
    found = {token: number for token, number in (vocabulary | added).items() if number >= size}
    return sorted(
        ((token, number) for token, number in found.items() if not NO_TEXT.search(token)), key=lambda one: one[1]
    )


def positions_of(architecture: dict[str, Any], tokenizer_config: dict[str, Any]) -> int | None:
    """The longest sequence; None where nothing bounds it. As vLLM reckons it, and where a family's first position is
    not the table's first, one that the model can compute."""
    stated = [architecture[key] for key in POSITIONS if isinstance(architecture.get(key), int)]
    if not stated or architecture.get("position_biased_input") is False:  # DeBERTa-v3: relative positions alone
        return None
    length = float(min(stated))
    if OFFSET.fullmatch(str(architecture.get("model_type"))):
        length -= int(architecture.get("pad_token_id") or 0) + 1
    rope = architecture.get("rope_scaling") or architecture.get("rope_parameters") or {}
    if isinstance(rope, dict) and (rope.get("rope_type") or rope.get("type")) in SCALED:
        length *= float(rope.get("factor") or 1)
    bound = tokenizer_config.get("model_max_length")
    if is_absolute(architecture) and isinstance(bound, int | float) and bound > 0:
        length = min(length, bound)
    return int(length)


def is_absolute(architecture: dict[str, Any]) -> bool:
    """Of encoders with a table of positions vLLM also heeds the tokenizer's bound (vllm/config/model.py)."""
    return architecture.get("position_embedding_type") == "absolute"
