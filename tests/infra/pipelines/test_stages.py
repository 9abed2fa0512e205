"""The stages are those of dvc.yaml, each after what it reads of; an inconclusive gate is a branch of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from configs.errors import InputError
from infra.files.yaml_text import as_yaml
from infra.pipelines.airflow import airflow
from infra.pipelines.argo_workflows import argo_workflow
from infra.pipelines.stages import Stage, read_stages, stages_of
from tests.paths import ROOT
from tunegate import app

pytestmark = pytest.mark.unit
NAMES = ["prepare", "train", "quantize", "evaluate", "gate", "publish"]
WORDS = st.text(min_size=1, max_size=12).filter(lambda text: "{{" not in text and text.isprintable())
IDS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@st.composite
def pipelines(draw: st.DrawFn) -> list[Stage]:
    """Any that hangs together: each stage after some of those before it, the last after the one before."""
    names = draw(st.lists(IDS, min_size=2, max_size=6, unique=True))
    stages = []
    for number, name in enumerate(names):
        last = number == len(names) - 1
        after = (
            [names[number - 1]]
            if last
            else draw(st.lists(st.sampled_from(names[:number]), unique=True))
            if number
            else []
        )
        stages.append(Stage(name, tuple(draw(st.lists(WORDS, min_size=1, max_size=4))), tuple(after)))
    return stages


def test_the_stages_are_those_of_dvc_yaml_and_then_publishing() -> None:
    found = read_stages(Path("configs/finetune/smoke.yaml"), ROOT)
    assert [stage.name for stage in found] == NAMES
    assert [stage.after for stage in found] == [(), *((name,) for name in NAMES[:-1])]
    assert found[0].command == (".venv/bin/tunegate", "prepare", "configs/finetune/smoke.yaml")
    assert found[-1].command == (".venv/bin/tunegate", "releases", "publish", "configs/finetune/smoke.yaml")


def test_a_stage_waits_for_what_it_reads_of_and_not_twice() -> None:
    each = {
        "a": {"cmd": "run a ${item.config}", "deps": ["x"], "outs": ["build/${item.config}/a"]},
        "b": {"cmd": "run b ${item.config}", "deps": ["y"], "outs": ["build/${item.config}/b"]},
        "c": {
            "cmd": "run c ${item.config}",
            "deps": ["build/${item.config}/a/part"],
            "outs": ["build/${item.config}/c"],
        },
        "d": {
            "cmd": "run d ${item.config}",
            "deps": [f"build/${{item.config}}/{out}" for out in ("a", "b", "c")],
            "outs": ["build/${item.config}/d"],
        },
        "listing": {"cmd": "run nothing of a config", "outs": []},
    }
    assert [(stage.name, stage.after) for stage in stages_of(each, "n")] == [
        ("a", ()),
        ("b", ()),
        ("c", ("a",)),
        ("d", ("b", "c")),
        ("publish", ("d",)),
    ]


@pytest.mark.parametrize("path", ["configs/deploy/local.yaml", "configs/finetune/none.yaml", "README.md"])
def test_what_is_no_config_of_the_pipeline_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="configs/finetune"):
        read_stages(Path(path), ROOT)


@given(IDS, pipelines(), WORDS)
@example("x", [Stage("a", ("it's", '"', "\\", "\n"), ()), Stage("b", ("'''", '"""', "{x}"), ("a",))], "a'b\\")
def test_every_text_reaches_airflow_as_it_is(name: str, stages: list[Stage], checkout: str) -> None:
    tree = ast.parse(airflow(name, stages, Path("/") / checkout))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert values["COMMANDS"] == {stage.name: list(stage.command) for stage in stages}
    assert values["CHECKOUT"] == str(Path("/") / checkout)
    shifts = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
    links = {f"tasks[{before!r}] >> tasks[{stage.name!r}]" for stage in stages for before in stage.after}
    assert shifts == links | {f"tasks[{stages[-2].name!r}] >> inconclusive"}


class Skip(Exception): ...


class Fail(Exception): ...


class Again(Exception): ...


