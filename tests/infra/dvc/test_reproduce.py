"""`tunegate repro` on a small pipeline with the real DVC: what is done is not done again, not even on another machine,
and a refusal stays a refusal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from configs.errors import ExternalError, InconclusiveError, InputError, RefusedError, TunegateError
from infra.dvc.reproduce import STAGES, reproduce
from tests.paths import ROOT

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the latter inside DVC
PIPELINE = """vars:
  - configs/dvc.yaml
stages:
  quantize:
    matrix: {config: "${vars[0].configs}"}
    cmd: sh stage.sh quantize
    deps: [config.yaml]
    outs: ["build/${item.config}/release"]
  gate:
    matrix: {config: "${vars[0].configs}"}
    cmd: sh stage.sh gate
    deps: ["build/${item.config}/release"]
    outs: ["build/${item.config}/gate"]
"""
RUN = "name: smoke\ntask: causal-lm\nbase: {package: x}\ndata: {source: bfcl}\ntrain: {max_steps: 3}\ngate: gate.yaml\n"
STAGE = """case $1 in quantize) folder=release ;; *) folder=gate ;; esac
mkdir -p build/smoke/$folder
echo "$1 of $(cat config.yaml)" > build/smoke/$folder/content
[ "$1" != gate ] || exit $(cat code)
"""


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    (folder / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".dvc/config").write_text(
        "[core]\n    remote = storage\n    analytics = false\n['remote \"storage\"']\n    url = ../../remote\n"
    )
    for name, text in {
        "dvc.yaml": PIPELINE,
        "stage.sh": STAGE,
        "config.yaml": "first",
        "code": "0",
        ".gitignore": "/build\n",
        "gate.yaml": "rules: []\n",
        "configs/finetune/smoke.yaml": RUN,
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def test_stages_run_up_to_the_one_that_is_wanted_and_only_once() -> None:
    assert reproduce("smoke", "quantize") == ["quantize@smoke"]
    assert not Path("build/smoke/gate").exists()
    assert reproduce("smoke", "gate") == ["gate@smoke"]
    assert reproduce("smoke", "gate") == []
    Path("config.yaml").write_text("second")
    assert reproduce("smoke", "gate") == ["quantize@smoke", "gate@smoke"]


def test_with_lock_and_remote_another_machine_makes_nothing_again() -> None:
    reproduce("smoke", "gate", push=True)
    for folder in ("build", ".dvc/cache"):
        shutil.rmtree(folder)
    assert reproduce("smoke", "gate") == []
    assert Path("build/smoke/gate/content").read_text() == "gate of first\n"


def test_what_another_jobs_artifacts_brought_is_not_made_again_and_can_be_pushed() -> None:
    """A job on a machine of its own: the folders and the lock are there, DVC's cache is not."""
    reproduce("smoke", "quantize")
    shutil.rmtree(".dvc/cache")
    assert reproduce("smoke", "gate") == ["gate@smoke"]
    shutil.rmtree(".dvc/cache")
    assert reproduce("smoke", "gate", push=True) == []
    for folder in ("build", ".dvc/cache"):
        shutil.rmtree(folder)
    assert reproduce("smoke", "gate") == []
    assert Path("build/smoke/release/content").read_text() == "quantize of first\n"


def test_artifacts_that_are_not_what_the_lock_says_are_made_again() -> None:
    reproduce("smoke", "gate")
    shutil.rmtree(".dvc/cache")
    Path("build/smoke/release/content").write_text("something else\n")
    assert reproduce("smoke", "gate") == ["quantize@smoke"]
    assert Path("build/smoke/release/content").read_text() == "quantize of first\n"


def test_what_the_remote_has_lost_is_made_here() -> None:
    reproduce("smoke", "gate", push=True)
    for folder in ("build", ".dvc/cache", "../remote"):
        shutil.rmtree(folder)
    assert reproduce("smoke", "gate") == ["quantize@smoke", "gate@smoke"]


def test_without_push_the_remote_gets_nothing() -> None:
    reproduce("smoke", "gate")
    assert not Path("../remote").exists()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("1", RefusedError), ("2", InputError), ("3", ExternalError), ("4", InconclusiveError), ("137", ExternalError)],
)
def test_a_stage_that_fails_ends_it_with_the_stages_own_code(code: str, kind: type[TunegateError]) -> None:
    Path("code").write_text(code)
    with pytest.raises(kind, match=f"exited with {code}") as caught:
        reproduce("smoke", "gate")
    assert type(caught.value) is kind
    assert caught.value.hint == "sh stage.sh gate"
    assert Path("build/smoke/gate/content").exists(), "its report is what the reviewer wants to see"


def test_a_config_that_is_not_here_is_an_input_error() -> None:
    with pytest.raises(InputError, match="not in the pipeline, expected one of: smoke"):
        reproduce("other", "gate")


def test_a_new_config_is_run_without_an_edit_of_any_page() -> None:
    Path("configs/finetune/new.yaml").write_text(RUN.replace("name: smoke", "name: new"))
    Path("stage.sh").write_text(STAGE.replace("build/smoke", "build/new"))
    assert reproduce("new", "gate") == ["quantize@new", "gate@new"]


def test_the_stages_are_those_of_the_page() -> None:
    from ruamel.yaml import YAML

    assert tuple(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf8"))["stages"]) == ("inputs", *STAGES)
