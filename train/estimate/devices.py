"""What a plan is made for: the device here, or one by name from its data sheet."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import InputError

GIB = 2**30
# An assumption, not a measurement: the share of its data sheet's dense bf16 rate that LoRA training reaches.
ASSUMED_UTILIZATION = 0.4


@dataclass(frozen=True)
class Device:
    """Memory in bytes; dense bf16 rate in FLOP/s and memory rate in bytes/s, None where they must be measured (a
    CPU); all of one of `count`."""

    name: str
    memory_bytes: int
    flops: float | None = None
    bytes_per_second: float | None = None
    source: str = ""
    count: int = 1


def sheet(name: str, mebibytes: int, teraflops: float, gigabytes_per_second: float, source: str) -> Device:
    return Device(name, mebibytes * 2**20, teraflops * 1e12, gigabytes_per_second * 1e9, source)


# Memory as nvidia-smi shows it, less than the name says: error correction and the driver take theirs. Dense rates:
# where NVIDIA prints "with sparsity", half of it.
DEVICES = {
    device.name: device
    for device in (
        sheet("h200-141gb", 134_144, 989, 4800, "NVIDIA H200 data sheet, SXM"),
        sheet("h100-80gb", 81_559, 989, 3350, "NVIDIA H100 data sheet, SXM"),
        sheet("a100-80gb", 81_920, 312, 2039, "NVIDIA A100 data sheet, SXM"),
        sheet("a100-40gb", 40_960, 312, 1555, "NVIDIA A100 data sheet, SXM"),
        sheet("l40s-48gb", 46_068, 362, 864, "NVIDIA L40S data sheet"),
        sheet("l4-24gb", 23_034, 121, 300, "NVIDIA L4 data sheet"),
        sheet("a10-24gb", 23_028, 125, 600, "NVIDIA A10 data sheet"),
    )
}


def find_device(name: str | None) -> Device:
    """By its name, `8xh100-80gb` for so many. Raises InputError naming the devices known. None: the GPU here, else this
    machine's CPU."""
    if name is None:
        return present_gpu() or this_cpu()
    if name == "cpu":
        return this_cpu()
    several = re.fullmatch(r"([1-9][0-9]{0,3})x(.+)", name)
    one = several[2] if several else name
    if one not in DEVICES:
        raise InputError(
            f"--device: found {name}, expected cpu, {', '.join(DEVICES)}; or several, as 8xh100-80gb",
            hint="tunegate check CONFIG --plan --device h100-80gb",
        )
    return replace(DEVICES[one], name=name, count=int(several[1]) if several else 1)


def this_cpu(meminfo: Path = Path("/proc/meminfo")) -> Device:
    """What is available now: total memory would count what others hold."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf8").splitlines())
    return Device("cpu", int(lines["MemAvailable"].split()[0]) * 1024, source=f"{meminfo}: MemAvailable")


def present_gpu() -> Device | None:
    """The first GPU that nvidia-smi names, its rates from the table where the table has it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    run = subprocess.run(query, capture_output=True, text=True)
    return read_gpu(run.stdout.splitlines()[0]) if run.returncode == 0 and run.stdout.strip() else None


def read_gpu(line: str) -> Device:
    """`NVIDIA H100 80GB HBM3, 81559`: the name and MiB."""
    name, _, mebibytes = line.rpartition(",")
    words = name.lower().replace("-", " ").split()
    known = next((device for device in DEVICES.values() if device.name.split("-")[0] in words), None)
    memory = int(mebibytes) * 2**20
    return (
        Device(name.strip(), memory, known.flops, known.bytes_per_second, f"nvidia-smi; {known.source}")
        if known
        else Device(name.strip(), memory)
    )
