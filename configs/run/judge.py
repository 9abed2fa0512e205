"""Judge: a model behind any OpenAI-compatible URL that scores answers, and the prompt it gets."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from configs.rows.template import TemplateText, columns_of
from configs.section import Section

SEEN, SEEN_PAIRWISE = ("question", "answer", "reference"), ("question", "first", "second")
PAIRWISE = {"first": 1.0, "second": 0.0, "tie": 0.5}  # where the answer is the first


def check_url(url: str) -> str:
    """A key, and what users asked, must not cross a network in the clear."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("an address like https://judge.example/v1, without a name, password or question mark in it")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("https, or http on this machine (127.0.0.1)")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Judge(Section):
    """Asked at temperature 0, once for each drawn test row, or once in each order. What cannot be read as a score is
    missing, and counted: judge_missing."""

    base_url: Annotated[str, AfterValidator(check_url)] = Field(description="up to /v1, as OpenAI's client takes it")
    model: str = Field(min_length=1)
    version: str | None = Field(
        None, description="of the model, where its name is an alias: scores of two versions are not compared"
    )
    api_key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="the environment variable that holds the key; the key is written nowhere",
    )
    prompt: TemplateText = Field(
        description="Jinja over question, answer and reference (with pairwise: question, first and second); it says "
        "which scale or choices to answer with"
    )
    scale: tuple[float, float] | None = Field(None, description="lowest and highest score")
    choices: dict[str, float] | None = Field(
        None, description="words, each with its score, as in {good: 1, bad: 0}", min_length=2
    )
    pairwise: bool = Field(
        False,
        description="answer and reference beside each other, asked in both orders: `first`, `second` or `tie`; "
        "1: the answer is better both times, 0: worse both times, else 0.5",
    )
    structured: bool = Field(
        True,
        description="hold the judge to JSON, {reason, score} (response_format json_schema); false for a server without",
    )
    human: str | None = Field(
        None,
        description="a column of data.keep, a person's score of the row's reference: the judge scores the reference "
        "too, and judge_agreement is how often it gives the same",
    )
    rows: int = Field(200, ge=1, le=100_000, description="test rows that are drawn for it")
    seed: int = Field(17, ge=0, le=2**32 - 1)
    max_tokens: int = Field(256, ge=1, le=65_536)
    concurrency: int = Field(4, ge=1, le=256)

    @property
    def words(self) -> dict[str, float]:
        """Those that it may answer with, and their scores; none where there is a scale."""
        return PAIRWISE if self.pairwise else self.choices or {}

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most that a score can be."""
        scores = self.scale or (*self.words.values(),)
        return min(scores), max(scores)

    @model_validator(mode="after")
    def readable(self) -> Judge:
        if self.pairwise and (self.scale or self.choices or self.human):
            raise ValueError("no scale, choices or human with pairwise: it answers first, second or tie")
        if not self.pairwise and (self.scale is None) == (self.choices is None):
            raise ValueError("scale or choices, one of them")
        if self.scale and self.scale[0] >= self.scale[1]:
            raise ValueError("scale with its lowest score first")
        if self.choices and len({word.casefold() for word in self.choices}) != len(self.choices):
            raise ValueError("choices that differ in more than case")
        seen, needed = (SEEN_PAIRWISE, {"first", "second"}) if self.pairwise else (SEEN, {"answer"})
        names = columns_of(self.prompt)
        if not needed <= names <= {*seen}:
            reads = " and ".join(f"{{{{ {name} }}}}" for name in sorted(needed))
            raise ValueError(f"a prompt that reads {reads}, and nothing but {', '.join(seen)}")
        return self
