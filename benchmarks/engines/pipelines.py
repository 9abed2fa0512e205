"""The rendered Airflow DAG, run by the real Airflow of PyPI over stages that only end with a code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.prove import Row, run, tested, tunegate

FOLDER = Path("build/prove/airflow")
AIRFLOW = "apache-airflow==3.3.*"
# Stands for tunegate: notes what it was asked and ends with the code of the stage in question.
STAND_IN = """#!/bin/sh
echo "$1" >> "$PROVE_FOLDER/ran"
[ "$1" = "$PROVE_STAGE" ] && exit "$PROVE_CODE"
exit 0
"""
DRIVE = """
import datetime, json, sys
sys.path.insert(0, ".")
import smoke
for task in smoke.tasks.values():
    task.retry_delay = datetime.timedelta(0)
run = smoke.inconclusive.dag.test()
states = {one.task_id: str(one.state) for one in run.get_task_instances()}
print("SEEN", json.dumps([str(run.state), states]))
"""
# Stage, its code: how the run ends, how often that stage ran, how publishing and the branch end.
CASES = {
    ("none", 0): ("success", 0, "success", "skipped"),
    ("gate", 1): ("failed", 1, "upstream_failed", "skipped"),
    ("gate", 2): ("failed", 1, "upstream_failed", "skipped"),
    ("gate", 4): ("failed", 1, "skipped", "failed"),
    ("train", 3): ("failed", 3, "upstream_failed", "skipped"),
    ("train", 137): ("failed", 3, "upstream_failed", "skipped"),
}


def pipelines() -> list[Row]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    stand_in = FOLDER / "checkout/.venv/bin/tunegate"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(STAND_IN, encoding="utf8")
    stand_in.chmod(0o755)
    dag = tunegate(
        "pipeline", "configs/finetune/smoke.yaml", "--airflow", "--checkout", str(stand_in.parents[2].absolute())
    )
    (FOLDER / "smoke.py").write_text(dag, encoding="utf8")
    run(".uv/bin/uv", "venv", "-q", "--python", ".venv/bin/python", str(FOLDER / "venv"))
    run(".uv/bin/uv", "pip", "install", "-q", "--python", str(FOLDER / "venv/bin/python"), AIRFLOW)
    run(str(FOLDER / "venv/bin/airflow"), "db", "migrate", environment=airflow_environment())
    seen = {case: ended(*case) for case in CASES}
    right = [case for case in CASES if seen[case] == CASES[case]]
    wrong = "; ".join(f"{case}: {seen[case]}" for case in CASES if case not in right)
    return [
        Row(
            f"{AIRFLOW} runs the rendered DAG as exit codes say: {', '.join(str(code) for _, code in CASES)}",
            f"{len(right)} of {len(CASES)}{'; ' + wrong if wrong else ''}",
            f"{len(CASES)} of {len(CASES)}",
            len(right) == len(CASES),
        ),
        *tested("the rendered Argo Workflow against hera's models, every text as it is", "tests/infra/pipelines"),
    ]


def airflow_environment() -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str((FOLDER / "home").absolute()),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER.absolute()),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": "",
    }


def ended(stage: str, code: int) -> tuple[str, int, str, str]:
    """How the run ended, how often the stage ran, and how publishing and the branch ended."""
    ran = FOLDER / "ran"
    ran.write_text("", encoding="utf8")
    stated = {"PROVE_FOLDER": str(FOLDER.absolute()), "PROVE_STAGE": stage, "PROVE_CODE": str(code)}
    command = [str((FOLDER / "venv/bin/python").absolute()), "-c", DRIVE]
    environment = os.environ | airflow_environment() | stated
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=300)
    last = next((line for line in done.stdout.splitlines() if line.startswith("SEEN ")), None)
    if last is None:
        return done.stderr[-200:], 0, "", ""
    state, states = json.loads(last.removeprefix("SEEN "))
    return state, ran.read_text(encoding="utf8").split().count(stage), states["publish"], states["inconclusive"]
