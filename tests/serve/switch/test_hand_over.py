"""A deploy beside an agent that takes its pins elsewhere: it is waited for, or told where the pin belongs; nothing is
put on its record that it would undo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from configs.errors import ExternalError, RefusedError
from serve.record.environment import Environment, holder_of, locked
from serve.switch import hand_over
from serve.switch.hand_over import await_agent, pin_in
from tests.support.fake_machine import environment

pytestmark = pytest.mark.unit
ONE, TWO = (f"calls@sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """The command's checkout is `here`, the agent's `there`; the state is neither's."""
    monkeypatch.setattr(hand_over, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(hand_over, "PIN_SECONDS", 0.2)
    for name in ("here", "there"):
        (tmp_path / name / "configs/deploy").mkdir(parents=True)
    with chdir(tmp_path / "here"):
        yield environment(folder=str(tmp_path / "state"))


@contextmanager
def agent(env: Environment, command: str = "agent", follows: str | None = None) -> Iterator[Environment]:
    with chdir("../there"):
        holding = locked(env, command, follows)
        held = holding.__enter__()
    try:
        yield held
    finally:
        holding.__exit__(None, None, None)


def pin(env: Environment, release: str | None, folder: str = "../there") -> None:
    text = f"name: {env.config.name}\nmodel: m\nrelease: {release or 'null'}  # the pin\n"
    Path(folder, f"configs/deploy/{env.config.name}.yaml").write_text(text)


def desires(env: Environment) -> list[str]:
    return [event.facts["release"] for event in env.record.read() if event.kind == "desired"]


def test_without_an_agent_elsewhere_there_is_nobody_to_wait_for(env: Environment) -> None:
    await_agent(env, ONE)
    with agent(env, "supervisor"):
        await_agent(env, ONE)
    with locked(env, "agent"):
        await_agent(env, ONE)


def test_an_agent_of_another_checkout_that_pins_something_else_is_told_nothing(env: Environment) -> None:
    pin(env, TWO)
    with agent(env), pytest.raises(RefusedError) as refused:
        await_agent(env, ONE)
    assert "would go back to that at once" in refused.value.message and "calls@222222222222" in refused.value.message
    assert "pull" in str(refused.value.hint) and desires(env) == []


@pytest.mark.parametrize("pinned", [None, ONE])
def test_one_that_pins_nothing_or_the_same_may_be_told_once_its_checkout_knows_the_release(
    env: Environment, pinned: str | None
) -> None:
    pin(env, pinned)
    with agent(env):
        with pytest.raises(RefusedError, match="does not know"):
            await_agent(env, ONE)
        pointer = Path("../there/releases/calls@111111111111.dvc")
        pointer.parent.mkdir()
        pointer.write_text("")
        await_agent(env, ONE)


def test_one_that_follows_a_branch_is_waited_for_until_it_pins_the_release(env: Environment) -> None:
    with agent(env, follows="origin/main") as held:
        arriving = threading.Timer(0.05, lambda: held.record.append("desired", release=ONE, commit="c"))
        arriving.start()
        await_agent(env, ONE)
        arriving.join()
        assert desires(env) == [ONE]
        await_agent(env, ONE)


def test_a_pin_that_the_branch_never_gets_is_refused_with_what_it_pins_and_why_it_stays(env: Environment) -> None:
    with agent(env, follows="origin/main") as held:
        held.record.append("desired", release=TWO, commit="c0ffee")
        held.record.append("pulled", upstream="origin/main", commit="c0ffee" * 6, author="Ada", why="not signed")
        with pytest.raises(RefusedError) as refused:
            await_agent(env, ONE)
    for words in ("origin/main", "c0ffeec0ffee", "not signed", "pins calls@222222222222", ONE):
        assert words in refused.value.message
    assert desires(env) == [TWO]


def test_an_agent_that_ends_meanwhile_is_waited_for_no_longer(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_over, "PIN_SECONDS", 600)
    with agent(env, follows="origin/main"):
        looks = iter([holder_of(env), None])
        monkeypatch.setattr(hand_over, "holder_of", lambda env: next(looks))
        with pytest.raises(ExternalError, match="ended before it pinned"):
            await_agent(env, ONE)


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        (f"name: x\nrelease: {ONE}  # by hand\n", ONE),
        (f"release: '{ONE}'\n", ONE),
        ("release: null\n", None),
        ("release:\n", None),
        ("release: ~ # none\nother: x\n", None),
        ("name: x\n", None),
    ],
)
def test_the_pin_of_another_checkout_is_read_whatever_else_its_yaml_says(
    tmp_path: Path, text: str, pinned: str | None
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert pin_in(tmp_path / "x.yaml") == pinned
    assert pin_in(tmp_path / "none.yaml") is None
