"""What is asked of a release beside its test rows: behaviour tests (CheckList, Ribeiro 2020, arXiv:2005.04118), tasks
of lm-evaluation-harness."""

from __future__ import annotations

import re
import string
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from configs.section import NAME_PATTERN, ExistingPath, Section
from configs.task import writes_text

Perturbation = Literal["typos", "case", "whitespace", "punctuation", "truncation"]
WITHIN_WORDS = {"typos", "case"}  # a tagger's words must stay as many as its tags
# Short lists to start from. Illustrative: they stand for no population, and prove nothing of groups that they do not
# name.
WORDS: dict[str, dict[str, list[str]]] = {
    "names": {
        "female": ["Mary", "Anna", "Emma", "Laura", "Sarah", "Julia"],
        "male": ["John", "Paul", "Peter", "Mark", "Thomas", "David"],
    },
    "gender": {
        "female": ["woman", "girl", "mother", "sister", "daughter", "aunt"],
        "male": ["man", "boy", "father", "brother", "son", "uncle"],
    },
    "origin": {
        "Europe": ["German", "French", "Polish", "Spanish"],
        "Asia": ["Chinese", "Indian", "Japanese", "Korean"],
        "Africa": ["Nigerian", "Kenyan", "Ghanaian", "Egyptian"],
        "America": ["Mexican", "Canadian", "Brazilian", "Chilean"],
    },
}


def check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression of Python's re: {error}") from None
    return text


def slots_in(template: str) -> set[str]:
    """The names in braces. Raises ValueError for braces that do not pair, and for anything but a plain name in them."""
    try:
        found = {
            (name, layout, conversion)
            for _, name, layout, conversion in string.Formatter().parse(template)
            if name is not None
        }
    except ValueError as error:
        raise ValueError(f"a template with slots like {{name}}: {error}") from None
    if any(not name.isidentifier() or layout or conversion for name, layout, conversion in found):
        raise ValueError("a template whose slots are plain names, as in 'I met {name}'")
    return {name for name, _, _ in found}


Pattern = Annotated[str, AfterValidator(check_pattern)]
Text = Annotated[str, Field(pattern=r"\S")]
Pair = tuple[Text, Text]


def labelled(task: str, problem: str) -> bool:
    """Whether an answer is a probability for each label."""
    return task == "sequence-classification" and problem != "regression"


def label_incompatibilities(label: str | None, task: str, problem: str, labels: list[str]) -> list[str]:
    if label is None:
        return []
    if not labelled(task, problem):
        return [f"no label with task {task}{' and problem regression' if task == 'sequence-classification' else ''}"]
    return [f"label one of {', '.join(labels)}, not {label!r}"] if labels and label not in labels else []


class BehaviourSection(Section):
    """What every test has."""

    name: str | None = Field(
        None, pattern=NAME_PATTERN, description="in metrics.json and in gate rules; default: the kind of test"
    )
    rows: int = Field(200, ge=1, le=100_000, description="test rows that are drawn for it")
    seed: int = Field(17, ge=0, le=2**32 - 1)


class Robustness(BehaviourSection):
    """The test rows with their questions perturbed a little: how far the metric falls, how many answers change."""

    test: Literal["robustness"]
    perturb: list[Perturbation] = Field(min_length=1)
    rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the words that each perturbation touches, one at least; "
        "truncation: that it cuts off the end",
    )
    tolerance: float = Field(
        0.1, ge=0, description="of problem regression: numbers that lie no further apart are the same answer"
    )

    def incompatibilities(self, task: str, problem: str, labels: list[str]) -> list[str]:
        across = sorted({*self.perturb} - WITHIN_WORDS)
        return (
            [f"perturb typos or case, not {', '.join(across)}, with task {task}: words must stay as many as tags"]
            if across and "token" in task
            else []
        )


class Invariance(BehaviourSection):
    """Another name, gender or origin must not change the answer. Outcome: probability of `label`, match of `pattern`,
    the number, or correctness.

    Words are paired by place: each group's first word is compared with the first group's first word, and so on.
    """

    test: Literal["invariance"]
    templates: list[Text] = Field(
        default_factory=list, description="as in 'My {name} liked it.'; one slot is the groups', others are in fill"
    )
    groups: dict[str, list[Text]] | Literal["names", "gender", "origin"] | None = Field(
        None, description="what stands in the slot, or a short list of ours"
    )
    fill: dict[str, list[Text]] = Field(
        default_factory=dict, description="every template with every combination of these"
    )
    system: Text | None = Field(None, description="with templates: a chat's system turn")
    swap: list[Pair] = Field(
        default_factory=list,
        description="in test rows: words that take each other's place, as in [[he, she], [his, her]]",
    )
    sides: Pair = Field(("first", "second"), description="with swap: what a pair's first and second words stand for")
    label: str | None = Field(
        None, description="of a classifier: the label whose probability is compared; with swap, default: correctness"
    )
    pattern: Pattern | None = Field(
        None, description="of a GPT: a regular expression; whether the answer matches is compared"
    )
    tolerance: float = Field(
        0.1, ge=0, description="of problem regression: numbers that lie no further apart are the same answer"
    )

    @property
    def words(self) -> dict[str, list[str]]:
        return WORDS[self.groups] if isinstance(self.groups, str) else self.groups or {}

    @property
    def slot(self) -> str:
        """The one that groups fill."""
        return min(slots_in(self.templates[0]) - self.fill.keys())

    @model_validator(mode="after")
    def one_way(self) -> Invariance:
        if bool(self.templates) == bool(self.swap):
            raise ValueError("templates or swap, one of them")
        if self.swap and (self.groups or self.fill or self.system):
            raise ValueError("groups, fill and system only with templates")
        words = [word.casefold() for pair in self.swap for word in pair]
        if len({*words}) != len(words):
            raise ValueError("swap with each word once: it must be clear what takes its place")
        if self.swap and self.sides[0] == self.sides[1]:
            raise ValueError("sides with two names")
        if self.templates and (
            len(self.words) < 2
            or not all(self.words.values())
            or len({len(words) for words in self.words.values()}) != 1
        ):
            raise ValueError("groups, two or more, each with as many words as the others: they are paired by place")
        return self

    @model_validator(mode="after")
    def slots_are_filled(self) -> Invariance:
        free = [slots_in(template) - self.fill.keys() for template in self.templates]
        if any(len(slots) != 1 or slots != free[0] for slots in free):
            raise ValueError("in every template the same one slot that is not in fill: it is the groups'")
        return self

    def incompatibilities(self, task: str, problem: str, labels: list[str]) -> list[str]:
        gpt, tagger = writes_text(task), task == "token-classification"
        rules = {
            "swap, not templates, with task token-classification": not (tagger and self.templates),
            "swap of single words with task token-classification": not tagger
            or all(len(word.split()) == 1 for pair in self.swap for word in pair),
            "label with templates: no gold answer says what is right": not (self.templates and labelled(task, problem))
            or self.label is not None,
            "pattern with templates: no gold answer says what is right": not (self.templates and gpt)
            or self.pattern is not None,
            f"no pattern with task {task}": gpt or self.pattern is None,
            f"no system with task {task}": gpt or self.system is None,
        }
        return [expected for expected, holds in rules.items() if not holds] + label_incompatibilities(
            self.label, task, problem, labels
        )


