"""The house stands: rooms and sub-rooms import downward only, nothing goes in a circle, no file and no folder is too
full. tests/support/rooms.py has the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.support.rooms import (
    BLOCK,
    MAY_IMPORT,
    ROOMS,
    arrows,
    box_links,
    circle,
    file_links,
    files,
    imports,
    table,
    upward,
)

pytestmark = pytest.mark.unit
# Tests of what several files do together; any other is named for its module, test_MODULE or test_MODULE_about.
BEHAVIOURS = {
    "infra/dvc/test_stores.py",
    "infra/haproxy/test_limits.py",
    "infra/haproxy/test_openai_client.py",
    "infra/haproxy/test_refusals.py",
    "infra/haproxy/test_requests.py",
    "infra/mlflow/test_stores.py",
    "infra/test_monitoring.py",
    "serve/switch/test_kills.py",
    "train/tasks/test_tasks.py",
    "train/tasks/test_tasks_served.py",
    "train/test_peers.py",
    "train/test_pipeline.py",
}
MOST_LINES, MOST_FILES = 300, 16


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_meet_through_files_only(room: str) -> None:
    for path in files(ROOT, room):
        found = {dotted.split(".")[0] for dotted in imports(path)} & (
            ROOMS.keys() | {"benchmarks", "tests", "tunegate", "demo"}
        )
        assert found <= ROOMS[room] | {room}, f"{path} imports {found}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_sub_room_imports_those_below_it_only(room: str) -> None:
    assert arrows(ROOT, room)
    assert upward(ROOT, room) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_sub_room_stands_in_the_table_and_says_what_it_is(room: str) -> None:
    there = {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}
    assert there == MAY_IMPORT[room].keys()
    assert all((ROOT / room / name / "__init__.py").read_text(encoding="utf8").startswith('"""') for name in there)


def test_no_box_and_no_file_imports_in_a_circle() -> None:
    assert [found for room in ROOMS if (found := circle(box_links(ROOT, room)))] == []
    assert circle(file_links(ROOT)) == []


def test_only_the_front_door_imports_commands() -> None:
    """Also within a room: what `tunegate COMMAND` does can be called without its options."""
    for path in (path for room in ROOMS for path in files(ROOT, room)):
        if path.parent.name != "commands" and path.name != "commands.py":
            assert not [dotted for dotted in imports(path) if ".commands" in dotted], path


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A room of two sub-rooms as the table has them: plan may import record."""
    for name in ("serve/record/state.py", "serve/plan/planner.py", "serve/deploy.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "serve/plan/planner.py").write_text("from serve.record.state import State\n")
    return tmp_path


def test_a_house_in_order_has_no_arrow_up_and_no_circle(house: Path) -> None:
    assert upward(house, "serve") == [] and circle(file_links(house)) == []
    assert box_links(house, "serve") == {"plan": {"record"}}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("serve/record/state.py", "from serve.plan.planner import plan"),
        ("serve/record/state.py", "def f():\n    from serve.plan import planner"),
        ("serve/record/state.py", "import serve.plan.planner"),
        ("serve/plan/planner.py", "from serve.deploy import deploy"),
    ],
)
def test_a_planted_arrow_up_is_found(house: Path, file: str, line: str) -> None:
    (house / file).write_text(line + "\n")
    assert len(upward(house, "serve")) == 1 and file in upward(house, "serve")[0]


def test_a_planted_circle_is_found(house: Path) -> None:
    (house / "serve/record/state.py").write_text("from serve.plan.planner import plan\n")
    assert circle(box_links(house, "serve")) == ["plan", "record", "plan"]
    assert circle(file_links(house)) == ["serve/plan/planner.py", "serve/record/state.py", "serve/plan/planner.py"]


def test_the_pages_table_of_arrows_is_of_this_tree() -> None:
    found = BLOCK.search((ROOT / "docs/architecture.md").read_text(encoding="utf8"))
    assert found and found[0] == f"{found[1]}{table(ROOT)}{found[2]}", "run: .venv/bin/python -m tests.support.rooms"


def test_no_file_of_code_is_too_long_and_no_folder_too_full() -> None:
    found = [*ROOT.glob("*.py"), *(path for folder in (*ROOMS, "tests", "benchmarks") for path in files(ROOT, folder))]
    assert len(found) > 300
    assert {
        str(path): lines for path in found if (lines := len(path.read_text(encoding="utf8").splitlines())) > MOST_LINES
    } == {}
    folders = [path.parent for path in found if "tests" not in path.relative_to(ROOT).parts]
    assert {str(folder): number for folder in set(folders) if (number := folders.count(folder)) > MOST_FILES} == {}


@pytest.mark.parametrize("room", [*ROOMS, "benchmarks"])
def test_a_test_lies_where_its_module_lies_and_bears_its_name(room: str) -> None:
    for path in sorted((ROOT / "tests" / room).rglob("test_*.py")):
        name = path.relative_to(ROOT / "tests")
        if name.as_posix() not in BEHAVIOURS:
            modules = {found.stem for found in (ROOT / name.parent).glob("*") if not found.name.startswith("_")}
            about = path.stem.removeprefix("test_")
            assert any(about == module or about.startswith(f"{module}_") for module in modules), name
