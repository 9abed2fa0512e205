"""Where an environment's state lies: outside of every checkout, each name's own, decided late and by nothing of this
machine that a schema could hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.check import schemas
from configs.environment import state
from configs.environment.config import DeployConfig
from configs.environment.state import declared_folder, home_of, known_homes, resolve
from configs.errors import InputError
from configs.section import NAME_PATTERN
from tests.paths import ROOT

pytestmark = pytest.mark.unit
NAMES = st.from_regex(NAME_PATTERN.replace("$", r"\Z"))
NOWHERE = Path("/nonexistent/tunegate")
HOMES = st.sampled_from([None, "", "/srv/state", "/home/a/.local/state", "relative/state"])


@given(NAMES, NAMES, st.sampled_from([None, "/srv/state", "/srv/a b"]), HOMES, st.sampled_from([None, "", "/home/a"]))
def test_it_is_absolute_outside_of_build_and_never_that_of_another_name(
    one: str, other: str, given_home: str | None, xdg: str | None, home: str | None
) -> None:
    found, theirs = (resolve(name, given_home, xdg, home, NOWHERE) for name in (one, other))
    assert found.is_absolute() and found.name == one
    assert not found.is_relative_to(Path("build").absolute())
    assert (found == theirs) == (one == other)
    assert one == other or not (found.is_relative_to(theirs) or theirs.is_relative_to(found))


def test_the_variable_comes_first_then_a_system_install_then_the_users_own(tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.mkdir()
    everything = ("live", "/srv/state", "/xdg", "/home/a")
    assert resolve(*everything, system) == Path("/srv/state/live")
    assert resolve("live", None, "/xdg", "/home/a", system) == system / "live"
    assert resolve("live", None, "/xdg", "/home/a", NOWHERE) == Path("/xdg/tunegate/live")
    assert resolve("live", None, "relative", "/home/a", NOWHERE) == Path("/home/a/.local/state/tunegate/live")
    assert resolve("live", "", None, "/home/a", NOWHERE) == Path("/home/a/.local/state/tunegate/live")


def test_what_the_system_serves_is_no_users_own_even_where_the_user_may_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job of CI by another user would start a second stack."""
    (tmp_path / "live").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert resolve("live", None, "/xdg", "/home/a", tmp_path) == tmp_path / "live"
    assert resolve("mine", None, "/xdg", "/home/a", tmp_path) == Path("/xdg/tunegate/mine")


def test_a_system_folder_that_comes_later_takes_no_state_from_who_runs(tmp_path: Path) -> None:
    system = tmp_path / "system"
    before = resolve("live", None, "/xdg", "/home/a", system)
    system.mkdir()
    assert resolve("live", None, "/xdg", "/home/a", system) == before


def test_a_home_that_is_relative_or_that_make_clean_removes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(state.VARIABLE, "state")
    with pytest.raises(InputError, match="found 'state', expected an absolute path"):
        home_of("live")
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "build/state"))
    with pytest.raises(InputError, match="make clean"):
        home_of("live")


def test_a_yaml_may_say_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.VARIABLE, str(tmp_path))
    facts = {"name": "live", "model": "m"}
    for said, found in ((None, tmp_path / "live"), ("state/x", Path("state/x")), ("/srv/x", Path("/srv/x"))):
        assert declared_folder(DeployConfig.model_validate({**facts, "state_dir": said})) == found
    for wrong in ("../x", "/srv/../x", ""):
        with pytest.raises(ValueError, match="without"):
            DeployConfig.model_validate({**facts, "state_dir": wrong})


def test_every_environment_with_state_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "none"))
    assert known_homes() == []
    for name in ("live", "staging", ".live.moving"):
        (tmp_path / "none" / name).mkdir(parents=True)
    assert [path.name for path in known_homes()] == ["live", "staging"]


def test_neither_a_schema_nor_a_config_holds_a_path_of_this_machine() -> None:
    assert '"default": null' in str(schemas()["deploy.json"])
    config = DeployConfig.model_validate({"name": "live", "model": "m"})
    assert config.model_dump()["state_dir"] is None
    assert not any(text in schemas()["deploy.json"] for text in (str(Path.home()), os.environ[state.VARIABLE]))


def test_nothing_is_decided_when_the_module_is_imported(tmp_path: Path) -> None:
    program = (
        "import os, configs.environment.state as state; os.environ['TUNEGATE_STATE_HOME'] = '/srv/late';"
        "print(state.home_of('live'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "/srv/late/live", done.stderr
