"""What each engine that starts a training's processes is told beside their number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from configs.section import Section

Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class Slurm(Section):
    """Of sbatch (slurm.schedmd.com/sbatch.html)."""

    partition: Word | None = None
    account: Word | None = None
    time: str | None = Field(
        None,
        pattern=r"^(\d+|\d+:\d{2}|\d+:\d{2}:\d{2}|\d+-\d+(:\d{2}){0,2})$",
        description="limit, as 30, 12:00:00 or 2-00:00:00; a minute before its end the job goes back into the queue",
    )
    gpus_per_node: int | None = Field(None, ge=1, le=64)
    cpus_per_task: int | None = Field(
        None, ge=1, le=4096, description="of each node; null: launch.processes times launch.threads"
    )
    options: list[Annotated[Word, StringConstraints(pattern=r"^--[a-z]")]] = Field(
        [], description="further options of sbatch, as --qos=high"
    )


class Ray(Section):
    """Of a Ray cluster that runs."""

    address: Word | None = Field(
        None, description="HOST:PORT of its head, from a machine of the cluster; null: RAY_ADDRESS, or the one here"
    )
    gpus_per_node: int = Field(0, ge=0, le=64)
    cpus_per_node: int | None = Field(None, ge=1, le=4096, description="null: launch.processes times launch.threads")


class Kubernetes(Section):
    """Jobs of a cluster. `volume`: a claim that every pod can write (ReadWriteMany), the checkout at its root."""

    namespace: str = Field("default", pattern=DNS_LABEL)
    kind: Literal["job", "trainjob"] = Field(
        "job", description="job: batch/v1, an Indexed Job and a headless Service; trainjob: Kubeflow Trainer's"
    )
    image: Word | None = Field(None, description="with tunegate and its extra train, by digest")
    volume: str | None = Field(None, pattern=DNS_LABEL, description="the claim under which build/ lies")
    secret: str | None = Field(
        None, pattern=DNS_LABEL, description="its keys are in each pod's environment: logins of stores, as AWS_…"
    )
    context: Word | None = Field(None, description="of the kubeconfig; null: the current one, or the pod's own account")
    queue: str | None = Field(None, pattern=DNS_LABEL, description="of Kueue (kueue.x-k8s.io/queue-name)")
    runtime: str = Field("torch-distributed", pattern=DNS_LABEL, description="of a trainjob: ClusterTrainingRuntime")
    gpus_per_node: int = Field(0, ge=0, le=64)
    cpus_per_node: int | None = Field(None, ge=1, le=4096, description="null: launch.processes times launch.threads")
    memory: str | None = Field(None, pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti)?$", description="of each pod, as 64Gi")

    @model_validator(mode="after")
    def runtime_has_the_login(self) -> Kubernetes:
        if self.kind == "trainjob" and self.secret:
            raise ValueError("no secret with kind trainjob, which patches no envFrom: name it in the runtime")
        return self
