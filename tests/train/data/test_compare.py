"""New rows beside old ones: what differs more than chance would have it, how much, and what moved."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.compare import (
    MOST_NAMES,
    OTHERS,
    Difference,
    bin_numbers,
    cohens_h,
    commonest,
    compare,
    compare_shares,
    cramers_v,
    figures_of,
    jensen_shannon,
    label_of,
    largest_distance,
    lines_of,
)

pytestmark = pytest.mark.unit
COUNTS = st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any)
EFFECTS: list[Callable[..., Any]] = [cramers_v, largest_distance, jensen_shannon]
Row = dict[str, Any]


def rows(seed: int, count: int = 400, labels: str = "aab", words: int = 12, topic: str = "word") -> list[Row]:
    draw = random.Random(seed)
    return [
        {
            "id": f"{seed}-{number}",
            "text": " ".join(f"{topic}{draw.randint(0, 300)}" for _ in range(draw.randint(words - 4, words + 4))),
            "label": draw.choice(labels),
        }
        for number in range(count)
    ]


def differences(old: list[Row], new: list[Row], **sources: int) -> dict[str, Difference]:
    before, (after, names) = figures_of(old)[0], figures_of(new)
    found = compare(before.summary({"a.jsonl": len(old)}), after, sources or {"a.jsonl": len(new)}, names)
    return {one["figure"]: one for one in found}


@pytest.mark.parametrize("count", [60, 400, 2000])
def test_rows_of_one_kind_seldom_differ_by_more_than_chance_however_many_there_are(count: int) -> None:
    """One pair in twenty may."""
    found = [differences(rows(seed, 400), rows(1_000 + seed, count)) for seed in range(10)]
    for figure in ("labels", "words of a row", "vocabulary"):
        assert sum(one[figure]["more_than_chance"] for one in found) <= 3, figure
    assert not any(one["sources"]["more_than_chance"] for one in found)


@pytest.mark.parametrize(
    ("figure", "change", "told"),
    [
        ("labels", {"labels": "abb"}, " → 6"),
        ("words of a row", {"words": 20}, "median 12 → "),
        ("vocabulary", {"topic": "invoice"}, "invoice"),
    ],
)
def test_what_moved_is_told_and_the_rest_is_not(figure: str, change: dict[str, Any], told: str) -> None:
    found = differences(rows(1), rows(2, **change))
    assert found[figure]["more_than_chance"] and any(told in line for line in found[figure]["moved"])
    assert [name for name in found if found[name]["more_than_chance"]] == [figure]


def test_the_same_rows_differ_in_nothing() -> None:
    assert all(one["value"] == 0 and not one["more_than_chance"] for one in differences(rows(1), rows(1)).values())


def test_rows_from_elsewhere_are_told_by_their_source() -> None:
    found = differences(rows(1), rows(2), **{"a.jsonl": 100, "b.jsonl": 300})["sources"]
    assert found["more_than_chance"] and "b.jsonl 0.0% → 75.0% (h +2.09)" in found["moved"]


def test_a_line_says_effect_chance_and_what_moved() -> None:
    head, *lines = lines_of("x@sha256:1", 400, list(differences(rows(1), rows(2, labels="abb")).values()))
    assert head == "against x@sha256:1 and its 400 train rows:" and len(lines) == 4
    assert "labels: Cramér's V 0." in lines[0] and "more than chance (up to 0." in lines[0] and "(h " in lines[0]


@pytest.mark.parametrize("effect", EFFECTS)
@given(old=COUNTS, new=COUNTS, times=st.integers(2, 5))
def test_an_effect_is_between_none_and_one_and_none_for_the_same_shares(
    effect: Callable[..., Any], old: list[int], new: list[int], times: int
) -> None:
    one, other = numpy.array(old), numpy.array(new)
    assert 0 <= effect(one, other) <= 1 + 1e-9
    assert effect(one, other) == pytest.approx(effect(other, one))
    assert effect(one, one * times) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_is_one_where_nothing_is_shared(effect: Callable[..., Any]) -> None:
    assert effect(numpy.array([5, 5, 0, 0]), numpy.array([0, 0, 7, 7])) == pytest.approx(1)


def test_effects_are_those_of_the_books() -> None:
    from scipy.spatial.distance import jensenshannon
    from scipy.stats.contingency import association

    old, new = numpy.array([30, 10, 60]), numpy.array([10, 20, 50])
    assert cramers_v(old, new) == pytest.approx(association(numpy.array([old, new]), method="cramer"))
    assert jensen_shannon(old, new) == pytest.approx(jensenshannon(old, new, base=2))
    assert largest_distance(old, new) == pytest.approx(0.175)
    assert cohens_h(0.25, 0.5) == pytest.approx(0.5236, abs=1e-4)


@given(st.lists(st.floats(-100, 100), max_size=80), st.lists(st.floats(-1000, 1000), max_size=80))
def test_each_number_falls_into_one_bin_also_of_bins_made_of_others(old: list[float], new: list[float]) -> None:
    bins = bin_numbers(old)
    again = bin_numbers(new, bins["upper"])
    assert sum(bins["counts"]) == len(old) and sum(again["counts"]) == len(new)
    assert len(bins["counts"]) == len(again["counts"]) == len(bins["upper"]) + 1
    assert bin_numbers(old, bins["upper"]) == bins


@settings(max_examples=5)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 9), min_size=1, max_size=9))
def test_rare_names_are_summed_and_new_ones_count_as_others(counts: dict[str, int]) -> None:
    many = {f"label {number}": 20 for number in range(MOST_NAMES)} | {
        f"rare {name}": count for name, count in counts.items()
    }
    kept = commonest(many)
    assert sum(kept.values()) == sum(many.values()) and kept[OTHERS] == sum(counts.values())
    same = compare_shares("labels", kept, many)
    assert same is not None and same["value"] == 0


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"label": "a"}, "a"),
        ({"labels": ["b", "a"]}, "a + b"),
        ({"labels": []}, "(none)"),
        ({"tags": ["B-PER", "I-PER", "O", "B-ORG"]}, "ORG + PER"),
        ({"tags": ["O"]}, "(none)"),
        ({"text": "x"}, None),
    ],
)
def test_a_row_counts_once_whatever_its_labels(row: Row, label: str | None) -> None:
    assert label_of(row) == label


def test_numbers_to_be_told_and_texts_alone_have_their_own_figures() -> None:
    numbered: list[Row] = [{"id": str(number), "text": f"film {number}", "value": number / 10} for number in range(100)]
    found = differences(numbered, [row | {"value": row["value"] + 20} for row in numbered])
    assert found["value"]["value"] > 0.9 and "labels" not in found and not found["vocabulary"]["more_than_chance"]
    assert "value" not in differences(rows(1, 50), numbered)
