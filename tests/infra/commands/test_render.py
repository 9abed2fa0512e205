"""`tunegate render`: a folder that kubectl takes, the same each time, and words for who asks for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

import tunegate
from configs.errors import InputError
from tests.paths import ROOT
from tests.support.cluster_objects import VERSIONS, faults
from tests.support.fake_servers import publish_fake

pytestmark = pytest.mark.unit
ADDRESS = ["--repository", "https://git.example/ml/models.git"]


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the shipped environments `kubernetes` and `local`."""
    monkeypatch.chdir(tmp_path)
    Path("configs/deploy").mkdir(parents=True)
    Path("configs/gates").mkdir()
    for name in ("deploy/kubernetes", "deploy/local", "gates/calls", "gates/load"):
        path = Path(f"configs/{name}.yaml")
        path.write_text((ROOT / path).read_text(encoding="utf8"), encoding="utf8")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(tunegate.app, ["render", *words], catch_exceptions=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_shipped_environment_renders_to_a_base_that_every_version_takes() -> None:
    assert run("kubernetes", "--out", "base", *ADDRESS).exit_code == 0
    listed = yaml.safe_load(Path("base/kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(files(Path("base")))
    things = [yaml.safe_load((Path("base") / name).read_text()) for name in listed]
    assert {"Deployment", "Service", "NetworkPolicy", "Role", "PersistentVolumeClaim"} <= {
        one["kind"] for one in things
    }
    assert [fault for version in VERSIONS for thing in things for fault in faults(thing, version)] == []


def test_the_same_environment_is_the_same_bytes_and_one_that_changed_leaves_nothing_behind() -> None:
    path = Path("configs/deploy/kubernetes.yaml")
    run("kubernetes", "--out", "base", *ADDRESS)
    before = files(Path("base"))
    run("kubernetes", "--out", "base", *ADDRESS)
    assert files(Path("base")) == before
    path.write_text(path.read_text().replace("supervision: {metrics_port: 9464}\n", ""))
    run("kubernetes", "--out", "base", *ADDRESS)
    assert before.keys() - files(Path("base")).keys() == {"service-kubernetes-agent.yaml"}


def test_a_folder_with_other_files_is_left_alone() -> None:
    Path("mine").mkdir()
    Path("mine/notes.yaml").touch()
    with pytest.raises(InputError, match="holds other files"):
        run("kubernetes", "--out", "mine", *ADDRESS)
    assert files(Path("mine")) == {"notes.yaml": b""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["local"], "found placement.kind local, expected kubernetes"),
        (["kubernetes"], "no remote `origin`"),
        (["kubernetes", "--slot"], "pins no release"),
        (["kubernetes", "--slot", "--kserve"], "one of"),
        (["kubernetes", "--argo-rollouts"], "both or none"),
        (["kubernetes", "--proofs", "http://x"], "both or none"),
        (["kubernetes", "--repository", "https://a:b@git.example/x"], "holds a password"),
    ],
)
def test_what_cannot_be_rendered_is_said(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(*words)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (["--slot"], ["Deployment", "Service", "PodDisruptionBudget"]),
        (["--kserve"], ["InferenceService"]),
        (
            ["--argo-rollouts", "--proofs", "http://x/proofs"],
            ["Rollout", "AnalysisTemplate", "Service", "Service", "PodDisruptionBudget"],
        ),
    ],
)
def test_a_published_release_is_rendered_for_each_engine(words: list[str], kinds: list[str]) -> None:
    reference = publish_fake("one")
    found = run("kubernetes", *words, "--release", reference)
    things = list(yaml.safe_load_all(found.stdout))
    assert [thing["kind"] for thing in things] == kinds
    assert reference in found.stdout
