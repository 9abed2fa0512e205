"""A base with new tokens: its tokenizer knows them, its embedding and head have a row more for each."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from configs.digest import key_of
from configs.errors import InputError
from configs.release import MANIFEST
from infra.files.atomic import new_directory, read_json, write_json

TEMPLATES = "additional_chat_templates"


def extended_folder(plain: Path, digest: str, tokens: list[str]) -> Path:
    """Beside the base; another one for other tokens or other bytes."""
    return plain.with_name(f"{plain.name}-tokens-{key_of(digest, tokens).removeprefix('sha256:')[:12]}")


def extend_base(plain: Path, target: Path, tokens: list[str]) -> None:
    """Writes `target`, without a manifest. A new row is the mean of the rows there were: any other start makes the new
    tokens likelier, or less likely, than all others (Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html).

    Every tensor of as many rows as the vocabulary has is one of its embedding or its head; a model that does not load
    with them all extended says so. Raises InputError for a token that is one already.
    """
    from infra.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(plain)
    refuse_known(tokens, tokenizer.get_vocab())
    old = len(tokenizer)
    tokenizer.add_tokens(new_tokens(tokens))
    with new_directory(target) as partial:
        for file in sorted(plain.iterdir()):
            if file.is_dir():
                shutil.copytree(file, partial / file.name)
            elif file.name not in (MANIFEST, "config.json") and file.suffix != ".safetensors":
                shutil.copyfile(file, partial / file.name)
        tokenizer.save_pretrained(partial)
        config = read_json(plain / "config.json") or {}
        section = config.get("text_config", config)
        rows = int(section["vocab_size"])
        section["vocab_size"] = max(rows, len(tokenizer))
        write_json(partial / "config.json", config)
        for file in sorted(plain.glob("*.safetensors")):
            extend_file(file, partial / file.name, rows, old, len(tokenizer))


def extend_tokenizer(plain: Path, target: Path, tokens: list[str]) -> None:
    """The tokenizer's files alone, with `tokens`, into the empty folder `target`: enough to count by, and no torch.
    Raises InputError as extend_base."""
    from tokenizers import Tokenizer

    for file in plain.iterdir():
        if file.suffix == ".jinja" or file.name in ("tokenizer_config.json", "special_tokens_map.json"):
            shutil.copyfile(file, target / file.name)
    if (plain / TEMPLATES).is_dir():
        shutil.copytree(plain / TEMPLATES, target / TEMPLATES)
    tokenizer = Tokenizer.from_file(str(plain / "tokenizer.json"))
    refuse_known(tokens, tokenizer.get_vocab())
    tokenizer.add_tokens(new_tokens(tokens))
    tokenizer.save(str(target / "tokenizer.json"))


def refuse_known(tokens: list[str], vocabulary: Collection[str]) -> None:
    known = [token for token in tokens if token in vocabulary]
    if known:
        raise InputError(
            f"base.add_tokens: found {', '.join(known)}, expected tokens that are new", hint="take them out"
        )


def new_tokens(tokens: list[str]) -> list[Any]:
    """Not special: an answer that holds one is shown whole."""
    from tokenizers import AddedToken

    return [AddedToken(token, normalized=False, special=False) for token in tokens]


def extend_file(source: Path, target: Path, rows: int, old: int, new: int) -> None:
    """`rows` in the weights, of which `old` are tokens; a vocabulary that was padded has room for some of the new."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, framework="pt") as found:
        metadata, tensors = found.metadata(), {name: found.get_tensor(name) for name in sorted(found.keys())}
    for name, tensor in tensors.items():
        if tensor.dim() in (1, 2) and tensor.shape[0] == rows:
            mean = tensor[:old].float().mean(dim=0, keepdim=True).to(tensor.dtype)
            kept = tensor[:old]
            grown = torch.cat([kept, mean.expand(new - old, *tensor.shape[1:]), tensor[new:]])
            tensors[name] = grown.contiguous()
    save_file(tensors, target, metadata=metadata)


def token_indices(model: Any, base: Path, tokens: list[str]) -> dict[str, list[int]] | None:
    """What peft's `trainable_token_indices` takes: the new rows of the embedding and, where it has weights of its own,
    of the head."""
    if not tokens:
        return None
    from infra.tokenizer import load_tokenizer

    ids = [int(one) for one in load_tokenizer(base).convert_tokens_to_ids(tokens)]
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [embedding] + ([head] if head is not None and head.weight is not embedding.weight else [])
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(module)]: ids for module in wanted}
