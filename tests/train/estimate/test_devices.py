"""Devices: by name from the table, by nvidia-smi's line, and this CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError
from train.estimate.devices import DEVICES, GIB, find_device, read_gpu, this_cpu

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", DEVICES)
def test_each_device_has_memory_rates_and_a_source(name: str) -> None:
    device = find_device(name)
    assert (
        device.memory_bytes >= 20 * GIB
        and device.flops
        and device.flops > 1e14
        and device.bytes_per_second
        and "NVIDIA" in device.source
    )


def test_an_unknown_device_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"found tpu, expected cpu, .*h100-80gb.*l4-24gb"):
        find_device("tpu")


def test_several_of_a_device_are_named_by_their_number() -> None:
    eight, one = find_device("8xh100-80gb"), find_device("h100-80gb")
    assert (eight.name, eight.count, eight.memory_bytes) == ("8xh100-80gb", 8, one.memory_bytes) and one.count == 1
    for name in ("0xh100-80gb", "xh100-80gb", "8xtpu", "8xcpu"):
        with pytest.raises(InputError, match=f"found {name}"):
            find_device(name)


@pytest.mark.parametrize(
    ("line", "flops", "gib"),
    [
        ("NVIDIA H100 80GB HBM3, 81559", 989e12, 79.6),
        ("NVIDIA L4, 23034", 121e12, 22.5),
        ("NVIDIA GeForce RTX 3060, 12288", None, 12),
    ],
)
def test_a_gpu_here_takes_its_rates_from_the_table(line: str, flops: float | None, gib: float) -> None:
    device = read_gpu(line)
    assert (device.name, device.flops) == (line.partition(",")[0], flops)
    assert device.memory_bytes / GIB == pytest.approx(gib, abs=0.1)


def test_an_l40s_is_no_l4() -> None:
    assert read_gpu("NVIDIA L40S, 46068").flops == DEVICES["l40s-48gb"].flops


def test_a_cpu_offers_what_is_available_now(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       8000 kB\nMemAvailable:   4000 kB\n")
    device = this_cpu(tmp_path / "meminfo")
    assert (device.name, device.memory_bytes, device.flops) == ("cpu", 4000 * 1024, None)
