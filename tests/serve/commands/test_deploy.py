"""The operator's commands: a pin is touched only for what may serve, output is for people or machines, exit codes say
who was wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import infra.dvc.releases
import infra.mlflow.registry
import serve.deploy
import serve.loadtest
import serve.view.status
import tunegate
from configs.errors import ExternalError, InputError, RefusedError, TunegateError
from configs.verdict import EXIT_CODES, Outcome, Verdict
from serve.pin import pin_release, resolve
from tests.serve.conftest import LOCAL
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
ROWS = [("calls", "a" * 64), ("calls-v2", "b" * 64), ("twin", "c" * 12 + "0" * 52), ("twin", "c" * 12 + "1" * 52)]
REFERENCES = [f"{name}@sha256:{digest}" for name, digest in ROWS]
FOUND = {"environment": "x", "release": None, "slot": None}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, as infra.dvc.releases lists them."""
    rows = [{"name": name, "reference": reference} for (name, _), reference in zip(ROWS, REFERENCES, strict=True)]
    monkeypatch.setattr(infra.dvc.releases, "list_releases", lambda: rows)


@pytest.fixture
def champions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(infra.mlflow.registry, "set_champion", lambda manifest: found.append(manifest.reference))
    return found


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the whole front door."""
    monkeypatch.setattr("sys.argv", ["tunegate", *arguments])
    monkeypatch.setattr(tunegate, "QUIET", {})
    with pytest.raises(SystemExit) as end:
        tunegate.main()
    return int(end.value.code or 0)


def answer(monkeypatch: pytest.MonkeyPatch, name: str, given: dict[str, Any] | TunegateError) -> list[tuple[Any, ...]]:
    """serve.deploy's function `name` returns or raises `given`; the calls."""
    calls: list[tuple[Any, ...]] = []

    def function(*facts: Any) -> dict[str, Any]:
        calls.append(facts)
        if isinstance(given, TunegateError):
            raise given
        return given

    monkeypatch.setattr(serve.view.status if name == "status" else serve.deploy, name, function)
    return calls


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("calls", 0),
        ("calls-v2", 1),
        ("twin", 3),
        ("calls@" + "a" * 12, 0),
        ("calls-v2@sha256:" + "b" * 12, 1),
        (REFERENCES[2], 2),
        ("calls@aa", 0),
    ],
)
def test_a_release_is_found_by_its_name_then_the_newest_or_by_the_start_of_its_digest(
    listed: None, text: str, index: int
) -> None:
    assert resolve(text) == REFERENCES[index]


@pytest.mark.parametrize(
    ("text", "fits"), [("twin@" + "c" * 12, 2), ("nobody", 0), ("call", 0), ("calls@b", 0), ("", 0), ("@", 0)]
)
def test_what_fits_none_or_several_is_an_input_error_that_names_the_published(
    listed: None, text: str, fits: int
) -> None:
    with pytest.raises(
        InputError, match=f"{fits} published releases fit, expected one; published: calls, calls-v2, twin"
    ):
        resolve(text)


@given(index=st.integers(0, len(ROWS) - 1), length=st.integers(13, 64), prefix=st.sampled_from(["", "sha256:"]))
def test_enough_digits_name_one_release(index: int, length: int, prefix: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            infra.dvc.releases,
            "list_releases",
            lambda: [{"name": name, "reference": f"{name}@sha256:{digest}"} for name, digest in ROWS],
        )
        name, digest = ROWS[index]
        assert resolve(f"{name}@{prefix}{digest[:length]}") == REFERENCES[index]


def test_a_pin_changes_its_line_and_leaves_the_comments(local: Path) -> None:
    reference = publish("one")
    assert pin_release("local", "one").release == reference
    assert local.read_text() == LOCAL.replace("null  # pinned", f"{reference}  # pinned")


@pytest.mark.parametrize("fault", ["verdict", "bytes", "name"])
def test_what_may_not_serve_is_refused_before_the_file_is_touched(local: Path, fault: str) -> None:
    publish("one", "fail" if fault == "verdict" else "pass")
    if fault == "bytes":
        next(Path("releases").glob("one@*/release/model.safetensors")).write_text("onE")
    with pytest.raises(InputError if fault == "name" else RefusedError):
        pin_release("local", "two" if fault == "name" else "one")
    assert local.read_text() == LOCAL