def run_of(source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG file's own function `run`, with Airflow's names in place of Airflow."""

    class Anything:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *_: Any) -> None: ...

        def __rshift__(self, other: Any) -> Any:
            return other

    modules: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.exceptions": {"AirflowException": Again, "AirflowFailException": Fail, "AirflowSkipException": Skip},
        "airflow.sdk": {"DAG": Anything},
        "airflow.providers.standard.operators.python": {"PythonOperator": Anything},
    }
    for name, names in modules.items():
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    space: dict[str, Any] = {}
    exec(compile(source, "dag.py", "exec"), space)
    return space["run"]


@pytest.mark.parametrize(
    ("code", "ends"),
    [("0", None), ("1", Fail), ("2", Fail), ("3", Again), ("4", Skip), ("127", Fail), ("137", Again), ("$$", Again)],
)
def test_airflow_tries_again_what_failed_outside_and_never_a_verdict(
    code: str, ends: type[Exception] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"exit {code}" if code != "$$" else "kill -9 $$"
    run = run_of(
        airflow("x", [Stage("a", ("sh", "-c", script), ()), Stage("b", ("true",), ("a",))], tmp_path), monkeypatch
    )
    if ends is None:
        run("a")
    else:
        with pytest.raises(ends):
            run("a")


@given(IDS, pipelines(), WORDS, WORDS)
@example("x", [Stage("a", ("yes", "1e3", "~"), ()), Stage("b", (": #", "- x", "\u2028"), ("a",))], "i@sha256:00", "on")
def test_what_argo_reads_is_what_its_models_know_and_every_text_as_it_is(
    name: str, stages: list[Stage], image: str, claim: str
) -> None:
    from hera.workflows.models import Workflow

    made = yaml.safe_load(as_yaml(argo_workflow(name, stages, image, claim)))
    known = Workflow.model_validate(made).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert {key: known[key] for key in made} == made, "no key that Argo does not know"
    templates = {one["name"]: one for one in made["spec"]["templates"]}
    for stage in stages:
        container = templates[stage.name]["container"]
        assert (*container["command"], *container["args"]) == stage.command and container["image"] == image
    tasks = {task["name"]: task for task in templates["pipeline"]["dag"]["tasks"]}
    judge = stages[-2].name
    assert tasks["inconclusive"]["depends"] == f"{judge}.Failed"
    assert tasks["inconclusive"]["when"] == f"{{{{tasks.{judge}.exitCode}}}} == 4"
    assert tasks[stages[-1].name]["depends"] == f"{judge}.Succeeded", "an inconclusive one is never a pass"


@pytest.mark.parametrize("code", range(6))
def test_argo_tries_again_what_failed_outside_and_never_a_verdict(code: int) -> None:
    stages = read_stages(Path("configs/finetune/smoke.yaml"), ROOT)
    made = argo_workflow("smoke", stages, "i@sha256:00", "c")
    again = {template["retryStrategy"]["expression"] for template in made["spec"]["templates"][1:-1]}
    assert again == {"lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [3, 137, 143]"}
    (expression,) = again
    listed = ast.literal_eval(expression.rpartition(" in ")[2])
    assert (code in listed) == (code == 3)
    assert "retryStrategy" not in made["spec"]["templates"][-1]


def test_argos_branch_says_what_it_is_and_ends_with_4() -> None:
    made = argo_workflow("smoke", read_stages(Path("configs/finetune/smoke.yaml"), ROOT), "i@sha256:00", "c")
    container = made["spec"]["templates"][-1]["container"]
    done = subprocess.run([*container["command"], *container["args"]], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "") and "inconclusive" in done.stderr


def test_a_text_that_argo_would_fill_in_is_refused() -> None:
    with pytest.raises(InputError, match=r"\{\{"):
        argo_workflow("x", [Stage("a", ("{{workflow.uid}}",), ()), Stage("b", ("x",), ("a",))], "i", "c")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "one of --airflow"),
        (["--airflow", "--argo-workflows"], "one of --airflow"),
        (["--argo-workflows"], "without --image"),
    ],
)
def test_the_command_names_what_is_missing(options: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = CliRunner().invoke(app, ["pipeline", "configs/finetune/smoke.yaml", *options])
    assert isinstance(found.exception, InputError) and says in str(found.exception)


def test_the_command_prints_a_file_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = ["pipeline", "configs/finetune/smoke.yaml"]
    compile(CliRunner().invoke(app, [*command, "--airflow"]).stdout, "dag.py", "exec")
    found = CliRunner().invoke(app, [*command, "--argo-workflows", "--image", "i@sha256:00"])
    assert yaml.safe_load(found.stdout)["kind"] == "Workflow"
