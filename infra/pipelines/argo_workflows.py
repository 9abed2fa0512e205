"""An Argo Workflow of the pipeline (Argo Workflows 3.4 and later): one pod a stage, over a volume with the checkout.

An inconclusive verdict has a task of its own, which runs only after it and ends with 4 too, so that the workflow is
failed and never looks like a pass; Argo knows no third end.
"""

from __future__ import annotations

import shlex

from configs.errors import InputError
from configs.section import JsonObject
from infra.pipelines.stages import INCONCLUSIVE, INCONCLUSIVE_SAYS, OUTSIDE_FAILED, Stage, judge_of

RETRIES, MOUNT = 2, "/workspace"
ENDED_FROM_OUTSIDE = (137, 143)  # SIGKILL, also for want of memory, and SIGTERM, as when a node is drained
BACKOFF = {"duration": "5m", "factor": "2"}


def argo_workflow(name: str, stages: list[Stage], image: str, claim: str) -> JsonObject:
    """`image`: with tunegate set up as in the checkout; `claim`: the PersistentVolumeClaim that holds the checkout.
    Raises InputError for a text that Argo would read as a template."""
    for text in (name, image, claim, *(word for stage in stages for word in stage.command)):
        if "{{" in text:
            raise InputError(f"found {text!r}, expected no {{{{ in it: Argo would fill it in", hint="another name")
    templates = [template_of(stage, image) for stage in stages]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": f"tunegate-{name.replace('_', '-')}-",
            "labels": {"app.kubernetes.io/name": "tunegate"},
        },
        "spec": {
            "entrypoint": "pipeline",
            "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": claim}}],
            "templates": [
                {"name": "pipeline", "dag": {"failFast": False, "tasks": tasks_of(stages)}},
                *templates,
                inconclusive_template(image),
            ],
        },
    }


def tasks_of(stages: list[Stage]) -> list[JsonObject]:
    judge = judge_of(stages)
    tasks: list[JsonObject] = [
        {"name": stage.name, "template": stage.name}
        | ({"depends": " && ".join(f"{before}.Succeeded" for before in stage.after)} if stage.after else {})
        for stage in stages
    ]
    branch = f"{{{{tasks.{judge}.exitCode}}}} == {INCONCLUSIVE}"
    return [
        *tasks,
        {"name": "inconclusive", "template": "inconclusive", "depends": f"{judge}.Failed", "when": branch},
    ]


def template_of(stage: Stage, image: str) -> JsonObject:
    """Tried again where something outside failed, or the pod was lost (Error); for 1, 2 and 4 never."""
    codes = ", ".join(map(str, (OUTSIDE_FAILED, *ENDED_FROM_OUTSIDE)))
    again = f"lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [{codes}]"
    return {
        "name": stage.name,
        "retryStrategy": {
            "limit": str(RETRIES),
            "retryPolicy": "Always",
            "expression": again,
            "backoff": dict(BACKOFF),
        },
        "container": {
            "image": image,
            "command": [stage.command[0]],
            "args": list(stage.command[1:]),
            "workingDir": MOUNT,
            "volumeMounts": [{"name": "checkout", "mountPath": MOUNT}],
        },
    }


def inconclusive_template(image: str) -> JsonObject:
    script = f"echo {shlex.quote(INCONCLUSIVE_SAYS)} >&2; exit {INCONCLUSIVE}"
    return {
        "name": "inconclusive",
        "container": {"image": image, "command": ["sh", "-c"], "args": [script]},
    }
