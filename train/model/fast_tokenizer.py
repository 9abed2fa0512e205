"""A base's tokenizer.json, and that transformers reads text by it: rows are tokenized by the file, and vLLM serves by
what transformers makes of the folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from configs.errors import InputError
from infra.files.atomic import read_json, write_json

# Case, accents, compatibility forms, spaces at both ends, lines, digits, marks, scripts without spaces, no letters.
PROBES = ("Hello, World! Ünïcode café ﬁ", "  two  spaces\n\n\ttab ", "日本語 🙂", "don't: 12345 6.7 <b>[SEP]</s>")
PLAIN = "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is


def settle_tokenizer(directory: Path) -> None:
    """Makes tokenizer.json where there is none, and says to transformers to take it as it is where the class that
    tokenizer_config.json names would read text otherwise: transformers 5 builds many classes' tokenizers of the
    vocabulary alone (a byte-level Llama 3 as LlamaTokenizerFast loses its spaces). Raises InputError where neither can
    be.
    """
    if not (directory / "tokenizer.json").exists():
        make_fast_tokenizer(directory)
    found = load(directory)
    if reads_alike(directory, found):
        return
    settings = directory / "tokenizer_config.json"
    write_json(settings, (read_json(settings) or {}) | {"tokenizer_class": PLAIN})
    if not reads_alike(directory, load(directory)):
        raise InputError(
            f"base: found a tokenizer.json that reads text otherwise than transformers' {type(found).__name__}, "
            "expected one way to read it, for training goes by the file and serving by transformers",
            hint="save it once as transformers reads it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    said = f"reads text otherwise than its tokenizer.json, which counts: tokenizer_class is {PLAIN} from here on"
    print(f"base: transformers' {type(found).__name__} {said}", file=sys.stderr)


def reads_alike(directory: Path, tokenizer: Any) -> bool:
    from tokenizers import Tokenizer

    file = Tokenizer.from_file(str(directory / "tokenizer.json"))
    file.no_truncation()
    file.no_padding()
    return all(
        list(tokenizer(text, add_special_tokens=special)["input_ids"])
        == file.encode(text, add_special_tokens=special).ids
        for text in PROBES
        for special in (True, False)
    )


def load(directory: Path) -> Any:
    """transformers' own. Raises InputError where it can make none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # each tokenizer's maker raises what it likes
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"base: found a tokenizer that transformers cannot load: {said}",
            hint="save it once as a fast one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        ) from error


def make_fast_tokenizer(directory: Path) -> None:
    """tokenizer.json of a tokenizer that has none: rows are cut into words by its offsets. Raises InputError where it
    cannot be made."""
    tokenizer = load(directory)
    tokenizer.save_pretrained(directory)
    if not (directory / "tokenizer.json").exists():
        raise InputError(
            f"base: found a tokenizer without tokenizer.json, and {type(tokenizer).__name__} has no fast form",
            hint="give base one that has: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes it",
        )
