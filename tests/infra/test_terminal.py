"""What is said while something is waited for."""

from __future__ import annotations

import io
import json
import re
import sys
import time

import pytest

from infra import terminal
from tests.support.terminal import run_on_terminal

pytestmark = pytest.mark.unit


def test_on_a_terminal_a_spinner_tells_what_how_long_and_how_long_as_a_rule() -> None:
    seen = run_on_terminal(
        "import time; from infra.terminal import waiting\n"
        "with waiting('vLLM starts', 40): time.sleep(2.5)\n"
        "print('done')"
    )
    assert len(set(re.findall(r"vLLM starts, (\d) s \(40 s as a rule\)", seen))) > 1, "the seconds go on"
    assert seen.rstrip().endswith("done") and "\x1b[2K" in seen  # its line is cleared


def test_what_is_printed_meanwhile_is_whole_and_the_cursor_comes_back_after_an_interrupt() -> None:
    seen = run_on_terminal(
        "import sys, time; from infra.terminal import waiting\n"
        "try:\n"
        "  with waiting('rows'):\n"
        "    print('a warning', file=sys.stderr); time.sleep(0.2); raise KeyboardInterrupt\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    assert "a warning" in seen and "interrupted" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_without_a_terminal_a_short_wait_is_silent_and_a_long_one_a_line_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.waiting("rows"):
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(terminal, "REPEAT_SECONDS", 0.05)
    with terminal.waiting("vLLM starts", 40):
        time.sleep(0.3)
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) >= 2
    assert said.err.splitlines()[0] == "still waiting: vLLM starts, 0 s (40 s as a rule)"
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_of_waits_within_each_other_the_innermost_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "REPEAT_SECONDS", 0.05)
    for _ in range(2):  # and the lock is free again after each
        with terminal.waiting("outer"):
            with terminal.waiting("inner"):
                time.sleep(0.12)
            within = capsys.readouterr().err
            time.sleep(0.12)
        after = capsys.readouterr().err
        assert "inner" in within and "outer" not in within and "outer" in after and "inner" not in after


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_nothing_happens_where_stderr_is_closed(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal.waiting("rows"):
        pass


def test_an_error_within_comes_through() -> None:
    with pytest.raises(ValueError, match="boom"), terminal.waiting("rows"):
        raise ValueError("boom")
    with terminal.waiting("rows"):
        pass


def test_a_body_with_a_bar_of_its_own_is_told_in_lines_where_no_terminal_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "REPEAT_SECONDS", 0.05)
    with terminal.telling(lambda: "train demo: step 3 of 9"):
        time.sleep(0.2)
    said = capsys.readouterr().err.splitlines()
    assert said and set(said) == {"train demo: step 3 of 9"}


ROWS: list[dict[str, object]] = [
    {"name": "calls-v2", "reference": f"calls-v2@sha256:{'a' * 64}", "metrics": {"f1": 0.5}, "aliases": [],
     "here": True},
    {"name": "sentiment", "reference": None, "metrics": {"accuracy": 0.9, "f1": 0.75}, "aliases": ["champion"],
     "here": False},
]  # fmt: skip
COLUMNS = ("name", "reference", "metrics", "aliases", "here")


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_table_is_one_line_a_row_and_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal.print_table(ROWS, COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= width and all(line == line.rstrip() for line in lines)
    if width == 200:
        assert lines[1].split() == ["calls-v2", "calls-v2@aaaaaaaaaaaa", "f1", "0.5", "-", "yes"]


def test_a_long_cell_keeps_its_beginning_and_its_end() -> None:
    assert terminal.shorten("configs/deploy/production.yaml", 15) == "configs…on.yaml"
    assert terminal.cell("2026-11-27T01:43:32.123+00:00") == "2026-11-27T01:43:32Z"
    assert terminal.cell(f"sha256:{'b' * 64}") == "bbbbbbbbbbbb"


def test_a_summary_leaves_out_what_is_not_there_and_shortens_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_summary({"steps": 30, "peak memory": None, "next": "tunegate quantize " + "x" * 200})
    assert capsys.readouterr().out == f"steps  30\n next  tunegate quantize {'x' * 200}\n"


def test_machines_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(ROWS, True)
    assert json.loads(capsys.readouterr().out) == ROWS
