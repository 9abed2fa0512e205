"""The evidence of a rollback: what a reviewer needs to merge the pin, and nothing of it is markup of a stranger's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from configs.release import short
from serve.deploy import deploy
from serve.gitops.rollback import Rollback, cell, rollback_of
from serve.record.environment import Environment
from serve.record.receipt import read_receipts
from tests.support.fake_machine import World, environment, world
from tests.support.few_bytes import publish

__all__ = ["world"]
pytestmark = pytest.mark.unit


def broken_in_bake(world: World) -> tuple[Environment, str, str]:
    """Old serves; new takes the traffic and fails requests in its bake."""
    env, old, new = environment(watch={"failures_allowed": 0}), publish("old"), publish("new")
    deploy(env, old)
    world.on_sleep = lambda: world.count("green", failed=3)
    with pytest.raises(RefusedError, match="3 requests failed"):
        deploy(env, new)
    return env, old, new


def test_a_breach_in_the_bake_leaves_its_receipt_with_the_breach(world: World) -> None:
    env, old, new = broken_in_bake(world)
    first, second, back = read_receipts(env)
    assert "breach" not in first and second["to"]["release"] == new and back["to"]["release"] == old
    assert "under traffic 3 requests failed" in second["breach"] and second["requests_failed"] == 3
    assert env.record.state().good == (old,)


def test_it_says_what_why_since_when_by_which_commit_and_where_the_files_lie(world: World) -> None:
    env, old, new = broken_in_bake(world)
    (env.folder / "loadtest/green").mkdir(parents=True)
    (env.folder / "loadtest/green/report.html").write_text("plots")
    found = rollback_of(env, env.record.state(), new)
    request = [event for event in env.record.read() if event.kind == "desired"][-1]
    assert (found.gone, found.back, found.at, found.pinned_by) == (new, old, request.at, None)
    assert found.branch == f"rollback/x-{new.partition(':')[2][:12]}" and found.title == f"Roll x back to {short(old)}"
    assert [event.kind for event in found.events] == ["desired", "switched", "desired"] + ["switched"] * (
        len(found.events) - 3
    )
    for words in (
        "3 requests failed",
        short(old),
        short(new),
        "| requests failed | `3` |",
        "events.jsonl",
        "receipts/",
        "loadtest/green/report.html",
    ):
        assert words in found.description, words
    assert (
        found.message.startswith(f"{found.title}\n\n{short(new)} was rolled back at {request.at[:19]}Z: ")
        and "streams open at switch: 0\n" in found.message
    )


def test_a_rollback_by_a_person_needs_no_receipt(world: World) -> None:
    env, old, new = environment(), publish("old"), publish("new")
    deploy(env, old)
    env.record.append("desired", release=new, commit="c" * 40, author="Ada <ada@localhost>")
    env.record.append("desired", release=old, rollback=True, why="answers are bad")
    found = rollback_of(env, env.record.state(), new)
    assert (
        found.receipt is None
        and "| receipt |" not in found.description
        and found.pinned_by == "cccccccccccc (Ada <ada@localhost>)"
    )
    assert "answers are bad" in found.message and "cccccccccccc" in found.description


@given(text=st.text(max_size=200))
def test_whatever_a_server_says_stays_one_line_of_code_in_one_cell(text: str) -> None:
    found = cell(text)
    assert (
        found[0] == found[-1] == "`"
        and "`" not in found[1:-1]
        and "\n" not in found
        and found.count("|") == found.count("\\|")
    )


@given(why=st.text(min_size=1, max_size=400), gone=st.from_regex(r"[a-z]{1,9}@sha256:[0-9a-f]{64}", fullmatch=True))
def test_the_same_rollback_is_the_same_branch_and_its_title_is_one_line(why: str, gone: str) -> None:
    found = Rollback("x", gone, "old@sha256:" + "0" * 64, why, "2026-11-25T10:00:00.000+00:00", None, None, (), ())
    assert found.branch == f"rollback/x-{gone.partition(':')[2][:12]}"
    assert (
        len(found.title.splitlines()) == 1
        and found.message.splitlines()[0] == found.title
        and found.message.endswith("\n")
    )
