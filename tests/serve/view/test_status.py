"""Status for people: a table that says what is so, and nothing that is not."""

from __future__ import annotations

import pytest
from rich.console import Console

from configs.errors import RefusedError
from configs.release import short
from serve.deploy import deploy
from serve.operate import pause
from serve.record.environment import locked
from serve.view.status import as_tables, status
from tests.support.fake_machine import World, environment, world
from tests.support.few_bytes import publish

__all__ = ["world"]
pytestmark = pytest.mark.unit


def printed(env: object) -> str:
    console = Console(width=160, record=True)
    console.print(as_tables(status(env)))  # type: ignore[arg-type]  # an Environment
    return console.export_text()


def test_an_empty_environment_is_a_closed_router(world: World) -> None:
    text = printed(environment())
    assert "router down" in text and "refused" not in text and "holder" not in text


def test_what_serves_what_comes_next_and_what_went_wrong_are_named(world: World) -> None:
    env, old, new = environment(), publish("old"), publish("new")
    deploy(env, old)
    world.count("blue", open=3, total=41)
    world.fails = {"prove parity": RefusedError("parity is bad")}
    with pytest.raises(RefusedError):
        deploy(env, new)
    text = printed(env)
    assert f"blue * │ {short(old)}" in text and "100 %" in text and "41" in text and "parity is bad" in text
    assert "last deploy" in text and "0 cut" in text


def test_router_processes_whose_streams_nobody_counts_are_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment()
    deploy(env, publish("old"))
    assert "not counted" not in printed(env) and "uncounted" not in status(env)["router"]
    monkeypatch.setattr(world, "uncounted", lambda: 2)
    assert "the open streams of 2 earlier router processes" in printed(env)
    assert status(env)["router"]["uncounted"] == 2


def test_a_pause_and_a_holder_are_shown(world: World) -> None:
    env = environment()
    deploy(env, publish("old"))
    with locked(env, "agent"):
        pause(env)
        seen = status(env)
        assert seen["paused"] and seen["holder"] and seen["holder"]["command"] == "agent" and "(paused)" in printed(env)


@pytest.mark.parametrize(("reference", "text"), [(None, "-"), ("a@sha256:" + "1" * 64, "a@" + "1" * 12)])
def test_a_release_is_named_as_in_the_list_of_releases(reference: str | None, text: str) -> None:
    assert short(reference) == text


def test_who_pinned_where_the_branch_stands_and_that_what_serves_differs_are_said(world: World) -> None:
    old, new = publish("old"), publish("new")
    env = environment(release=new)
    deploy(env, old)
    with locked(env, "agent", "origin/main") as held:
        held.record.append(
            "pulled", upstream="origin/main", commit="a" * 40, author="Ada <a>", why="its history was forced"
        )
        held.record.append("desired", release=new, commit="b" * 40, author="Bo <b>")
        held.record.append("reported", commit="b" * 40, merge_request={"iid": 7, "url": "u", "author": "bo"})
        held.record.append("desired", release=old, rollback=True, failed=new, why="12 requests failed [x]")
        held.record.append("proposed", url="http://mr/8")
    seen, text = status(env), " ".join(printed(env).split())
    assert seen["difference"] == {
        "pinned": new,
        "serves": old,
        "why": "12 requests failed [x]",
        "merge_request": "http://mr/8",
    }
    assert (
        f"origin/main at {'a' * 12}, and stays there: its history was forced" in text
        and f"pinned by {'b' * 12} by Bo <b>, !7" in text
    )
    assert f"differs pinned {short(new)}, serves {short(old)}: 12 requests failed [x]; merge http://mr/8" in text


def test_without_a_branch_nothing_is_said_of_git(world: World) -> None:
    env = environment()
    deploy(env, publish("old"))
    seen, text = status(env), printed(env)
    assert seen["git"] is None and seen["difference"] is None and "differs" not in text and "pinned by" not in text