class Directional(BehaviourSection):
    """An edit that must move a label's probability, or a regression's number, up or down."""

    test: Literal["directional"]
    direction: Literal["up", "down"]
    label: str | None = None
    append: list[Text] = Field(
        default_factory=list, description="put after the question of drawn test rows, each in turn"
    )
    prepend: list[Text] = Field(default_factory=list, description="put before it")
    pairs: list[Pair] = Field(
        default_factory=list, description="two texts: the second must lie in the direction from the first"
    )
    minimum_move: float = Field(
        0.0, description="a move counts when it is larger; below 0 a small one the other way is forgiven"
    )

    @model_validator(mode="after")
    def some_edit(self) -> Directional:
        if not (self.append or self.prepend or self.pairs):
            raise ValueError("append, prepend or pairs")
        return self

    def incompatibilities(self, task: str, problem: str, labels: list[str]) -> list[str]:
        if task != "sequence-classification":
            return [f"no directional test with task {task}: it has neither a label's probability nor a number"]
        if labelled(task, problem) and self.label is None:
            return ["label: whose probability must move"]
        return label_incompatibilities(self.label, task, problem, labels)


class Abstention(BehaviourSection):
    """Questions that must not be answered: how many are not, and how many ordinary ones are not either."""

    test: Literal["abstention"]
    prompts: list[Text] = Field(min_length=1)
    system: Text | None = Field(None, description="a chat's system turn for the prompts")
    pattern: Pattern | None = Field(None, description="of a GPT: a regular expression that a refusal matches")
    confidence_below: float | None = Field(
        None, gt=0, le=1, description="of a classifier: it abstains where its likeliest label is less likely"
    )

    @model_validator(mode="after")
    def one_sign(self) -> Abstention:
        if (self.pattern is None) == (self.confidence_below is None):
            raise ValueError("pattern or confidence_below, one of them")
        return self

    def incompatibilities(self, task: str, problem: str, labels: list[str]) -> list[str]:
        gpt = writes_text(task)
        if not gpt and not labelled(task, problem):
            regression = " and problem regression" if task == "sequence-classification" else ""
            return [f"no abstention test with task {task}{regression}"]
        if gpt != (self.pattern is not None):
            return [f"{'pattern' if gpt else 'confidence_below'} with task {task}"]
        return [f"no system with task {task}"] if self.system is not None and not gpt else []


BehaviourTest = Annotated[Robustness | Invariance | Directional | Abstention, Field(discriminator="test")]


def name_of(test: BehaviourTest) -> str:
    return test.name or test.test


class HarnessTask(Section):
    """A task of lm-evaluation-harness, asked of the served release."""

    task: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="as in lm-eval ls tasks, or of include_path"
    )
    limit: int | None = Field(None, ge=1, description="the first so many examples; null: all")
    shots: int | None = Field(
        None, ge=0, le=100, description="worked examples before each question; null: as the task says"
    )
    chat: bool = Field(False, description="through the release's chat template")
    include_path: ExistingPath | None = Field(
        None, description="a folder of task YAMLs of your own. They may run Python: review them as code"
    )


def incompatibilities(
    tests: list[BehaviourTest], harness: list[HarnessTask], judged: bool, task: str, problem: str, labels: list[str]
) -> list[str]:
    """What would have to be for these to suit the task; empty where they do. `labels`: those that are known before any
    row is read."""
    broken = [
        f"evaluate.behaviour {name_of(test)}: {expected}"
        for test in tests
        for expected in test.incompatibilities(task, problem, labels)
    ]
    if len({name_of(test) for test in tests}) != len(tests):
        broken.append("evaluate.behaviour: a name of its own for each test of the same kind")
    if len({one.task for one in harness}) != len(harness):
        broken.append("evaluate.harness: each task once")
    if not writes_text(task) and (harness or judged):
        broken.append("evaluate.harness and evaluate.judge only with task causal-lm, dpo or grpo")
    return broken
