"""The front door is thin: light imports, every YAML shipped is good, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.check import schemas
from tests.paths import ROOT
from tests.support.terminal import run_on_terminal

pytestmark = pytest.mark.unit
SHIPPED = sorted(
    path for folder in ("finetune", "gates", "deploy", "smoke") for path in (ROOT / "configs" / folder).rglob("*.yaml")
)


def tunegate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "tunegate.py", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_some_yaml_is_shipped_and_all_of_it_is_good() -> None:
    assert SHIPPED
    run = tunegate("check", *(str(path.relative_to(ROOT)) for path in SHIPPED))
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_yaml_opens_with_the_command_that_runs_it(path: Path) -> None:
    assert path.read_text(encoding="utf8").startswith("# tunegate ")


def test_the_command_line_imports_nothing_that_help_would_wait_for() -> None:
    slow = {"pydantic", "ruamel.yaml", "rich", "jinja2", "httpx", "torch"}
    code = f"import sys, tunegate; print({slow} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "set()\n"


def test_help_and_check_never_import_torch() -> None:
    code = (
        "import sys, tunegate, configs.check, configs.environment.config; "
        "print(bool({'torch', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "False"
    )


def test_a_wrong_file_exits_2_with_its_name_and_no_traceback(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("")
    run = tunegate("check", str(wrong))
    assert run.returncode == 2 and "wrong.yaml" in run.stderr and "Traceback" not in run.stderr


def test_every_command_has_help_with_an_example() -> None:
    import typer

    from tunegate import app

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        text = CliRunner().invoke(app, [name, "--help"]).output
        assert "tunegate" in text and command.help, name


def test_exported_schemas_are_current() -> None:
    for name, text in schemas().items():
        assert (ROOT / "configs/schema" / name).read_text(encoding="utf8") == text, (
            "run: tunegate check --export-schemas"
        )


@pytest.mark.unit
def test_sigterm_lets_a_command_clean_up_as_ctrl_c_does() -> None:
    code = (
        "import time, tunegate\n"
        "@tunegate.app.command()\n"
        "def hang() -> None:\n"
        "    try:\n"
        "        print('begun', flush=True); time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "tunegate.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "hang"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode, "goes on from here" in err) == ("cleaned up\n", 143, True)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(
    no_color: str, coloured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    (tmp_path / "wrong.yaml").write_text("")
    code = f"import sys, tunegate; sys.argv = ['tunegate', 'check', {str(tmp_path / 'wrong.yaml')!r}]\n"
    seen = run_on_terminal(code + "try: tunegate.main()\nexcept SystemExit: pass")
    assert "wrong.yaml" in seen and ("\x1b[31m" in seen) == coloured
