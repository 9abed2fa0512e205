"""dvc.yaml: the data's way, in order, for every config, and no stage run for a change that it does not see."""

from __future__ import annotations

import ast
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.paths import ROOT
from tunegate import app

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value")  # inside DVC
STAGES = ["prepare", "train", "quantize", "evaluate", "gate"]
# Searched by `tunegate sweep`, or trained to be refused: no part of what is reproduced.
LEFT_OUT = {"calls-spoiled", "sentiment-sweep"}
# Writes files, reads git, brings bytes that are named by their digest: decides nothing that a stage puts out.
PLUMBING = (
    "infra/dvc/",
    "infra/files/",
    "infra/git/",
    "infra/hub.py",
    "infra/masking.py",
    "infra/mlflow/",
    "infra/signing.py",
    "infra/terminal.py",
)
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


@pytest.fixture(scope="module")
def pipeline() -> dict[str, Any]:
    """dvc.yaml, and under `made` the list of configs that is made for it."""
    pages = [
        YAML(typ="safe").load((ROOT / name).read_text(encoding="utf8")) for name in ("dvc.yaml", "configs/dvc.yaml")
    ]
    return pages[0] | {"made": pages[1]}


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    """Every stage by name, as DVC itself resolves it."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        return {stage.name: stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"}


def configs(pipeline: dict[str, Any]) -> list[str]:
    found: list[str] = pipeline["made"]["vars"][0]["configs"]
    return found


@pytest.mark.unit
def test_dvc_resolves_every_stage_of_every_config(stages: dict[str, Any], pipeline: dict[str, Any]) -> None:
    assert sorted(stages) == sorted(["inputs", *(f"{stage}@{name}" for stage in STAGES for name in configs(pipeline))])


@pytest.mark.unit
def test_every_shipped_run_is_in_the_pipeline_or_left_out_on_purpose(pipeline: dict[str, Any]) -> None:
    shipped = {path.stem for path in (ROOT / "configs/finetune").rglob("*.yaml")}
    assert len(shipped) >= 2
    assert shipped - LEFT_OUT == set(configs(pipeline)), "run: .venv/bin/python -m infra.dvc.inputs"


@pytest.mark.unit
def test_metrics_are_listed_for_every_config(pipeline: dict[str, Any]) -> None:
    assert pipeline["made"]["metrics"] == [f"../build/{name}/eval/metrics.json" for name in configs(pipeline)]


@pytest.mark.unit
def test_the_page_reads_in_the_order_of_the_way(pipeline: dict[str, Any], stages: dict[str, Any]) -> None:
    assert list(pipeline["stages"]) == ["inputs", *STAGES]
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf8").splitlines()) <= 100
    for name in configs(pipeline):
        outs = [[str(out.def_path) for out in stages[f"{stage}@{name}"].outs] for stage in STAGES]
        assert outs == [[f"build/{name}/{folder}"] for folder in ("data", "trained", "release", "eval", "gate")]
        for earlier, later in itertools.pairwise(STAGES[1:]):
            made = str(stages[f"{earlier}@{name}"].outs[0].def_path)
            assert any(str(dep.def_path).startswith(made) for dep in stages[f"{later}@{name}"].deps), (earlier, later)


@pytest.mark.unit
def test_every_command_is_one_of_the_command_line(stages: dict[str, Any]) -> None:
    import typer

    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a Group, by construction
    for name, stage in stages.items():
        if name == "inputs":
            assert stage.cmd == ".venv/bin/python -m infra.dvc.inputs"
            continue
        program, command, config = stage.cmd.split()
        assert (program, f"{command}@{Path(config).stem}") == (".venv/bin/tunegate", name)
        assert command in known


@pytest.mark.unit
def test_every_file_that_a_stage_depends_on_is_here(stages: dict[str, Any]) -> None:
    paths = {str(dep.def_path) for stage in stages.values() for dep in stage.deps}
    missing = {
        path for path in paths if not path.startswith(("build/", "configs/finetune/")) and not (ROOT / path).exists()
    }
    assert not missing


def imported(module: str) -> set[str]:
    """The files of train, eval and infra that `module` comes to import, itself among them."""
    found, waiting = set[str](), [module]
    while waiting:
        path = waiting.pop()
        if path in found or path.split("/")[0] not in ("train", "eval", "infra") or not (ROOT / path).exists():
            continue
        found.add(path)
        nodes = [
            node
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf8")))
            if isinstance(node, ast.ImportFrom) and node.module
        ]
        names = [
            name
            for node in nodes
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if name
        ]
        waiting += [f"{name.replace('.', '/')}.py" for name in names]  # a module may be imported by name from its room
    return found


@pytest.mark.unit
def test_a_stage_sees_all_the_code_that_decides_its_output(stages: dict[str, Any]) -> None:
    """A stage's code is among its own deps or those of a stage before it; else old results would be left standing."""
    entries = {"prepare": ["train/prepare.py"], "train": ["train/finetune.py"], "quantize": ["train/quantize.py"]}
    entries |= {"evaluate": ["eval/evaluate.py"], "gate": ["eval/gate.py", "eval/report/write.py"]}
    seen: set[str] = set()
    for stage in STAGES:
        seen |= {str(dep.def_path) for dep in stages[f"{stage}@smoke"].deps}
        used = {path for entry in entries[stage] for path in imported(entry)}
        unseen = [path for path in sorted(used) if not path.startswith((*seen, *PLUMBING))]
        assert not unseen, f"{stage}: add to its deps in dvc.yaml, or to PLUMBING here"


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


