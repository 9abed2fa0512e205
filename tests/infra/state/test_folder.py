"""Where commands find an environment's state: at home, or where an earlier tunegate kept it in this checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.environment.state import home_of
from configs.errors import InputError
from infra.state.folder import ForeignStateError, owners_among, state_folder
from tests.support.old_records import started_line

pytestmark = pytest.mark.unit


def made(name: str, first_port: int = 8101, **facts: Any) -> DeployConfig:
    return DeployConfig.model_validate(
        {"name": name, "model": "m", "gate": None, "slot_ports": (first_port, first_port + 1), **facts}
    )


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEGATE_STATE_HOME", str(tmp_path / "home"))
    Path("configs/deploy").mkdir(parents=True)
    return tmp_path


def write_yaml(name: str, first_port: int = 8101, **facts: Any) -> None:
    lines = [f"{key}: {value}\n" for key, value in facts.items()]
    text = f"name: {name}\nmodel: m\ngate: null\nslot_ports: [{first_port}, {first_port + 1}]\n" + "".join(lines)
    Path(f"configs/deploy/{name}.yaml").write_text(text)


def write_record(folder: str, *ports: int) -> Path:
    path = Path(folder) / "events.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"kind":"keyed"}\n' + "".join(started_line(port) for port in ports))
    return path.parent.absolute()


def test_without_any_state_it_is_the_home_and_looking_makes_nothing(checkout: Path) -> None:
    assert state_folder(made("live")) == home_of("live")
    assert not (checkout / "home").exists()


def test_the_earlier_place_is_read_until_the_home_has_a_record(checkout: Path) -> None:
    old = write_record("build/deploy/live")
    assert state_folder(made("live")) == old
    write_record(str(home_of("live")))
    assert state_folder(made("live")) == home_of("live")


def test_a_folder_that_the_yaml_says_is_taken_as_it_is_said(checkout: Path) -> None:
    write_record("build/deploy/live")
    assert state_folder(made("live", state_dir="state/x")) == Path("state/x")


def test_the_shared_folder_is_the_environments_whose_servers_had_its_ports(checkout: Path) -> None:
    write_yaml("local", 8101)
    write_yaml("live", 8201)
    old = write_record("build/deploy/local", 8201, 8202)
    assert state_folder(made("live", 8201)) == old
    assert state_folder(made("local", 8101)) == home_of("local")


def test_before_any_server_was_started_it_is_the_one_that_it_is_named_for(checkout: Path) -> None:
    write_yaml("local", 8101)
    write_yaml("live", 8201)
    old = write_record("build/deploy/local")
    assert state_folder(made("local", 8101)) == old
    assert state_folder(made("live", 8201)) == home_of("live")


@pytest.mark.parametrize("ports", [(8101, 8201), (9001,)])
def test_of_whom_it_is_not_known_it_is_nobodys_until_a_person_says_so(checkout: Path, ports: tuple[int, ...]) -> None:
    """Two that shared it, or ports that the YAML has no more."""
    write_yaml("local", 8101)
    write_yaml("live", 8201)
    old = write_record("build/deploy/local", *ports)
    with pytest.raises(InputError) as refused:
        state_folder(made("live", 8201))
    assert "one of live, local" in refused.value.message
    hint = str(refused.value.hint).partition("   (")[0]
    assert os.system(hint) == 0, "the command that it names helps"
    assert state_folder(made("live", 8201)) == home_of("live") and not old.exists()
    assert (home_of("live") / "events.jsonl").is_file()
    assert state_folder(made("local", 8101)) == home_of("local"), "which has none"


def test_one_whose_ports_are_others_since_keeps_its_state_where_it_can_be_no_other(checkout: Path) -> None:
    write_yaml("live", 8201)
    old = write_record("build/deploy/local", 9001)
    assert state_folder(made("live", 8201)) == old


def test_a_folder_that_another_yaml_says_is_that_ones(checkout: Path) -> None:
    write_yaml("other", 8301, state_dir="build/deploy/live")
    write_record("build/deploy/live", 8101)
    assert state_folder(made("live")) == home_of("live")


def test_what_is_left_of_one_that_has_a_home_is_no_others(checkout: Path) -> None:
    write_yaml("local", 8101)
    write_record(str(home_of("local")))
    write_record("build/deploy/local", 8101)
    assert state_folder(made("live", 8201)) == home_of("live")


def test_a_state_of_another_user_is_said_to_be_one(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home_of("live").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ForeignStateError, match=r"another user, .*, keeps live here"):
        state_folder(made("live"))


CONFIGS = st.lists(
    st.builds(made, st.sampled_from(["local", "live", "staging"]), st.sampled_from([8101, 8103, 8201])),
    min_size=1,
    unique_by=lambda one: one.name,
)


@given(CONFIGS, st.sets(st.integers(8101, 8104) | st.integers(8201, 8202) | st.just(9001)))
def test_there_is_always_an_owner_and_who_had_its_ports_is_among_them(
    configs: list[DeployConfig], ports: set[int]
) -> None:
    found = owners_among(configs, ports)
    assert found and set(found) <= {one.name for one in configs}
    for one in configs:
        if ports & set(one.slot_ports):
            assert one.name in found
