"""The commands that only look: what they print for people and machines, how they end, and what TAB offers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tunegate
from infra.terminal import complete_environment
from serve.record.record import Record
from tests.paths import ROOT
from tests.serve.conftest import LOCAL

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("local")]
RELEASE = "calls@sha256:" + "a" * 64
RECEIPT = {
    "from": {"slot": "blue", "release": RELEASE},
    "to": {"slot": "green", "release": RELEASE.replace("a", "b")},
    "at": "2026-11-25T12:00:00.000+00:00",
    "strategy": "canary",
    "capacity": None,
    "streams_open_at_switch": 11,
    "streams_open_at_flip": {"blue": 11, "green": 0},
    "streams_completed": 11,
    "streams_cut": 0,
    "streams_left_by_client": 0,
    "longest_drain_seconds": 2.5,
    "flip_milliseconds": 3.1,
    "requests_failed": 0,
    "requests_by_release": {RELEASE: 7},
    "watch": ["error rate: fine", "answers: inconclusive"],
}


@pytest.fixture
def record(local: Path) -> Record:
    record = Record(Path("state/events.jsonl"))
    record.append("desired", release=RELEASE)
    record.append("refused", "green", why="parity is bad")
    return record


def said(*arguments: str) -> str:
    result = CliRunner().invoke(tunegate.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_events_are_lines_for_people_or_json_lines_for_machines(record: Record) -> None:
    assert [line[22:] for line in said("events", "local").splitlines()] == [
        f"-      desired    release=calls@{'a' * 12}",
        "green  refused    parity is bad",
    ]
    (line,) = said("events", "local", "--json", "--kind", "refused", "--kind", "paged").splitlines()
    assert json.loads(line)["facts"] == {"why": "parity is bad"} and "desired" not in said(
        "events", "local", "--limit", "1"
    )


def test_logs_are_printed_as_they_were_written(record: Record) -> None:
    Path("state/green.log").write_text("one\ntwo\nthree\n")
    assert said("logs", "local", "--slot", "green", "--lines", "2") == "two\nthree\n"


@pytest.mark.parametrize(
    "command",
    [["events", "local", "--follow"], ["logs", "local", "--slot", "blue", "-f"], ["status", "local", "--watch"]],
    ids=str,
)
def test_ctrl_c_ends_a_look_well(record: Record, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    Path("state/blue.log").write_text("one\n")
    monkeypatch.setattr(time, "sleep", interrupt)
    before = record.path.read_bytes()
    assert said(*command).splitlines() and record.path.read_bytes() == before


def test_a_real_ctrl_c_ends_a_real_follower_with_0_and_leaves_no_trace(record: Record) -> None:
    command = [sys.executable, str(ROOT / "tunegate.py"), "events", "local", "--follow"]
    # a background job of a script, as this test may be, ignores it
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heeding
    )
    assert (
        process.stdout is not None and "desired" in process.stdout.readline() and "refused" in process.stdout.readline()
    )
    record.append("paused")
    assert "paused" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "", "") and [event.kind for event in record.read()] == [
        "desired",
        "refused",
        "paused",
    ]


def test_a_receipt_is_a_figure_a_line_with_short_releases() -> None:
    for at in ("120000.000+0000", "130000.000+0000"):
        Path("state/receipts").mkdir(parents=True, exist_ok=True)
        Path(f"state/receipts/2026-11-25T{at}.json").write_text(json.dumps(RECEIPT))
    lines = [line.strip() for line in said("receipt", "local").splitlines()]
    for line in (
        f"from  blue  calls@{'a' * 12}",
        "streams open at flip  blue: 11, green: 0",
        f"requests by release  calls@{'a' * 12}: 7",
    ):
        assert line in lines
    assert "watch  error rate: fine; answers: inconclusive" in lines and not any(
        "capacity" in line or "{" in line for line in lines
    )
    assert (
        len(said("receipt", "local", "--list").splitlines()) == 2
        and json.loads(said("receipt", "local", "--json")) == RECEIPT
    )


def test_a_receipt_names_what_was_lost_a_line_each() -> None:
    Path("state/receipts").mkdir(parents=True, exist_ok=True)
    one: dict[str, object] = {"at": "2026-11-25T13:00:01Z", "key": "team", "slot": "blue", "server": "blue-2"}
    named = [one | {"request_id": name, "status": 200, "termination": "SD", "bytes_out": 9} for name in ("r1", "r2")]
    found = RECEIPT | {"seconds_watched": 60.0, "lost": {"named": named, "more": 5}}
    Path("state/receipts/2026-11-25T130000.000+0000.json").write_text(json.dumps(found))
    lines = [line.strip() for line in said("receipt", "local").splitlines()]
    at = lines.index("lost  2026-11-25T13:00:01Z  blue-2  SD 200  9 bytes  team  r1")
    assert lines[at + 1 : at + 3] == ["2026-11-25T13:00:01Z  blue-2  SD 200  9 bytes  team  r2", "and 5 more"]
    assert json.loads(said("receipt", "local", "--json")) == found | {"lost_since": {"named": [], "more": 0}}


@pytest.mark.parametrize("command", ["status", "receipt", "events", "logs"])
def test_each_helps_with_examples(command: str) -> None:
    assert f"tunegate {command} local" in said(command, "--help").split("Examples:")[1]


@pytest.mark.parametrize(("begun", "offered"), [("", ["local", "production"]), ("lo", ["local"]), ("x", [])])
def test_tab_offers_the_environments_there_are(begun: str, offered: list[str]) -> None:
    Path("configs/deploy/production.yaml").write_text(LOCAL)
    assert complete_environment(begun) == offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("status lo", "local"),
        ("keys list lo", "local"),
        ("deploy lo", "local"),
        ("agent lo", "local"),
        ("logs local --slot gr", "green"),
    ],
)
def test_the_shell_gets_them_from_every_command(words: str, offered: str) -> None:
    completing = {
        "_TUNEGATE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"tunegate {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    result = CliRunner().invoke(tunegate.app, [], env=completing, prog_name="tunegate")
    assert result.stdout.split() == [offered]


def test_samples_of_both_slots_become_one_file_in_order_of_time_that_only_its_owner_reads(local: Path) -> None:
    from serve.load.samples import read_trace

    folder = Path("state/samples")
    folder.mkdir(parents=True)
    rows = [
        {"at": at, "path": "/v1/completions", "body": {"prompt": str(at)}, "answer": {"text": "x"}}
        for at in (1.0, 2.0, 3.0)
    ]
    (folder / "green-1.jsonl").write_text(f"{json.dumps(rows[2])}\n{json.dumps(rows[0])}\n")
    (folder / "blue-1.jsonl").write_text(f"{json.dumps(rows[1])}\n")
    assert json.loads(said("samples", "local", "all.parquet", "--json")) == {"samples": 3, "file": "all.parquet"}
    assert read_trace(Path("all.parquet")) == rows
    assert Path("all.parquet").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("asked", [[RELEASE], ["a" * 12], [f"x-tunegate-release: {RELEASE.partition('@')[2]}"]])
def test_trace_says_what_is_here_and_what_would_bring_the_rest(record: Record, asked: list[str]) -> None:
    lines = said("trace", *asked).splitlines()
    assert [line.split()[0] for line in lines if line[:13].strip()] == [
        "answer",
        "environment",
        "release",
        "verdict",
        "run",
        "config",
        "data",
        "commit",
        "merge",
    ]
    assert "x desired" in lines[1] and "missing: its pointer is not in this checkout; try: git pull" in lines[3]


def test_trace_reads_an_answers_headers_from_stdin_and_writes_json(record: Record) -> None:
    headers = f"HTTP/1.1 200 OK\r\nX-Tunegate-Release: {RELEASE.partition('@')[2]}\r\nX-Tunegate-Slot: green\r\n\r\n"
    found = json.loads(CliRunner().invoke(tunegate.app, ["trace", "-", "--json"], input=headers).stdout)
    assert (
        found["links"][0]["facts"] == {"release": RELEASE.partition("@")[2], "slot": "green"}
        and found["whole"] is False
    )
    assert found["links"][1]["facts"] == {"x": "desired, requested"}
