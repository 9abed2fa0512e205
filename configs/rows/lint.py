"""`data.lint`: the kinds of fault, and what is done with each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section

Action = Literal["refuse", "drop", "keep"]
Loss = Literal["refuse", "drop"]


class Lint(Section):
    """What is done with each kind of fault: refuse ends `prepare`, drop leaves the row out and counts it, keep only
    reports it."""

    unreadable: Loss = Field("refuse", description="a line that is no row")
    missing_field: Loss = Field("refuse", description="a field that is not there, or holds another kind of value")
    empty_field: Loss = Field("refuse", description="a text without a character that shows")
    unknown_label: Loss = Field("refuse", description="a label or tag that data.labels does not list")
    invalid_tag: Loss = Field(
        "refuse", description="tags that are not one a token, are no tags, or break the scheme of data.tags"
    )
    label_variants: Literal["refuse", "keep"] = Field(
        "refuse", description="labels that differ only in case or spaces, as Positive and positive"
    )
    mojibake: Action = Field("refuse", description="U+FFFD, control characters, UTF-8 that was read as Latin-1")
    personal_data: Action | Literal["ignore"] = Field(
        "ignore", description="mail addresses, telephone, card and account numbers; ignore: not looked for"
    )
    repeated_id: Action = "refuse"
    duplicate: Action = Field("refuse", description="the same question with the same answer")
    conflicting_answer: Action = Field("refuse", description="the same question with another answer")
    template_error: Loss = Field(
        "refuse", description="a conversation that the chat template refuses, or whose tools it leaves out"
    )
    too_long: Loss = Field("refuse", description="more tokens than data.max_tokens")
    no_target_tokens: Loss = Field("refuse", description="max_tokens, train_on or weights leave no token of the answer")
    identical_pair: Loss = Field("refuse", description="for task dpo or reward: the rejected answer is the chosen one")
    leakage: Action = Field(
        "refuse",
        description="a row of one split that is nearly or wholly in another; drop keeps the held-out one",
    )
    near_duplicate: Action = Field("keep", description="nearly the same as an earlier row of its split")
    imbalance: Literal["refuse", "keep"] = Field(
        "keep", description="a label with a smaller share of the rows than rare_share"
    )
    rare_share: float = Field(0.01, ge=0, lt=0.5)
    near_threshold: float = Field(
        0.8,
        gt=0.3,
        le=1,
        description="Jaccard similarity of words and pairs of words from which two texts are nearly the same",
    )
    near_sample: int = Field(
        20_000,
        ge=0,
        le=200_000,
        description="train rows that all later ones are compared with; all rows are compared with all held-out ones",
    )
