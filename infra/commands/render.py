"""`render`: an environment's manifests, for whoever applies them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import InputError
from configs.read import read_environment
from infra.terminal import EnvironmentName, example

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from configs.release import Manifest
    from configs.section import JsonObject
    from infra.manifests.agent_objects import Source


def render(
    environment: EnvironmentName,
    out: Annotated[
        Path | None, typer.Option(help="a Kustomize base in this folder; none: all objects, printed")
    ] = None,
    release: Annotated[
        str | None, typer.Option(metavar="NAME@DIGEST", help="in the place of the one that the YAML pins")
    ] = None,
    slot: Annotated[bool, typer.Option("--slot", help="the release's own objects, as the agent applies them")] = False,
    argo_rollouts: Annotated[
        bool, typer.Option("--argo-rollouts", help="a Rollout and its analysis, in the place of agent and routers")
    ] = False,
    kserve: Annotated[
        bool, typer.Option("--kserve", help="an InferenceService, in the place of agent and routers")
    ] = False,
    helm: Annotated[
        bool, typer.Option("--helm", help="values for the chart infra/helm/tunegate, which renders the same")
    ] = False,
    proofs: Annotated[
        str | None, typer.Option(metavar="URL", help="with --argo-rollouts: what answers for a release's proofs")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="URL", help="that the agent follows; none: this checkout's origin")
    ] = None,
    branch: Annotated[str, typer.Option(help="that the agent follows")] = "main",
    signed: Annotated[
        bool, typer.Option("--signed", help="only commits signed by a key of allowed_signers in the Secret ENV-git")
    ] = False,
) -> None:
    """Write an environment's Kubernetes manifests: agent and routers, to apply once; the agent makes the slots."""
    from infra.files.yaml_text import as_documents
    from infra.manifests.agent_objects import Source
    from infra.manifests.chart import values_of

    config = read_environment(environment)
    refuse_local(config)
    if sum((slot, argo_rollouts, kserve, helm)) > 1:
        raise InputError("one of --slot, --argo-rollouts, --kserve and --helm", hint="tunegate render --help")
    if argo_rollouts != (proofs is not None):
        raise InputError("--argo-rollouts and --proofs URL, both or none", hint="tunegate render --help")
    if slot or argo_rollouts or kserve:
        things = of_release(config, manifest_of(config, release), proofs, kserve=kserve)
    elif helm:
        things = [values_of(config, Source(repository or origin(), branch, signed))]
    else:
        things = of_environment(config, Source(repository or origin(), branch, signed))
    if out is None or helm:
        typer.echo(as_documents(things), nl=False)
    else:
        write(out, things)


def of_environment(config: DeployConfig, source: Source) -> list[JsonObject]:
    from infra.kubernetes.router_objects import router_objects
    from infra.manifests.access import access_objects
    from infra.manifests.agent_objects import agent_objects

    return [*access_objects(config), *router_objects(config), *agent_objects(config, source)]


def of_release(config: DeployConfig, manifest: Manifest, proofs: str | None, *, kserve: bool) -> list[JsonObject]:
    if kserve:
        from infra.manifests.kserve import inference_service

        return inference_service(config, manifest)
    if proofs:
        from infra.manifests.argo_rollouts import rollout_objects

        return rollout_objects(config, manifest, proofs)
    from infra.kubernetes.containers import placement_of
    from infra.kubernetes.slot_objects import slot_objects

    placed = placement_of(config)
    return slot_objects(config, manifest, "blue", None if placed.max_replicas else placed.replicas)


def refuse_local(config: DeployConfig) -> None:
    if config.placement.kind != "kubernetes":
        raise InputError(
            f"{config.name}: found placement.kind {config.placement.kind}, expected kubernetes",
            hint="docs/kubernetes.md; tunegate render kubernetes",
        )


def manifest_of(config: DeployConfig, reference: str | None) -> Manifest:
    """Of the published release, its bytes verified."""
    from configs.release import read_manifest
    from infra.dvc.releases import find_trusted

    wanted = reference or config.release
    if wanted is None:
        raise InputError(f"{config.name} pins no release", hint=f"tunegate render {config.name} --release NAME@DIGEST")
    return read_manifest(find_trusted(wanted, config.signing) / "release")


def origin() -> str:
    from configs.errors import ExternalError
    from infra.git.command import git

    try:
        return git(Path(), "remote", "get-url", "origin")
    except ExternalError:
        raise InputError("this checkout has no remote `origin`", hint="tunegate render ENV --repository URL") from None


def write(folder: Path, things: list[JsonObject]) -> None:
    """Files of an earlier rendering that are no more go; what is not ours stays, and is refused."""
    from infra.files.atomic import write_text
    from infra.manifests.kustomize import LIST, base_of

    files = base_of(things)
    found = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    if found and LIST not in found:
        raise InputError(f"{folder} holds other files, and no {LIST}", hint="tunegate render ENV --out NEW_FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(found - files.keys()):
        if name.endswith(".yaml"):
            (folder / name).unlink()
    for name, text in files.items():
        write_text(folder / name, text)
    typer.echo(f"{len(things)} objects in {folder}   (kubectl apply -k {folder})")


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate render kubernetes",
            "tunegate render production --out build/production",
            "tunegate render production --slot --release calls@sha256:3f…",
            "tunegate render production --argo-rollouts --proofs http://proofs.ml.svc:8406/proofs",
            "tunegate render production --kserve",
            "tunegate render production --helm > values.yaml",
        )
    )(render)