@pytest.mark.integration
def test_repro_runs_the_whole_way_then_only_what_changed(copy: Path) -> None:
    smoke = "configs/finetune/smoke.yaml"
    assert reproduce() == (True, STAGES)
    assert reproduce() == (True, [])
    edit(smoke, "max_steps: 3", "max_steps: 4")
    assert reproduce() == (True, STAGES[1:])  # the rows stay
    edit(smoke, "configs/gates/smoke.yaml", "configs/gates/calls.yaml")
    assert reproduce() == (True, STAGES[2:])  # the adapter stays; the release carries its config
    edit("configs/deploy/local.yaml", "name: local", "name: local # pinned")
    assert reproduce() == (True, ["evaluate", "gate"])  # another champion, perhaps, to be measured on these rows
    Path("eval/metrics/aggregate.py").write_text("# measured otherwise\n")
    assert reproduce() == (True, ["evaluate"])  # the same figures came out, so the verdict stands
    edit("configs/finetune/calls-v2.yaml", "max_steps: 3", "max_steps: 9")
    assert reproduce() == (True, [])


@pytest.mark.integration
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


@pytest.mark.integration
@pytest.mark.parametrize(
    ("section", "value", "ran"),
    [
        ("problem", "multi_label", STAGES),
        ("serving", "{max_model_len: 4096}", STAGES[2:]),
        ("base", "{path: weights}", STAGES),
    ],
)
def test_every_key_that_a_stage_reads_runs_it_again(copy: Path, section: str, value: str, ran: list[str]) -> None:
    Path("weights").mkdir()
    assert reproduce() == (True, STAGES)
    write_config("smoke", **{section: value})
    assert reproduce() == (True, ran)
    if section == "base":
        Path("weights/config.json").write_text("{}")
        assert reproduce() == (True, ["prepare", "train"])


@pytest.mark.integration
def test_a_new_config_is_in_the_pipeline_without_another_edit(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert reproduce() == (True, STAGES)
    write_config("tickets")
    assert reproduce() == (False, [])
    assert "tickets came or went" in capfd.readouterr().err
    assert reproduce("gate@tickets") == (True, STAGES)
    Path("configs/finetune/calls-v2.yaml").unlink()
    assert reproduce() == (False, []) and reproduce() == (True, [])


@pytest.mark.integration
def test_a_config_that_cannot_be_read_keeps_no_other_from_running(copy: Path) -> None:
    edit("configs/finetune/calls-v2.yaml", "max_steps: 3", "max_steps: many")
    assert reproduce() == (True, STAGES)


@pytest.mark.integration
def test_a_refusal_fails_the_pipeline_and_is_judged_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "gate")
    assert reproduce() == (False, STAGES)
    assert reproduce() == (False, ["gate"])
    monkeypatch.delenv("FAIL")
    assert reproduce() == (True, ["gate"])


@pytest.mark.integration
def test_a_failed_training_keeps_its_checkpoints(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "train")
    checkpoint = Path("build/smoke/checkpoints/checkpoint-4/complete")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for _ in range(2):
        assert not reproduce()[0]
        assert checkpoint.exists()


@pytest.mark.integration
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
