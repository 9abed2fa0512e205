"""Entities are counted by what the tags mean, whatever scheme a release answers in."""

from __future__ import annotations

import pandas
import pytest

from eval.metrics.entities import over_entities, score_tags, types

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("gold", "answer", "figures"),  # entities, found, wrong
    [
        ("ORG O PER", "O O PER", (2, 1, 0)),
        ("DATE O", "RATE O", (1, 0, 1)),
        ("U-LOC U-LOC", "B-LOC L-LOC", (2, 0, 1)),
        ("PER-B PER-I", "LOC-B LOC-I", (1, 0, 1)),
        ("creative-work O", "home-work O", (1, 0, 1)),
        ("Other O", "O O", (1, 0, 0)),
        ("S-LOC B-PER E-PER", "S-LOC B-PER E-PER", (2, 2, 0)),
        ("B-LOC B-LOC", "B-LOC I-LOC", (2, 0, 1)),
        ("O B-PER", "O I-PER", (1, 1, 0)),  # conlleval: what goes on with nothing begins an entity
        ("B-PER I-PER", "B-PER O", (1, 0, 1)),
    ],
)
def test_an_entity_is_found_where_type_and_words_are_right(
    gold: str, answer: str, figures: tuple[int, int, int]
) -> None:
    row = score_tags(gold.split(), answer.split())
    assert (row["entities"], row["entities_found"], row["entities_wrong"]) == figures
    assert row["correct"] == float(figures[0] == figures[1] and not figures[2])


@pytest.mark.parametrize(
    ("labels", "answer"),
    [
        (["O", "LOC", "ORG"], "ORG ORG O LOC"),
        (["O", "U-LOC", "B-ORG", "L-ORG"], "B-ORG L-ORG O U-LOC"),
        (["O", "LOC-B", "ORG-B", "ORG-I"], "ORG-B ORG-I O LOC-B"),
    ],
)
def test_an_earlier_versions_release_is_scored_on_todays_rows(labels: list[str], answer: str) -> None:
    row = score_tags(["B-ORG", "I-ORG", "O", "B-LOC"], answer.split(), labels)
    assert row["correct"] == 1 and row["token_accuracy"] == 1 and row["answer"] == row["gold"]


def test_the_labels_tell_that_a_name_is_a_name() -> None:
    """E-Bike alone could be the last word of a Bike."""
    labels = ["O", "E-Bike", "S-Bahn", "Tram", "Bus", "Car"]
    row = score_tags(["E-Bike", "O"], ["S-Bahn", "O"], labels)
    assert (row["entities_found"], row["entities_wrong"], row["answer"]) == (0, 1, "B-S-Bahn O")


def test_types_are_counted_by_what_was_kept() -> None:
    rows = [
        score_tags(["ORG", "O", "PER"], ["O", "O", "PER"]),
        score_tags(["creative-work", "O", "O"], ["home-work", "O", "O"]),
    ]
    found = types(pandas.DataFrame(rows))
    assert {kind: (one["recall"], one["n"]) for kind, one in found.items()} == {
        "ORG": (0, 1),
        "PER": (1, 1),
        "creative-work": (0, 1),
        "home-work": (0, 0),
    }
    assert over_entities("entities")(pandas.DataFrame(rows)) == pytest.approx(1 / 3)


def test_tags_of_words_by_themselves_count_word_by_word() -> None:
    row = score_tags(["NOUN", "NOUN", "VERB"], ["NOUN", "VERB", "VERB"], ["NOUN", "VERB"])
    assert (row["entities"], row["entities_found"]) == (3, 2) and row["token_accuracy"] == pytest.approx(2 / 3)
    assert types(pandas.DataFrame([row]))["NOUN"]["recall"] == 0.5
