"""Where an environment's model servers run: processes of this machine, or pods of a Kubernetes cluster."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from configs.section import JsonObject, Section

MOST_REPLICAS = 1000
DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"  # RFC 1123
# A registry's name for bytes; a tag may be moved to others.
IMAGE = r"^[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}$"
# oci://REGISTRY/REPOSITORY, s3://BUCKET[/PREFIX], or pvc://CLAIM[/FOLDER] of the namespace.
BYTES = r"^(oci://[a-z0-9][a-z0-9._/:-]*|s3://[a-z0-9][a-z0-9.-]{2,62}(/[A-Za-z0-9._/-]*)?|pvc://[a-z0-9][a-z0-9.-]{0,252}(/[A-Za-z0-9._/-]*)?)$"
Image = Annotated[str, StringConstraints(pattern=IMAGE)]
Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")]
Resource = Annotated[str, StringConstraints(pattern=r"^[a-z0-9A-Z][a-z0-9A-Z./_-]{0,252}$")]


# Of a quantity: the suffixes of Kubernetes' resource.Quantity.
UNITS = {"m": Fraction(1, 1000), "": Fraction(1)}
UNITS |= {letter: Fraction(1000**power) for power, letter in enumerate(("k", "M", "G", "T", "P", "E"), 1)}
UNITS |= {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)}


def amount(text: str | None) -> Fraction | None:
    if text is None:
        return None
    number = text.rstrip("mkKMGTPEi")
    return Fraction(number) * UNITS[text[len(number) :]]


class Local(Section):
    """Processes of the machine that the agent runs on."""

    kind: Literal["local"] = "local"


class Resources(Section):
    """Of each model server's container, by the cluster's own names: cpu, memory, nvidia.com/gpu."""

    requests: dict[Resource, Quantity] = Field({})
    limits: dict[Resource, Quantity] = Field({})

    @model_validator(mode="after")
    def can_be_had(self) -> Self:
        """As the API server has it: of a device all that is asked for is the limit too, and a whole number."""
        wrong = []
        for name in sorted({*self.requests, *self.limits}):
            asked, limit = (amount(given.get(name)) for given in (self.requests, self.limits))
            if "/" in name and not (limit is not None and limit.denominator == 1 and asked in (None, limit)):
                wrong.append(f"limits.{name} a whole number, and no other in requests")
            elif "/" not in name and asked is not None and limit is not None and asked > limit:
                wrong.append(f"requests.{name} of at most limits.{name}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class HttpRoute(Section):
    """A Gateway's route in front, in place of a Service of our own type."""

    gateway: str = Field(pattern=r"^([a-z0-9-]{1,63}/)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
    hostnames: list[Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9.-]{1,250}$")]] = Field([])


class Kubernetes(Section):
    """Pods of one namespace. Git stays the truth: what is applied there by hand is put back."""

    kind: Literal["kubernetes"]
    namespace: str = Field(pattern=DNS_LABEL)
    context: str | None = Field(
        None, min_length=1, description="of the kubeconfig; null: the current one, and in a pod the pod's own account"
    )
    image: Image = Field(description="of the model servers, by digest: Dockerfile.gpu's target serve")
    agent_image: Image = Field(description="of the agent, the routers and the fetch, by digest: the target agent")
    replicas: int = Field(1, ge=0, le=MOST_REPLICAS, description="pods of a slot; 0: from the first request on")
    max_replicas: int | None = Field(
        None, ge=1, le=MOST_REPLICAS, description="by the requests that wait and run; null: as many as replicas"
    )
    routers: int = Field(2, ge=1, le=16, description="router pods: each has every slot's pods")
    bytes: str = Field(
        pattern=BYTES,
        description="where a pod fetches a release from: oci://REGISTRY/REPOSITORY, s3://BUCKET/PREFIX or "
        "pvc://CLAIM/FOLDER",
    )
    node_cache: str | None = Field(
        "/var/cache/tunegate",
        pattern=r"^/[A-Za-z0-9._/-]+$",
        description="a node's folder of fetched releases, which its pods share; null: each pod fetches its own",
    )
    resources: Resources = Resources()
    tolerations: list[JsonObject] = Field([], description="as in a PodSpec")
    node_selector: dict[str, str] = Field({})
    pod: JsonObject = Field(
        {}, description="merged into each model server's PodSpec: volumes, affinity, a service account"
    )
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = Field(
        "ClusterIP", description="in front of the routers"
    )
    route: HttpRoute | None = Field(None, description="a Gateway's HTTPRoute to the routers; null: the Service alone")
    scrape_seconds: float = Field(2, gt=0, le=60, description="between two looks at the slots' Deployments")

    @model_validator(mode="after")
    def grows(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas of at least replicas ({self.replicas})")
        if self.replicas == 0 and self.max_replicas is None:
            raise ValueError("max_replicas with replicas 0: from the first request on there must be a server")
        return self

    @property
    def most(self) -> int:
        """Pods of a slot, at most."""
        return self.max_replicas or self.replicas


Placement = Annotated[Local | Kubernetes, Field(discriminator="kind")]
