"""Whether a verdict holds for what is asked: it was reached about this release, for this environment, by its gate,
against what serves there, and by what this machine would measure with."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from pydantic import ValidationError

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.loader import load
from configs.metrics import EVALUATION_VERSION
from configs.release import short
from configs.rules.gate import GateConfig
from configs.verdict import NO_CHAMPION, Binding, Verdict
from infra.dvc.judgements import judged_folders
from infra.dvc.releases import folder_of
from infra.dvc.signatures import verify_published
from infra.state.folder import state_folder
from infra.state.places import RECORD
from infra.vllm.server import vllm_version
from serve.record.champion import judging, last_served
from serve.record.record import Record

UNBOUND = "its verdict does not say what it was judged for: an earlier tunegate wrote it"


def check_verdict(config: DeployConfig, reference: str, path: Path) -> None:
    """Raises RefusedError that says what the verdict at `path` does not hold for, and the commands that judge anew.

    What serves here, or once came through its bake here, may come back whatever its verdict was bound to. Where the
    environment pins a key, the verdict and its evaluation must be signed by it.
    """
    verdict = read_passing(config, reference, path)
    if reference in came_through(config):
        return
    if config.signing:
        for folder in judged_folders(path.parents[1]):
            verify_published(folder_of(reference), folder, config.signing.public_key, reference)
    judged, binding = judging(config), verdict.binding
    reason = (
        UNBOUND
        if binding is None
        else why_changed(verdict, binding)
        or why_elsewhere(binding, judged)
        or why_other_versions(binding)
        or why_other_champion(binding, judged, reference)
    )
    if reason:
        raise RefusedError(f"{reference}: {reason}", hint=anew(reference, judged))


def read_passing(config: DeployConfig, reference: str, path: Path) -> Verdict:
    hint = anew(reference, judging(config))
    if not path.exists():
        raise RefusedError(f"{reference}: no verdict beside it", hint=hint)
    try:
        verdict = Verdict.read(path)
    except (ValidationError, UnicodeDecodeError) as error:
        raise RefusedError(f"{path}: not a verdict", hint=hint) from error
    if verdict.release != reference or verdict.outcome != "pass":
        raise RefusedError(
            f"{reference}: the verdict is {verdict.outcome} on {verdict.release}, expected pass on this release",
            hint=hint,
        )
    return verdict


def came_through(config: DeployConfig) -> set[str]:
    """What serves here, and what came through its bake here: a way back needs no new verdict."""
    state = Record(state_folder(config) / RECORD).state()
    serving = state.release_of(state.active)
    return {*state.good, *([serving] if serving else [])}


def why_changed(verdict: Verdict, binding: Binding) -> str | None:
    """A verdict that no longer says what it said, or was reached where nobody counts."""
    if binding.digest != binding.digest_of_contents():
        return "its verdict was changed after it was reached: its digest is not that of its contents"
    champion = None if binding.champion in (None, NO_CHAMPION) else binding.champion
    if (binding.release, binding.outcome, champion) != (verdict.release, verdict.outcome, verdict.champion):
        return "its verdict was changed after it was reached: it says otherwise than its binding"
    if binding.look is None:
        return (
            "it was judged where the artifact store did not answer, so nobody knows how often its test rows were used"
        )
    return None


def why_elsewhere(binding: Binding, config: DeployConfig) -> str | None:
    if binding.environment != config.name:
        return f"it was judged for {binding.environment or 'no environment'}, not for {config.name}"
    if config.release_gate is None:
        return f"{config.name} states no release_gate, so no release can pass it: name a gate file in its YAML"
    gate = load(Path(config.release_gate), GateConfig)
    if binding.gate_digest != gate.digest:
        same = Path(binding.gate) == Path(config.release_gate)
        return (
            f"its gate, {binding.gate}, has changed since it was judged"
            if same
            else f"it was judged by {binding.gate}, not by {config.release_gate}, the release_gate of {config.name}"
        )
    return None


def why_other_versions(binding: Binding) -> str | None:
    """What measures and serves must be what serves here; lm-evaluation-harness only where it is here at all."""
    if binding.conditions is None:
        return "it was judged without an evaluation that says how it was measured"
    here = {"evaluation": str(EVALUATION_VERSION), "vllm": vllm_version()}
    if "lm_eval" in binding.versions and (version := harness_version()):
        here["lm_eval"] = version
    for name, version in here.items():
        if binding.versions.get(name) != version:
            return f"it was measured with {name} {binding.versions.get(name, 'unknown')}, here it is {version}"
    return None


def harness_version() -> str | None:
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return None


def why_other_champion(binding: Binding, config: DeployConfig, reference: str) -> str | None:
    """By the record of this machine, else by the pin that is to be replaced. Where neither says anything, nothing
    serves that it could have been judged against."""
    pinned = config.release if config.release != reference else None
    champion = last_served(config) or pinned
    if champion is None or champion in (reference, binding.champion):
        return None
    against = "no champion" if binding.champion == NO_CHAMPION else short(binding.champion)
    return f"it was judged against {against}, but {short(champion)} serves in {config.name}"


def anew(reference: str, config: DeployConfig) -> str:
    """The commands that judge a release for an environment as it is now."""
    run = f"configs/finetune/{reference.partition('@')[0]}.yaml"
    commands = (f"evaluate {run} --production {config.name}", f"gate {run} --production {config.name}")
    return " && ".join(f"tunegate {one}" for one in (*commands, f"releases publish {run}"))
