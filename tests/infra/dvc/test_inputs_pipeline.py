"""`dvc repro` over this checkout's own pipeline, with a command line that only notes that it was called: no stage runs
for a change that it does not see, and each for one that it does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT
from tests.test_pipeline import STAGES, stages

__all__ = ["stages"]
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the latter inside DVC
FAKE = """#!/bin/sh
name=$(basename "$2" .yaml)
echo "$1 $name" >> calls.log
[ "$FAIL" = "$1" ] && exit 1
folder=$1
case $1 in prepare) folder=data ;; train) folder=trained ;; quantize) folder=release ;; evaluate) folder=eval ;; esac
mkdir -p "build/$name/$folder"
seen=rows
[ "$1" = prepare ] || seen=$(cat "$2")
for file in content manifest.json metrics.json; do echo "$1 $seen" > "build/$name/$folder/$file"; done
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: dict[str, Any]) -> Path:
    """This checkout's pipeline and all that it depends on, with a command line that only notes that it was called."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    deps = {str(dep.def_path) for stage in stages.values() for dep in stage.deps}
    no_need = shutil.ignore_patterns("node_modules", "__pycache__")
    for name in {*deps, "configs", "infra", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"}:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not name.startswith("build/"):
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=no_need)
        elif source.is_file() and not name.startswith("build/"):
            shutil.copyfile(source, target)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / ".venv/bin/tunegate").write_text(FAKE)
    for fake in (tmp_path / ".venv/bin").iterdir():
        fake.chmod(0o755)
    shutil.rmtree(tmp_path / "configs/finetune")
    monkeypatch.chdir(tmp_path)
    for name in ("smoke", "calls-v2"):
        write_config(name)
    subprocess.run([".venv/bin/python", "-m", "infra.dvc.inputs"], check=False)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".git/dvc-site"))
    return tmp_path


def write_config(name: str, **sections: str) -> None:
    """A config of rows of its own; a section is its YAML in one line."""
    rows, path = Path(f"data/{name}.csv"), Path(f"configs/finetune/{name}.yaml")
    for file in (rows, path):
        file.parent.mkdir(parents=True, exist_ok=True)
    rows.write_text("text,label\ngood,1\nbad,0\n")
    whole = {
        "name": name,
        "task": "sequence-classification",
        "base": "{package: x}",
        "data": f"{{source: files, files: [data/{name}.csv], labels: ['0', '1']}}",
        "train": "{max_steps: 3}",
        "gate": "configs/gates/smoke.yaml",
    }
    path.write_text("".join(f"{key}: {value}\n" for key, value in (whole | sections).items()))


def reproduce(target: str = "gate@smoke") -> tuple[bool, list[str]]:
    """Whether `dvc repro` came to its end, and which stages it ran."""
    from dvc.exceptions import ReproductionError
    from dvc.repo import Repo

    log = Path("calls.log")
    log.unlink(missing_ok=True)
    with Repo(".") as repo:
        try:
            repo.reproduce(targets=[target])
            done = True
        except ReproductionError:
            done = False
    return done, [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf8")
    assert old in text
    Path(path).write_text(text.replace(old, new, 1), encoding="utf8")


def test_repro_runs_the_whole_way_then_only_what_changed(copy: Path) -> None:
    smoke = "configs/finetune/smoke.yaml"
    assert reproduce() == (True, STAGES)
    assert reproduce() == (True, [])
    edit(smoke, "max_steps: 3", "max_steps: 4")
    assert reproduce() == (True, STAGES[1:])  # the rows stay
    edit(smoke, "configs/gates/smoke.yaml", "configs/gates/calls.yaml")
    assert reproduce() == (True, STAGES[2:])  # the adapter stays; the release carries its config
    edit("configs/deploy/local.yaml", "name: local", "name: local # pinned")
    assert reproduce() == (True, [])  # a run that names no environment has no champion
    write_config("smoke", gate="configs/gates/calls.yaml", train="{max_steps: 4}", production="local")
    assert reproduce() == (True, STAGES[2:])
    edit("configs/deploy/local.yaml", "name: local", "name: local # pinned anew")
    assert reproduce() == (True, ["evaluate", "gate"])  # another champion, perhaps, to be measured on these rows
    Path("eval/measure/answers.py").write_text("# measured otherwise\n")
    assert reproduce() == (True, ["evaluate"])  # the same figures came out, so the verdict stands
    edit("configs/finetune/calls-v2.yaml", "max_steps: 3", "max_steps: 9")
    edit("configs/gates/ner.yaml", "rules:", "rules: # of others")
    edit("configs/deploy/staging.yaml", "name: staging", "name: staging # of others")
    assert reproduce() == (True, [])


def test_a_changed_row_runs_what_depends_on_it_and_a_comment_nothing(copy: Path) -> None:
    assert reproduce() == (True, STAGES)
    Path("data/smoke.csv").touch()
    assert reproduce() == (True, [])
    edit("data/calls-v2.csv", "good", "fine")
    assert reproduce() == (True, [])
    edit("data/smoke.csv", "good", "fine")
    assert reproduce() == (True, ["prepare"])  # the fake's rows are the same for all that, so the weights stand
    edit("train/tasks/classifier.py", "import", "import  ")
    assert reproduce() == (True, ["train"])
    edit("configs/finetune/smoke.yaml", "name: smoke", "# said otherwise\nname: smoke")
    assert reproduce() == (True, [])


def test_every_key_that_a_stage_reads_runs_it_again(copy: Path) -> None:
    Path("weights").mkdir()
    assert reproduce() == (True, STAGES)
    changed = {}
    for section, value, ran in (
        ("problem", "multi_label", STAGES),
        ("serving", "{max_model_len: 4096}", STAGES[2:]),
        ("base", "{path: weights}", STAGES),
    ):
        changed[section] = value
        write_config("smoke", **changed)
        assert reproduce() == (True, ran), section
    Path("weights/config.json").write_text("{}")
    assert reproduce() == (True, ["prepare", "train"])


def test_a_new_config_is_in_the_pipeline_without_another_edit(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert reproduce() == (True, STAGES)
    write_config("tickets")
    assert reproduce() == (False, [])
    assert "tickets came or went" in capfd.readouterr().err
    assert reproduce("gate@tickets") == (True, STAGES)
    Path("configs/finetune/calls-v2.yaml").unlink()
    assert reproduce() == (False, []) and reproduce() == (True, [])


def test_a_config_that_lies_elsewhere_is_run_by_its_link(copy: Path) -> None:
    from infra.dvc.inputs import enlist

    write_config("own")
    elsewhere = Path("configs/finetune/own.yaml").rename("../own-run.yaml")
    assert enlist(elsewhere) == "own"
    reproduce()  # it came
    assert reproduce("gate@own") == (True, STAGES)
    edit("data/own.csv", "good", "fine")
    assert reproduce("gate@own") == (True, ["prepare"])
    edit(str(elsewhere), "max_steps: 3", "max_steps: 4")
    assert reproduce("gate@own") == (True, STAGES[1:])


def test_a_config_that_cannot_be_read_keeps_no_other_from_running(copy: Path) -> None:
    edit("configs/finetune/calls-v2.yaml", "max_steps: 3", "max_steps: many")
    assert reproduce() == (True, STAGES)


def test_a_refusal_fails_the_pipeline_and_is_judged_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "gate")
    assert reproduce() == (False, STAGES)
    assert reproduce() == (False, ["gate"])
    monkeypatch.delenv("FAIL")
    assert reproduce() == (True, ["gate"])


def test_a_failed_training_keeps_its_checkpoints(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "train")
    checkpoint = Path("build/smoke/checkpoints/checkpoint-4/complete")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for _ in range(2):
        assert not reproduce()[0]
        assert checkpoint.exists()


def test_outputs_go_to_the_remote_and_come_back(copy: Path) -> None:
    from dvc.repo import Repo

    assert reproduce("train@smoke")[0]
    made = Path("build/smoke/trained/content").read_text()
    with Repo(".") as repo:
        repo.push("train@smoke")
        for folder in ("build/smoke", ".dvc/cache"):
            shutil.rmtree(folder)
        repo.pull("train@smoke")
    assert Path("build/smoke/trained/content").read_text() == made
