"""An Airflow DAG of the pipeline (Airflow 3, its standard provider): one file, which imports nothing of tunegate.

An inconclusive verdict skips what comes after the gate and runs `inconclusive` in its place, which ends the run as
failed: Airflow knows no third end, and a run that decided nothing must not look like a pass.
"""

from __future__ import annotations

from pathlib import Path

from infra.pipelines.stages import INCONCLUSIVE, INCONCLUSIVE_SAYS, OUTSIDE_FAILED, Stage, judge_of

RETRIES, RETRY_MINUTES = 2, 5
HEAD = '''\
"""{title}"""

import subprocess
from datetime import timedelta

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

CHECKOUT = {checkout}
COMMANDS = {commands}


def run(stage):
    """3 (something outside failed) or a signal is tried again; 4 (inconclusive) skips what comes after; 1 (refused) and
    2 (wrong input) would only come again."""
    code = subprocess.run(COMMANDS[stage], cwd=CHECKOUT).returncode
    if code == {inconclusive}:
        raise AirflowSkipException(f"{{stage}}: inconclusive")
    if code == {outside} or code < 0 or code > 128:
        raise AirflowException(f"{{stage}} ended with {{code}}")
    if code:
        raise AirflowFailException(f"{{stage}} ended with {{code}}")


def say_inconclusive():
    raise AirflowFailException({says})


with DAG({dag}, schedule=None, catchup=False, max_active_runs=1, tags=["tunegate"]):
    tasks = {{
        stage: PythonOperator(
            task_id=stage,
            python_callable=run,
            op_args=[stage],
            retries={retries},
            retry_delay=timedelta(minutes={minutes}),
        )
        for stage in COMMANDS
    }}
    inconclusive = PythonOperator(
        task_id="inconclusive", python_callable=say_inconclusive, trigger_rule="all_skipped", retries=0
    )
'''


def airflow(name: str, stages: list[Stage], checkout: Path) -> str:
    """Python source. `checkout`: where tunegate is set up on Airflow's workers."""
    head = HEAD.format(
        title=f"tunegate: {name}, from its rows to a published release (tunegate pipeline --airflow).",
        checkout=repr(str(checkout)),
        commands=commands_of(stages),
        inconclusive=INCONCLUSIVE,
        outside=OUTSIDE_FAILED,
        says=repr(INCONCLUSIVE_SAYS),
        dag=repr(f"tunegate-{name}"),
        retries=RETRIES,
        minutes=RETRY_MINUTES,
    )
    links = [f"    tasks[{before!r}] >> tasks[{stage.name!r}]\n" for stage in stages for before in stage.after]
    return "".join([head, *links, f"    tasks[{judge_of(stages)!r}] >> inconclusive\n"])


def commands_of(stages: list[Stage]) -> str:
    lines = [f"    {stage.name!r}: {list(stage.command)!r},\n" for stage in stages]
    return "".join(["{\n", *lines, "}"])
