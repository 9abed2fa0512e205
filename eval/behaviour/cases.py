"""Which questions a behaviour test asks. Pure: tests and test rows in, pairs of questions out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from configs.run.behaviour import Abstention, BehaviourTest, Directional, Invariance, Robustness, name_of
from eval.behaviour.perturb import change_question, last_question, perturb_row
from eval.measure.rows import Rows, draw
from eval.metrics.rows import Row

PROMPT, ORDINARY = "prompt", "ordinary"


@dataclass(frozen=True)
class Case:
    """A question and the same one changed. `number`: the test row that the first is, which was answered before; None:
    it is asked as well.

    `group` is the changed question's, `base` the first one's.
    """

    test: BehaviourTest
    variant: str
    id: str
    original: Row
    changed: Row
    number: int | None = None
    group: str = ""
    base: str = ""


def cases_of(test: BehaviourTest, rows: Rows) -> Iterator[Case]:
    """In an order that the seed alone decides. `rows` gives all test rows each time it is called."""
    if isinstance(test, Robustness):
        return robustness_cases(test, rows)
    if isinstance(test, Directional):
        return directional_cases(test, rows)
    if isinstance(test, Abstention):
        return abstention_cases(test, rows)
    return swap_cases(test, rows) if test.swap else template_cases(test, rows)


def bare(row: Row, identity: str) -> Row:
    """A question of its own: without the tokens and the second answer that a preference pair is asked with. A row whose
    answer is a bad one (`desirable` false) is scored nowhere, and none is made of it."""
    return {
        name: value
        for name, value in row.items()
        if name not in ("rejected", "prompt_ids", "chosen_ids", "rejected_ids")
    } | {"id": identity}


def changed_case(
    test: BehaviourTest, variant: str, numbered: tuple[int, Row], changed: Row, group: str = "", base: str = ""
) -> Case:
    number, row = numbered
    return Case(
        test, variant, str(row["id"]), row, bare(changed, f"{name_of(test)}/{variant}/{row['id']}"), number, group, base
    )


def robustness_cases(test: Robustness, rows: Rows) -> Iterator[Case]:
    drawn = draw((row if row.get("desirable", True) else {} for row in rows()), test.rows, test.seed)
    for kind in dict.fromkeys(test.perturb):
        for number, row in drawn:
            yield changed_case(test, kind, (number, row), perturb_row(row, kind, test.rate, test.seed))


def new_question(like: Row, identity: str, text: str, system: str | None) -> Row:
    """Asked in the form in which the test row `like` is."""
    if "messages" in like:
        turns = [{"role": "system", "content": system}] if system is not None else []
        return {"id": identity, "messages": [*turns, {"role": "user", "content": text}]}
    name = "text" if "text" in like else "prompt"
    return {"id": identity, name: text if system is None else f"{system}\n{text}"}


def template_cases(test: Invariance, rows: Rows) -> Iterator[Case]:
    """Each group's words against those of the first group at the same places."""
    like, name = next(iter(rows())), name_of(test)
    base, *others = test.words
    combinations = [dict(zip(test.fill, values, strict=True)) for values in product(*test.fill.values())]

    def question(template: int, fill: int, group: str, place: int) -> Row:
        text = test.templates[template].format_map(combinations[fill] | {test.slot: test.words[group][place]})
        return new_question(like, f"{name}/{template}.{fill}/{group}/{place}", text, test.system)

    for template, fill, place in product(
        range(len(test.templates)), range(len(combinations)), range(len(test.words[base]))
    ):
        for group in others:
            changed = question(template, fill, group, place)
            yield Case(
                test,
                f"template {template + 1}",
                changed["id"],
                question(template, fill, base, place),
                changed,
                None,
                group,
                base,
            )


def swap_cases(test: Invariance, rows: Rows) -> Iterator[Case]:
    """Test rows with a word of a pair; the first one found says which side the row is on."""
    places = {word.casefold(): (other, 0) for word, other in test.swap} | {
        word.casefold(): (other, 1) for other, word in test.swap
    }
    pattern = re.compile(
        r"(?<!\w)(?:" + "|".join(re.escape(word) for word in sorted(places, key=len, reverse=True)) + r")(?!\w)",
        re.IGNORECASE,
    )

    def swapped(found: re.Match[str]) -> str:
        other = places[found[0].casefold()][0]
        return (
            other.upper()
            if found[0].isupper() and len(found[0]) > 1
            else other[0].upper() + other[1:]
            if found[0][0].isupper()
            else other
        )

    def exchange(text: str) -> str:
        return pattern.sub(swapped, text)

    for number, row in draw(
        (row if row.get("desirable", True) and pattern.search(last_question(row)) else {} for row in rows()),
        test.rows,
        test.seed,
    ):
        side = places[pattern.findall(last_question(row))[0].casefold()][1]
        yield changed_case(
            test, "swap", (number, row), change_question(row, exchange), test.sides[1 - side], test.sides[side]
        )


def directional_cases(test: Directional, rows: Rows) -> Iterator[Case]:
    name, edits = (
        name_of(test),
        [("append", text) for text in test.append] + [("prepend", text) for text in test.prepend],
    )
    for index, pair in enumerate(test.pairs):
        first, second = ({"id": f"{name}/pair {index}/{side}", "text": text} for side, text in enumerate(pair))
        yield Case(test, "pair", f"pair {index}", first, second)
    for index, numbered in enumerate(draw(rows(), test.rows, test.seed) if edits else []):
        kind, edit = edits[index % len(edits)]
        text = numbered[1]["text"]
        yield changed_case(
            test, kind, numbered, numbered[1] | {"text": f"{text} {edit}" if kind == "append" else f"{edit} {text}"}
        )


def abstention_cases(test: Abstention, rows: Rows) -> Iterator[Case]:
    """Prompts to abstain from, and ordinary rows as they were answered."""
    like = next(iter(rows()))
    for index, prompt in enumerate(test.prompts):
        question = new_question(like, f"{name_of(test)}/{index}", prompt, test.system)
        yield Case(test, PROMPT, question["id"], question, question)
    for number, row in draw(rows(), test.rows, test.seed):
        yield Case(test, ORDINARY, str(row["id"]), row, row, number)
