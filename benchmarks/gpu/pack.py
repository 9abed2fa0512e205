"""What a lent GPU machine lacks, packed on a machine that reaches the package index: build/gpu-parts/partNN and
MANIFEST.json, each part below what travels in one call.

.venv/bin/python -m benchmarks.gpu.pack     # ten minutes on two cores, nearly all of it xz; make gpu-parts

Two folders of packages for CPython 3.12: `train` (ours; train.txt) and `serve` (vLLM and its least needs; serve.txt).
What the machine has itself does not travel.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
PARTS = Path("build/gpu-parts")
PART_BYTES = 54 * 2**20  # 64 MiB travel with the working tree, which has its share
PYTHON = "3.12"
PLATFORM = "x86_64-manylinux_2_28"
ARCHIVES = ("train", "serve")  # in the order in which they are wanted
# Never loaded by a model of Llama's kind on Hopper, where FlashAttention 3 is: kernels for other GPUs, of mixtures of
# experts, sources that are compiled at run time, builds for other CUDA and Python versions.
CUT = {
    "serve": (
        "bin",
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",
        "vllm/_moe_C_stable_libtorch.abi3.so",
        "vllm/_flashmla*.so",
        "vllm/_qutlass_C.abi3.so",
        "vllm/vllm-rs",
        "vllm/third_party/fmha_sm100",
        "vllm/third_party/deep_gemm",
    ),
    "train": (
        "bitsandbytes/libbitsandbytes_cuda1[12]*.so",
        "bitsandbytes/libbitsandbytes_cuda132.so",
        "bitsandbytes/libbitsandbytes_rocm*.so",
        "bitsandbytes/libbitsandbytes_xpu*.so",
    ),
}
# vLLM imports them unguarded for their classes' names, and uses them for structured outputs alone: 110 MB less.
STUBS = {"serve": ("xgrammar", "llguidance")}
# FlashInfer does not travel; where it is missing vLLM's sampler dies unless it is told (topk_topp_sampler.py).
SETTINGS = {"serve": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}}
STUB = '''"""A stub of benchmarks/gpu/pack.py: vLLM names its classes, and no part asks for structured outputs."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
'''


def main() -> int:
    os.nice(10)
    shutil.rmtree(PARTS, ignore_errors=True)
    PARTS.mkdir(parents=True)
    parts: list[dict[str, object]] = []
    for archive in ARCHIVES:
        folder = PARTS / "tree" / archive
        install(HERE / f"{archive}.txt", folder)
        cut(folder, CUT[archive])
        for name in STUBS.get(archive, ()):
            (folder / f"{name}.py").write_text(STUB, encoding="utf8")
        packed = compress(folder, PARTS / f"{archive}.tar.xz")
        parts += split(packed, archive, 1 + len(parts))
        packed.unlink()
    shutil.rmtree(PARTS / "tree")
    stubs = {archive: [*names] for archive, names in STUBS.items()}
    manifest = {"python": PYTHON, "stubs": stubs, "settings": SETTINGS, "parts": parts}
    (PARTS / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf8")
    for part in parts:
        print(f"{PARTS}/{part['file']}  {part['archive']}  {int(str(part['bytes'])) / 2**20:.1f} MiB")
    return 0


def install(needs: Path, folder: Path) -> None:
    """Wheels of the list and nothing that they ask for, as the machine would unpack them."""
    words = [".uv/bin/uv", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", "--target", str(folder)]
    words += ["--python-version", PYTHON, "--python-platform", PLATFORM, "-r", str(needs)]
    subprocess.run(words, check=True, env=os.environ | {"UV_FIND_LINKS": ""})


def cut(folder: Path, patterns: tuple[str, ...]) -> None:
    """Raises RuntimeError for a pattern that names nothing: another version of the package lies there."""
    for pattern in patterns:
        found = list(folder.glob(pattern))
        if not found:
            raise RuntimeError(f"{folder}: nothing matches {pattern}")
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for tests in [*folder.glob("**/tests"), *folder.glob("**/__pycache__")]:
        if tests.is_dir() and (tests.name == "__pycache__" or tests.parent.parent == folder):
            shutil.rmtree(tests)


def compress(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:xz", preset=6) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return target


def split(packed: Path, archive: str, first: int) -> list[dict[str, object]]:
    """Parts of like size, each with its sha256."""
    data = packed.read_bytes()
    count = -(-len(data) // PART_BYTES)
    size = -(-len(data) // count)
    found: list[dict[str, object]] = []
    for number in range(count):
        piece = data[number * size : (number + 1) * size]
        name = f"part{first + number:02}"
        (packed.parent / name).write_bytes(piece)
        found.append(
            {"file": name, "archive": archive, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()}
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
