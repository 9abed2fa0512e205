"""`tunegate loadtest`: a release, or what serves, under load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from configs.environment.load_test import LoadTest
from configs.errors import InputError, RefusedError
from configs.release import read_manifest
from configs.verdict import Verdict
from infra.dvc.releases import find
from infra.files.hashes import verify_known
from infra.haproxy.api_keys import api_key
from infra.vllm.server import temporary_slot
from serve.load.run import measuring
from serve.proofs.baseline import NO_BASELINE, measure_baseline, needs_baseline
from serve.record.environment import Environment
from serve.switch.servers import what_serves

Figures = dict[str, float]


def load_test(env: Environment, directory: Path | None, given: Mapping[str, object]) -> tuple[Figures, Verdict, Path]:
    """Figures, their verdict and the page: of a release directory served for the test, or of what the router answers
    from. `given` overrides load_test."""
    if env.load_gate is None or env.config.gate is None:
        raise InputError(
            f"{env.config.name}: no gate is named, so nothing can be decided", hint="gate: configs/gates/load.yaml"
        )
    settings = overridden(env.config.load_test, given)
    reference, figures, baseline, folder = (
        load_release(env, directory, settings) if directory else load_router(env, settings)
    )
    return figures, env.load_gate(reference, figures | baseline), folder / "report.html"


def load_release(env: Environment, directory: Path, settings: LoadTest) -> tuple[str, Figures, Figures, Path]:
    """Served for the test; beside what serves, where a rule compares with it."""
    manifest, folder = verify_known(directory), reports(env)
    prompts = directory / "golden.jsonl"
    measure = measuring(env.config.model, settings, prompts)
    baseline: Figures = {}
    if needs_baseline(Path(str(env.config.gate))):
        serving = what_serves(env, env.record.state(), None)
        baseline, _ = measure_baseline(serving, settings, prompts, env.folder / "loadtest", measure)
    log, seconds = folder / "server.log", env.config.start_timeout_seconds
    with temporary_slot(
        directory, manifest, served_name=env.config.model, log=log, timeout_seconds=seconds
    ) as base_url:
        return manifest.reference, measure(base_url, manifest, folder / "release"), baseline, folder / "release"


def load_router(env: Environment, settings: LoadTest) -> tuple[str, Figures, Figures, Path]:
    """Blue itself is asked: there is no other to compare with."""
    state = env.record.state()
    serving = state.release_of(state.active)
    if serving is None or not env.router.is_running():
        raise RefusedError(f"{env.config.name}: nothing serves", hint=f"tunegate deploy {env.config.name} RELEASE")
    directory, folder = find(serving) / "release", reports(env) / "router"
    measure = measuring(env.config.model, settings, directory / "golden.jsonl", api_key(env.config))
    return serving, measure(env.router.base_url, read_manifest(directory), folder), NO_BASELINE, folder


def reports(env: Environment) -> Path:
    """In the checkout, where people and a job of CI look for them: a report can be made again."""
    return Path("build/loadtest") / env.config.name


def overridden(settings: LoadTest, given: Mapping[str, object]) -> LoadTest:
    """A kind of load that is given takes the place of the one in the YAML. Raises InputError for what is no load."""
    kinds: dict[str, object] = {"rate": None, "ramp": [], "trace": None}
    fresh = kinds if {"users", *kinds} & given.keys() else {}
    try:
        return LoadTest.model_validate({**settings.model_dump(), **fresh, **given})
    except ValidationError as error:
        one = error.errors()[0]
        raise InputError(
            f"load test: {'.'.join(map(str, one['loc']))}: {one['msg']}", hint="tunegate loadtest --help"
        ) from None
