"""The agent's unit: what serves outlives the agent, and no hardening takes from vLLM what it needs."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.environment.state import SYSTEM_HOME
from tests.paths import ROOT

pytestmark = pytest.mark.unit
CACHES = ("HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")  # HOME: vLLM's, FlashInfer's, the driver's
UNIT = ROOT / "infra/systemd/tunegate-agent@.service"


@pytest.fixture
def service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)  # strict: a line given twice is an error
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are written as systemd has them
    parser.read(UNIT)
    assert parser.sections() == ["Unit", "Service", "Install"] and parser["Unit"]["StartLimitIntervalSec"] == "0"
    return dict(parser["Service"])


def test_ending_the_agent_or_a_slot_ends_nothing_else(service: dict[str, str]) -> None:
    assert (service["KillMode"], service["OOMPolicy"], service["Restart"], service["Type"]) == (
        "process",
        "continue",
        "always",
        "exec",
    )


def test_it_runs_the_agent_of_its_instance_in_the_checkout_as_nobody_special(service: dict[str, str]) -> None:
    assert (
        service["ExecStart"] == f"{service['WorkingDirectory']}/.venv/bin/tunegate agent %i $TUNEGATE_AGENT_OPTIONS"
        and service["User"] == "tunegate"
    )
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"], service["UMask"]) == ("yes", "", "0077")


def test_its_state_is_the_systems_and_nothing_that_lasts_lies_in_build(service: dict[str, str]) -> None:
    """Others may see whose names are there, so that a job of CI by another user starts no second stack."""
    assert Path("/var/lib") / service["StateDirectory"] == SYSTEM_HOME and service["StateDirectoryMode"] == "0711"
    assert "HOME=/var/cache/" + service["CacheDirectory"] in service["Environment"].split()
    assert "build" not in " ".join(service.values())


def test_root_makes_the_gpus_files_that_no_new_privileges_keeps_cuda_from_making(service: dict[str, str]) -> None:
    """With full rights (+); without a driver it fails unheeded (-). nvidia-persistenced, where it is, comes first."""
    assert service["NoNewPrivileges"] == "yes"
    how, tool, *options = re.fullmatch(r"([-+]+)(\S+) (.*)", service["ExecStartPre"]).groups()  # type: ignore[union-attr]
    assert (set(how), tool) == ({"-", "+"}, "/usr/bin/nvidia-modprobe")
    assert options[0].split() == ["-u", *(f"-c{number}" for number in range(8))]
    assert "nvidia-persistenced.service" in UNIT.read_text(encoding="utf8").split("[Service]")[0]


def test_a_gpu_can_be_reached_and_what_is_compiled_for_it_can_be_loaded(service: dict[str, str]) -> None:
    """Each of these hides the devices, or makes the caches no place for code."""
    hides = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "BindReadOnlyPaths", "InaccessiblePaths", "PrivateUsers"}
    no_code = {"NoExecPaths", "MemoryDenyWriteExecute", "TemporaryFileSystem", "SystemCallFilter"}
    assert (hides | no_code) & service.keys() == set()
    places = dict(one.split("=") for one in service["Environment"].split())
    lasting = Path("/var/cache") / service["CacheDirectory"]
    assert all(Path(places[name]).is_relative_to(lasting) for name in CACHES)


def test_what_would_break_a_slot_that_outlives_the_agent_is_not_set(service: dict[str, str]) -> None:
    broken = {
        "PrivateTmp",
        "RuntimeDirectory",
        "PrivateDevices",
        "ProtectClock",
        "MemoryDenyWriteExecute",
        "ProcSubset",
        "MemoryMax",
        "DynamicUser",
        "PrivateNetwork",
    }
    assert broken & service.keys() == set()
    assert {service["WorkingDirectory"], "/tmp"} <= set(
        service["ReadWritePaths"].split()
    )  # ProtectSystem=strict leaves nothing else writable


def test_systemd_itself_takes_the_unit(tmp_path: Path, service: dict[str, str]) -> None:
    """Where systemd is there to be asked; the unit as for this checkout and interpreter."""
    text = UNIT.read_text(encoding="utf8").replace(
        "/opt/tunegate/.venv/bin/tunegate agent", f"{sys.executable} tunegate.py agent"
    )
    unit = tmp_path / "tunegate-agent@local.service"
    unit.write_text(text.replace("/opt/tunegate", str(ROOT)).replace("User=tunegate", "User=root"))
    asked = [tool, "verify", str(unit)] if (tool := shutil.which("systemd-analyze")) else ["true"]
    run = subprocess.run(asked, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
