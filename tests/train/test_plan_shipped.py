"""What is shipped for GPUs fits the GPUs that it names, by the plan; no weights are fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tunegate
from configs.check import check_files
from configs.read import read_run
from configs.run.config import RunConfig
from serve.plan.devices import Gpu, Need, anywhere, plan_slots
from tests.paths import ROOT
from tests.support.published import PUBLISHED
from train import plan
from train.estimate import workload
from train.estimate.devices import DEVICES, GIB

pytestmark = pytest.mark.unit
RUNS = sorted((ROOT / "configs/finetune/gpu").glob("*.yaml"))
OF_THE_SAME_SHAPE = {"Llama-3.1-8B-Instruct": "Llama-3.1-8B", "Llama-3.3-70B-Instruct": "Llama-3.3-70B"}


@pytest.fixture(autouse=True)
def config_of_the_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's, of published sizes."""
    monkeypatch.chdir(ROOT)

    def fetch(repository: str, revision: str) -> Path:
        name = OF_THE_SAME_SHAPE[repository.partition("/")[2]]
        (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]["config"]))
        return tmp_path / "config.json"

    monkeypatch.setattr(workload, "fetch_config", fetch)


def device_of(path: Path) -> str:
    """As the file's own head says."""
    head = path.read_text(encoding="utf8")
    found = re.search(rf"^# .*: tunegate check {path.relative_to(ROOT)} --plan --device (\S+)$", head, re.MULTILINE)
    assert found and head.startswith(f"# tunegate run {path.relative_to(ROOT)}\n")
    return found[1]


def test_there_are_an_8b_a_24_gb_and_a_70b() -> None:
    assert {path.stem for path in RUNS} == {"llama-8b-lora", "llama-8b-qlora-24gb", "llama-70b-qlora-8"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_shipped_run_passes_check_and_fits_the_device_that_it_names(path: Path) -> None:
    assert check_files([path], []) == []
    made = plan.make_plan(read_run(path, []), device_of(path))
    assert made["fits"] and {"train", "quantize", "serve"} <= made["memory"].keys() and made["seconds"]
    shown = CliRunner().invoke(tunegate.app, ["check", str(path), "--plan", "--device", device_of(path), "--json"])
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_shipped_runs_base_in_16_bits_is_served_too_for_its_gate(path: Path) -> None:
    config = read_run(path, [])
    base = config.model_copy(update={"quantize": config.quantize.model_copy(update={"scheme": "none"})})
    made = plan.make_plan(base, device_of(path))
    assert config.evaluate.baseline and made["fits"]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_shipped_runs_base_is_a_commit_of_the_hub_and_its_name_the_files(path: Path) -> None:
    config = read_run(path, [])
    assert config.base.hub and config.base.revision and config.name == path.stem and config.production == "gpu"


def eight(name: str = "llama-8b-lora") -> RunConfig:
    return read_run(ROOT / f"configs/finetune/gpu/{name}.yaml", [])


def test_two_slots_of_the_shipped_8b_share_one_gpu_of_80_gb() -> None:
    served = plan.make_plan(eight(), "h100-80gb")["memory"]["serve"]
    need = Need(served["weights"] / GIB, served["kv_cache"] / GIB, served["activations"] / GIB)
    memory = DEVICES["h100-80gb"].memory_bytes / GIB
    found = plan_slots([Gpu("GPU-1", memory, memory)], need, servers=1, host_gib=0, choose=anywhere(need))
    assert found and found.mode == "shared" and sum(one.utilization for (one,) in found.slots.values()) < 1


def test_the_shipped_environment_passes_check_and_is_planned() -> None:
    path = ROOT / "configs/deploy/gpu.yaml"
    assert check_files([path], []) == []
    shown = CliRunner().invoke(tunegate.app, ["check", "configs/deploy/gpu.yaml", "--plan"])
    assert shown.exit_code == 0, shown.output
