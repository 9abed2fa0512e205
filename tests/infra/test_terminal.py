"""What is said while something is waited for."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time

import pytest

from infra import terminal
from tests.paths import ROOT

pytestmark = pytest.mark.unit


def run_on_terminal(code: str) -> str:
    """What `code` leaves on a terminal of its own, stdout and stderr together."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65_536):
            written += part
    except OSError:  # the other end is closed: EIO on Linux
        pass
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def test_on_a_terminal_a_spinner_tells_what_how_long_and_how_long_as_a_rule() -> None:
    seen = run_on_terminal(
        "import time; from infra.terminal import waiting\n"
        "with waiting('vLLM starts', 40): time.sleep(1.3)\n"
        "print('done')"
    )
    assert "vLLM starts, 0 s (40 s as a rule)" in seen and "vLLM starts, 1 s (40 s as a rule)" in seen
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


def test_of_two_nested_waits_only_the_outer_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "REPEAT_SECONDS", 0.05)
    for _ in range(2):  # and the lock is free again after each
        with terminal.waiting("outer"), terminal.waiting("inner"):
            time.sleep(0.12)
        said = capsys.readouterr().err
        assert "outer" in said and "inner" not in said


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
