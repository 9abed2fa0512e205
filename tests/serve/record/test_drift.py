"""What runs against what git pins: equal is said, and every way of not being equal is an error that names both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import tunegate
from configs.errors import RefusedError
from serve.deploy import deploy
from serve.record.drift import check_served
from serve.record.standing import Standing
from serve.view.status import status
from tests.support.fake_machine import World, environment
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
OLD, NEW, FILE = "calls@sha256:" + "a" * 64, "calls@sha256:" + "b" * 64, "configs/deploy/local.yaml"


def seen(
    blue: tuple[str | None, int, bool] = (None, 0, False),
    green: tuple[str | None, int, bool] = (None, 0, False),
    **facts: Any,
) -> Any:
    """As `tunegate status --json`: release, weight, alive of each slot."""
    slots = {
        name: dict(zip(("release", "weight", "alive"), slot, strict=True))
        for name, slot in (("blue", blue), ("green", green))
    }
    return {
        "environment": "local",
        "router": {"running": True},
        "slots": slots,
        "difference": {"why": facts.pop("why")} if "why" in facts else None,
    } | facts


def test_the_pinned_release_with_all_of_the_traffic_is_what_git_says() -> None:
    assert (
        check_served(seen(blue=(OLD, 0, True), green=(NEW, 100, True)), NEW, FILE)
        == f"local: {NEW} serves, as {FILE} says"
    )


def test_nothing_pinned_and_nothing_serving_agree() -> None:
    assert "nothing is pinned" in check_served(seen(router={"running": False}), None, FILE)


@pytest.mark.parametrize(
    ("found", "pinned", "parts"),
    [
        (seen(blue=(OLD, 100, True), green=(NEW, 0, True)), NEW, [OLD, NEW]),
        (
            seen(blue=(OLD, 90, True), green=(NEW, 10, True), why="the deployment is under way"),
            NEW,
            [OLD, NEW, "10 %", "under way"],
        ),
        (seen(blue=(NEW, 100, False)), NEW, [NEW, "dead"]),
        (seen(blue=(NEW, 100, True), router={"running": False}), NEW, [NEW, "router down"]),
        (seen(), NEW, ["found nothing", NEW]),
        (seen(blue=(OLD, 100, True)), None, [OLD, "expected nothing"]),
        (seen(blue=(OLD, 100, True), why="held by the operator"), NEW, [OLD, NEW, "held"]),
        (seen(blue=(OLD, 100, True), why="parity is bad"), NEW, [OLD, NEW, "parity is bad"]),
    ],
)
def test_a_difference_names_both_and_why(found: Standing, pinned: str | None, parts: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        check_served(found, pinned, FILE)
    assert [part for part in [*parts, FILE] if part not in caught.value.message] == []


SLOT = st.tuples(st.sampled_from([None, OLD, NEW]), st.sampled_from([0, 10, 90, 100]), st.booleans())


@given(SLOT, SLOT, st.sampled_from([None, OLD, NEW]), st.booleans())
def test_it_passes_only_where_every_share_goes_to_the_living_pin(
    blue: Any, green: Any, pinned: str | None, router: bool
) -> None:
    serving = [slot for slot in (blue, green) if slot[1] > 0]
    right = (
        (not serving)
        if pinned is None
        else bool(serving) and router and all(slot[0] == pinned and slot[2] for slot in serving)
    )
    try:
        check_served(seen(blue, green, router={"running": router}), pinned, FILE)
        passed = True
    except RefusedError:
        passed = False
    assert passed == right


def test_the_command_looks_at_the_environment_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    World().install(monkeypatch)
    env, old, new = environment(), publish("old"), publish("new")
    deploy(env, old)
    assert old in check_served(status(env), old, FILE)
    monkeypatch.setattr("serve.view.status.status", lambda env: seen(blue=(old, 100, True)))
    path = Path(FILE)
    path.parent.mkdir(parents=True)
    for pinned, code in ((old, 0), (new, 1)):
        path.write_text(
            f"# tunegate deploy local\nname: local\nmodel: m\nrelease: {pinned}\ngate: null\n", encoding="utf8"
        )
        found = CliRunner().invoke(tunegate.app, ["status", "local", "--check"])
        assert isinstance(found.exception, RefusedError) == bool(code)
        assert pinned in (str(found.exception) if code else found.output)
