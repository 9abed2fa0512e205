"""What a base is, for a proposal: by its config.json, its tokenizer and its headers. No weights, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.run.base import ROOTS, BaseWeights, may_be_read, read_config, roots_file
from configs.run.family import kind_of, model_type, text_config
from infra.chat_template import TemplateFault
from infra.files.atomic import read_json
from infra.served_messages import Message
from infra.tokenizer import Tokenizer
from train.model.limits import directory_here, is_installed, positions_of

HINT = (
    "tunegate init ROWS --base DIR   (a directory of safetensors, config.json and tokenizer, or a package of weights)"
)


WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")  # as families name it


@dataclass(frozen=True)
class Base:
    """`keys`: the YAML's section. `directory`: where its files lie here; None: to be made first. `positions`: the
    longest sequence; None: unknown or unbounded. `width`: of its hidden states; None: unknown."""

    keys: dict[str, str]
    directory: Path | None
    kind: str
    writes: bool
    positions: int | None
    has_template: bool
    width: int | None = None


def describe_base(place: str) -> Base:
    """Of a directory or an installed package. Raises InputError or RefusedError where it can be none."""
    keys = keys_of(place)
    weights = BaseWeights.model_validate(keys)
    directory = directory_here(weights)
    found = read_json(directory / "config.json") if directory else read_config(weights, Path())
    if not found:
        raise InputError(f"{place}: found no config.json, so nothing is known of the base", hint=HINT)
    config = text_config(found)
    kind = model_type(config)
    page = read_json(directory / "tokenizer_config.json") if directory else None
    return Base(
        keys,
        directory,
        kind or "GGUF",
        not kind or kind_of(config) == "decoder",
        positions_of(config, page or {}),
        directory is None or has_chat_template(directory, page or {}),
        next((int(config[name]) for name in WIDTHS if config.get(name)), None),
    )


def keys_of(place: str) -> dict[str, str]:
    path = Path(place)
    if not path.exists():
        if is_installed(place):
            return {"package": place}
        raise InputError(f"--base {place}: found neither a directory nor an installed package", hint=HINT)
    if path.resolve().is_relative_to(Path.cwd().resolve()):
        return {"path": path.resolve().relative_to(Path.cwd().resolve()).as_posix()}
    if not may_be_read(path):
        raise InputError(
            f"--base {place}: found a folder outside the checkout that this machine does not allow yet",
            hint=f"echo {path.resolve()} >> {roots_file()}   (or export {ROOTS}={path.resolve().parent})",
        )
    return {"path": path.resolve().as_posix()}


def has_chat_template(directory: Path, tokenizer_config: dict[str, Any]) -> bool:
    return (directory / "chat_template.jinja").exists() or bool(tokenizer_config.get("chat_template"))


def longest_in_tokens(base: Base, texts: list[str]) -> tuple[int, bool]:
    """Tokens of the longest text, and whether they were counted; else guessed, three characters a token."""
    path = base.directory / "tokenizer.json" if base.directory else None
    longest = sorted(texts, key=len, reverse=True)[:500]
    if path is None or not path.exists():
        return max((len(text) // 3 for text in longest), default=0) + 8, False
    tokenizer = Tokenizer(path.parent)
    return max((len(tokenizer.ids(text)) for text in longest), default=0), True


def frame_tokens(base: Base) -> int:
    """What the chat template puts around a question and its answer, a system text of its own included; guessed where
    the tokenizer is not here."""
    if base.directory is None or not base.has_template or not (base.directory / "tokenizer.json").exists():
        return 48
    turns: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
    try:
        return len(Tokenizer(base.directory).chat.encode(turns)[0])
    except (InputError, TemplateFault):
        return 48