def test_deploy_pins_reconciles_to_the_pin_sets_the_alias_and_prints_json(
    local: Path, champions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = publish("one")
    calls = answer(monkeypatch, "deploy", FOUND | {"release": reference})
    result = CliRunner().invoke(tunegate.app, ["deploy", "local", "one", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == FOUND | {"release": reference}
    ((env, asked),) = calls
    assert asked == env.config.release == reference and env.load_gate is None and champions == [reference]
    assert f"release  {reference}" in CliRunner().invoke(tunegate.app, ["deploy", "local"]).stdout and len(calls) == 2


def test_a_plan_of_what_did_not_pass_ends_as_its_deploy_would_and_leaves_the_pin(
    local: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("one", "fail")
    assert main(monkeypatch, "deploy", "local", "one", "--plan") == 1
    said = capsys.readouterr()
    assert "the verdict is fail on one@" in said.err and "tunegate gate configs/finetune/one.yaml" in said.err
    assert said.out == "" and local.read_text() == LOCAL


@pytest.mark.parametrize("found", [FOUND, FOUND | {"release": "one", "waiting": "two"}], ids=["nothing", "waiting"])
def test_the_alias_is_set_for_nothing_but_what_serves(
    local: Path, champions: list[str], monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]
) -> None:
    answer(monkeypatch, "promote", found)
    result = CliRunner().invoke(tunegate.app, ["promote", "local", "--json"])
    assert json.loads(result.stdout) == found and champions == []


def test_people_get_the_receipt_in_one_line_and_machines_all_of_it(
    local: Path, champions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = ("streams_open_at_switch", "streams_completed", "streams_cut", "streams_left_by_client", "requests_failed")
    times = {"longest_drain_seconds": 2.5, "flip_milliseconds": 3.1}
    receipt = {"at": "2026-11-25T12:00:00.000+00:00", "strategy": "canary"} | dict.fromkeys(counts, 7) | times
    answer(monkeypatch, "promote", FOUND | {"receipt": receipt})
    assert json.loads(CliRunner().invoke(tunegate.app, ["promote", "local", "--json"]).stdout)["receipt"] == receipt
    lines = CliRunner().invoke(tunegate.app, ["promote", "local"]).stdout.splitlines()
    assert len(lines) == 4 and "2026-11-25T12:00:00  canary: 7 streams open at the flip" in lines[-1]


def test_a_rollback_pins_what_serves_again_and_sets_the_alias(
    local: Path, champions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = publish("one")
    answer(monkeypatch, "rollback", FOUND | {"release": reference})
    result = CliRunner().invoke(tunegate.app, ["rollback", "local", "--json"])
    assert (
        json.loads(result.stdout)["release"] == reference == champions[0]
        and f"release: {reference}  # pinned by hand" in local.read_text()
    )


@pytest.mark.parametrize("command", ["deploy", "rollback", "status", "promote", "stop"])
@pytest.mark.parametrize(("error", "code"), [(RefusedError, 1), (InputError, 2), (ExternalError, 3)])
def test_an_error_is_one_message_with_its_exit_code_and_leaves_pin_and_champion_alone(
    local: Path,
    champions: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    error: Callable[..., TunegateError],
    code: int,
) -> None:
    local.write_text(LOCAL.replace("null  # pinned", f"{REFERENCES[0]}  # pinned"))
    before = local.read_text()
    answer(monkeypatch, "stop_all" if command == "stop" else command, error("it is so", hint="do this"))
    assert main(monkeypatch, command, "local") == code
    output = capsys.readouterr()
    assert (
        output.err == "error: it is so\n  try: do this\n"
        and output.out == ""
        and local.read_text() == before
        and champions == []
    )


def test_without_a_pin_or_an_environment_the_input_is_wrong(
    local: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = answer(monkeypatch, "deploy", FOUND)
    assert main(monkeypatch, "deploy", "local") == 2 and re.search(
        r"no release is pinned\n  try: tunegate deploy local RELEASE", capsys.readouterr().err
    )
    assert main(monkeypatch, "deploy", "nowhere") == 2 and "configs/deploy/nowhere.yaml" in capsys.readouterr().err
    assert calls == []


def test_status_takes_a_file_as_well_as_a_name_and_passes_on_what_it_found(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = answer(monkeypatch, "status", FOUND | {"events": []})
    for name in ("local", str(local)):
        assert json.loads(CliRunner().invoke(tunegate.app, ["status", name, "--json"]).stdout) == FOUND | {"events": []}
    assert [env.config.name for (env,) in calls] == ["x", "x"]


@pytest.mark.parametrize("outcome", list(EXIT_CODES))
def test_a_load_test_ends_with_the_exit_code_of_its_verdict(
    local: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    calls: list[tuple[Any, ...]] = []
    verdict = Verdict(release=REFERENCES[0], outcome=outcome, results=[])

    def load_test(*facts: Any) -> tuple[dict[str, float], Verdict, Path]:
        calls.append(facts)
        return {"requests": 3}, verdict, Path("report.html")

    monkeypatch.setattr(serve.loadtest, "load_test", load_test)
    result = CliRunner().invoke(tunegate.app, ["loadtest", "local", "--users", "9", "--json"])
    assert result.exit_code == EXIT_CODES[outcome] and json.loads(result.stdout) == {
        "requests": 3,
        "verdict": outcome,
        "report": "report.html",
    }
    CliRunner().invoke(tunegate.app, ["loadtest", "local", "--release", "r", "--ramp", "1,2.5", "--processes", "2"])
    assert [call[1:] for call in calls] == [(None, {"users": 9}), (Path("r"), {"ramp": ["1", "2.5"], "processes": 2})]
