"""The judge's commands, as they are typed: what needs no evaluation, what is printed, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs.errors import InputError
from eval.commands import add_commands
from eval.rules.explain import EXPLANATIONS

pytestmark = pytest.mark.unit
ONE, OTHER = "one@sha256:" + "1" * 64, "two@sha256:" + "2" * 64
app = typer.Typer()
add_commands(app)


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout


@pytest.fixture
def evaluated(checkout: Path, write_measured: Callable[..., Path]) -> Path:
    for name, reference, right in (("one", ONE, 90), ("two", OTHER, 80)):
        write_measured(
            checkout / f"build/{name}/eval",
            reference,
            {f"row-{number}": float(number < right) for number in range(100)},
        )
    return checkout


def test_rules_are_explained_without_a_run(checkout: Path) -> None:
    listed = run("gate", "--explain", "list")
    assert [line.split()[0] for line in listed.splitlines()] == [*EXPLANATIONS]
    assert "Bonferroni" in run("gate", "--explain", "slice_minimum")
    with pytest.raises(InputError, match="found no config"):
        run("gate")


def test_two_releases_are_a_table_for_people_and_json_for_machines(evaluated: Path) -> None:
    table = run("compare", "one", "two")
    row = next(line for line in table.splitlines() if line.startswith("accuracy"))
    assert row.split()[1:5] == ["100", "0.9", "0.8", "+0.100"] and ONE in table and OTHER in table and "MDE" in table
    found = json.loads(run("compare", "one", "two", "--json"))
    assert found["metrics"][0]["difference"] == pytest.approx(0.1) and found["release"] == ONE


def test_an_unknown_release_is_an_error_with_the_known_ones(evaluated: Path) -> None:
    with pytest.raises(InputError, match=ONE):
        run("compare", "three", "two")
