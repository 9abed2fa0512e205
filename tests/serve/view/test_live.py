"""The live view: all of a state without a terminal, figures only where there are any, and no failure that ends it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import serve.view.live
from configs.errors import ExternalError, InputError, RefusedError
from configs.release import short
from infra.vllm.counters import Counted, Histogram
from serve.deploy import deploy
from serve.operate import pause
from serve.view.live import Look, View, in_one_line, picture, print_lines, show_live
from tests.support.fake_machine import World, environment
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
EDGES = [0.1, 0.2, 0.4]


def first(*counts: int) -> dict[str, Any]:
    """Times to the first token as vLLM's metrics would give them."""
    return {"answers": sum(counts), "first": Histogram(edges=EDGES, counts=[*counts, 0], total=1.0)}


@dataclass
class Measured(World):
    """`metrics`: what vLLM says, by port."""

    metrics: dict[int, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.chdir(tmp_path)
    world = Measured()
    world.install(monkeypatch)
    monkeypatch.setattr(
        serve.view.live, "read_metrics", lambda base_url: world.metrics.get(int(base_url.rpartition(":")[2]), {})
    )
    return world


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the view's clock on."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def printed(seen: Look) -> str:
    console = Console(width=180, record=True, file=io.StringIO())
    console.print(picture(seen))
    return console.export_text()


def first_token(seen: Look) -> dict[str, float] | None:
    assert "error" not in seen
    return seen["slots"]["blue"]["first_token_ms"]


def test_one_look_shows_slots_shares_streams_times_what_is_next_and_the_last_events(world: Measured) -> None:
    env, old, new = environment(), publish("old"), publish("new")
    deploy(env, old)
    world.fails = {"prove parity": RefusedError("parity [/is] bad\n[bold]very")}
    with pytest.raises(RefusedError):
        deploy(env, new)
    pause(env)
    world.count("blue", open=3, total=41)
    world.metrics = {8101: first(50, 40, 10)}
    seen = View(lambda: env).look()
    text, line = printed(seen), in_one_line(seen)
    for part in (
        f"blue * │ {short(old)}",
        "alive",
        "100 %",
        "41",
        "100 / 300 ms",
        "(paused)",
        "parity [/is] bad [bold]very",
        "last deploy",
        "Ctrl-C",
    ):
        assert part in text
    assert (
        f"router up  blue* {short(old)} alive 100 % 3 open first token 100 / 300 ms  green -  next " in line
        and line.endswith("paused  refused")
    )


def test_a_server_that_is_down_or_says_nothing_has_no_times_and_the_rest_is_shown(world: Measured) -> None:
    env = environment()
    deploy(env, publish("old"))
    assert first_token(View(lambda: env).look()) is None
    world.servers.clear()
    world.metrics = {8101: first(1, 0, 0)}
    seen = View(lambda: env).look()
    assert first_token(seen) is None and "dead" in printed(seen) and "first token -" in in_one_line(seen)


def test_times_are_those_of_the_last_minute_and_at_first_those_since_the_server_started(
    world: Measured, clock: Callable[[float], None]
) -> None:
    env = environment()
    deploy(env, publish("old"))
    view = View(lambda: env)
    found = []
    for counts in ((100, 0, 0), (100, 0, 0), (100, 100, 0), (100, 100, 100)):
        world.metrics = {8101: first(*counts)}
        found.append(first_token(view.look()))
        clock(40)
    assert found == [{"p50": 50.0, "p95": 95.0}, None, {"p50": 150.0, "p95": 195.0}, {"p50": 200.0, "p95": 380.0}]
    assert len(view.readings) == 3


def test_a_server_that_began_anew_meanwhile_counts_from_its_own_start(
    world: Measured, clock: Callable[[float], None]
) -> None:
    env = environment()
    deploy(env, publish("old"))
    view = View(lambda: env)
    for counts in ((100, 7, 0), (0, 0, 2)):
        world.metrics = {8101: first(*counts)}
        seen = view.look()
    assert first_token(seen) == {"p50": 300.0, "p95": 390.0}


@pytest.mark.parametrize(
    "error", [InputError("a wrong\nYAML", hint="mend it"), ExternalError("no answer"), PermissionError("not yours")]
)
def test_whatever_fails_is_shown_and_the_next_look_goes_on(world: Measured, error: Exception) -> None:
    env, fails = environment(), [error]

    def read() -> Any:
        if fails:
            raise fails.pop()
        return env

    view = View(read)
    seen = view.look()
    assert f"error: {str(error).splitlines()[0]}" in printed(seen) and len(in_one_line(seen).splitlines()) == 1
    assert "router down" in in_one_line(view.look())


def test_without_a_terminal_it_is_a_line_a_look_for_people_or_machines(
    world: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    lines = print_lines(View(environment), 7, as_json=True)
    assert [json.loads(next(lines))["router"]["running"] for _ in range(3)] == [False] * 3 and waited == [7, 7]
    assert "router down  blue -  green -" in next(print_lines(View(environment), 7, as_json=False))


def test_on_a_terminal_it_is_drawn_anew_until_ctrl_c_which_gives_the_terminal_back(
    world: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with (tmp_path / "screen").open("w+") as screen:
        with pytest.raises(KeyboardInterrupt):
            show_live(View(environment), Console(file=screen, force_terminal=True, width=120, height=40), 1)
        screen.seek(0)
        drawn = screen.read()
    left = drawn.rpartition("router down")[2]
    assert (
        drawn.count("router down") == 3 and "\x1b[?25h" in left and "\x1b[?1049l" in left
    )  # cursor and screen as they were


def test_counters_without_tokens_have_no_times() -> None:
    view = View(environment)
    view.keep({"blue": Counted(answers=3)})
    assert view.window("blue") is None and view.window("green") is None
