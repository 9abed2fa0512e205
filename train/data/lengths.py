"""How many tokens a row has, as training will see it; by `tokenizers` and Jinja alone, so that no torch is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.errors import InputError
from infra.tokenizer import classified_texts
from train.rows.shape import Shape, answer_of
from train.sources.source import Row

Lengths = tuple[list[int], list[int]]  # of whole rows, and of their prompts alone; in tokens
Measure = Callable[[list[Row]], Lengths]
# transformers' own mark of the assistant's turns; it prints nothing
GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")
CHUNK = 1024  # an encoding weighs some hundred bytes a token


def make_measure(base: Path, shape: Shape) -> Measure:
    """Raises InputError where `base` holds no tokenizer.json, or no chat template although the rows are
    conversations."""
    tokenizer = load_tokenizer(base)
    if shape in ("label", "labels", "value"):
        return in_chunks(lambda rows: without_prompt(count(tokenizer, classified_texts(tokenizer, rows))))
    if shape == "tags":
        return in_chunks(
            lambda rows: without_prompt(count(tokenizer, [row["tokens"] for row in rows], is_pretokenized=True))
        )
    if shape == "text":
        return in_chunks(
            lambda rows: without_prompt([length + 1 for length in count(tokenizer, [row["text"] for row in rows])])
        )
    if shape == "completion":
        return in_chunks(lambda rows: with_answer(tokenizer, rows, count(tokenizer, [row["prompt"] for row in rows])))
    render = load_chat_template(base)
    return in_chunks(
        lambda rows: with_answer(
            tokenizer, rows, count(tokenizer, [render(row["messages"][:-1]) for row in rows], add_special_tokens=False)
        )
    )


def load_tokenizer(base: Path) -> Any:
    from tokenizers import Tokenizer

    path = base / "tokenizer.json"
    if not path.exists():
        raise InputError(
            f"{path}: missing",
            hint="give base a tokenizer.json (transformers' save_pretrained of a fast tokenizer writes it)",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()  # some files state what their model was trained with
    tokenizer.no_padding()
    return tokenizer


def in_chunks(measure: Measure) -> Measure:
    def measure_all(rows: list[Row]) -> Lengths:
        parts = [measure(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
        return [length for part in parts for length in part[0]], [length for part in parts for length in part[1]]

    return measure_all


def count(tokenizer: Any, texts: list[Any], **options: bool) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts, **options)]


def without_prompt(lengths: list[int]) -> Lengths:
    return lengths, [0] * len(lengths)


def with_answer(tokenizer: Any, rows: list[Row], prompts: list[int]) -> Lengths:
    """The answer's tokens and its end token; of a pair the longer answer."""
    answers = count(tokenizer, [answer_of(row) for row in rows], add_special_tokens=False)
    if rows and "rejected" in rows[0]:
        worse = count(tokenizer, [row["rejected"] for row in rows], add_special_tokens=False)
        answers = [max(pair) for pair in zip(answers, worse, strict=True)]
    return [prompt + answer + 1 for prompt, answer in zip(prompts, answers, strict=True)], prompts


def load_chat_template(base: Path) -> Callable[[list[dict[str, str]]], str]:
    """Renders as transformers does (utils/chat_template_utils.py): blocks trimmed, the special tokens by name."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    settings = (
        json.loads((base / "tokenizer_config.json").read_text(encoding="utf8"))
        if (base / "tokenizer_config.json").exists()
        else {}
    )
    file = base / "chat_template.jinja"
    text = file.read_text(encoding="utf8") if file.exists() else settings.get("chat_template")
    if not isinstance(text, str):
        raise InputError(
            f"{base}: found no chat template, and the rows are conversations",
            hint="take an instruction-tuned base, or data.template.chat=false",
        )
    text = GENERATION.sub("", text)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    template, known = environment.from_string(text), dict(special_tokens(settings))

    def render(messages: list[dict[str, str]]) -> str:
        try:
            return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=True, **known)
        except TemplateError as error:
            roles = [message["role"] for message in messages]
            raise InputError(
                f"{base}: its chat template refuses a conversation of {roles}: {error}",
                hint="correct the rows, or choose another base",
            ) from error

    return render


def special_tokens(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if name.endswith("_token") and value:
            yield name, str(value["content"] if isinstance(value, dict) else value)
