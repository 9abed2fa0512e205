"""dvc.yaml: the data's way, in order, for every config, and no stage run for a change that it does not see."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.paths import ROOT
from tunegate import app

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value")  # inside DVC
STAGES = ["prepare", "train", "quantize", "evaluate", "gate"]
# Searched by `tunegate sweep`, trained to be refused, or for GPUs: no part of what is reproduced.
LEFT_OUT = {"calls-spoiled", "sentiment-sweep", "llama-8b-lora", "llama-8b-qlora-24gb", "llama-70b-qlora-8"}
# Writes files, reads git, brings bytes that are named by their digest: decides nothing that a stage puts out.
PLUMBING = (
    "infra/boot.py",
    "infra/checkpoints/",
    "infra/dvc/",
    "infra/engines/",
    "infra/files/",
    "infra/git/",
    "infra/hub.py",
    "infra/kubernetes/",
    "infra/masking.py",
    "infra/mlflow/",
    "infra/nvml.py",
    "infra/processes.py",
    "infra/signing.py",
    "infra/state/",
    "infra/terminal.py",
)


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
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf8").splitlines()) <= 116
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


@pytest.mark.unit
@pytest.mark.parametrize("stage", ["prepare", "quantize", "evaluate"])
def test_a_stage_that_makes_tokens_itself_sees_the_code_of_it(stages: dict[str, Any], stage: str) -> None:
    """The rows may stay as they are, to the byte, and be asked about otherwise."""
    seen = {str(dep.def_path) for dep in stages[f"{stage}@smoke"].deps}
    assert {"infra/tokenizer.py", "infra/chat_template.py", "infra/loss_mask.py", "infra/served_messages.py"} <= seen
