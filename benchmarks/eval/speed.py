"""Our path through vLLM beside lm-evaluation-harness with its HF backend: seconds for the same answers."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks.prove import FOLDER, Row, run, tunegate
from configs.paths import RunPaths

CHATS = 200  # the opponent takes half an hour for 500


def speed() -> list[Row]:
    """200 chats answered by our path and by lm-evaluation-harness with its HF backend, its own batch size and ours;
    start-up counts in all."""
    config = prepare_chats()
    started = time.monotonic()
    tunegate("evaluate", str(config))
    ours, seconds = answers_of(RunPaths.of("prove-chats")), {"ours": time.monotonic() - started}
    shares = {}
    for batch in (1, 16):
        started = time.monotonic()
        theirs = ask_harness(RunPaths.of("prove-chats"), batch)
        seconds[f"batch {batch}"] = time.monotonic() - started
        shares[batch] = sum(ours[name] == text for name, text in theirs.items()) / len(ours)
    ratio, batched = seconds["batch 1"] / seconds["ours"], seconds["batch 16"] / seconds["ours"]
    return [
        Row(f"{len(ours)} chats, lm-evaluation-harness' HF backend ({seconds['batch 1']:.0f} s, batch size 1, "
            f"its default) / ours ({seconds['ours']:.0f} s)", round(ratio, 2), "at least 5", ratio >= 5),
        Row(f"the same with its batch size at 16 ({seconds['batch 16']:.0f} s)", round(batched, 2), "measured", True),
        Row("the same greedy answers, batch size 1", f"{shares[1]:.1%}", "at least 99%", shares[1] >= 0.99),
    ]  # fmt: skip


def prepare_chats() -> Path:
    """A release as its weights are, so that transformers can load it: calls-v2's, unquantized, with 200 test rows (and
    what is left to train on)."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(Path("configs/finetune/calls-v2.yaml").read_text(encoding="utf8"))
    # Asked, not judged: a gate that compares with a base that is not measured would be refused.
    config |= {"name": "prove-chats", "quantize": {"scheme": "none"}}
    config |= {"gate": "configs/gates/smoke.yaml", "production": None}
    config["data"] |= {"test_rows": CHATS, "max_tokens": 256}
    config["evaluate"] |= {"baseline": False}
    path = FOLDER / "chats.yaml"
    path.write_text(json.dumps(config), encoding="utf8")
    for stage in ("prepare", "train", "quantize"):
        tunegate(stage, str(path))
    shutil.rmtree("build/prove-chats/eval", ignore_errors=True)
    shutil.rmtree("build/prove-chats/answers", ignore_errors=True)
    return path


def answers_of(paths: RunPaths) -> dict[str, str]:
    import pandas

    frame = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    return dict(zip(frame["id"].astype(str), frame["answer"].astype(str), strict=True))


def ask_harness(paths: RunPaths, batch: int) -> dict[str, str]:
    """By id, the text that `lm_eval --model hf` generates for the very prompts, rendered by the release's own
    template."""
    import pandas
    from transformers import AutoTokenizer

    folder, tokenizer = FOLDER / f"harness-{batch}", AutoTokenizer.from_pretrained(paths.release)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = pandas.read_parquet(paths.data / "test.parquet")
    prompts = [
        tokenizer.apply_chat_template([dict(turn) for turn in turns][:-1], add_generation_prompt=True, tokenize=False)
        for turns in rows["messages"]
    ]
    lines = [json.dumps({"id": str(name), "prompt": prompt}) for name, prompt in zip(rows["id"], prompts, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    task = {
        "task": "chats",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / "rows.jsonl").absolute())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{id}}",
        "metric_list": [{"metric": "exact_match"}],
        "generation_kwargs": {"until": [tokenizer.eos_token], "max_gen_toks": 48, "do_sample": False},
    }
    (folder / "chats.yaml").write_text(json.dumps(task), encoding="utf8")
    arguments = f"pretrained={paths.release},dtype=float32,add_bos_token=False"
    options = {
        "model": "hf",
        "model_args": arguments,
        "device": "cpu",
        "tasks": "chats",
        "include_path": folder,
        "batch_size": batch,
        "output_path": folder / "out",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run(
        sys.executable,
        "-m",
        "lm_eval",
        "run",
        *words,
        "--log_samples",
        environment={"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )
    samples = next((folder / "out").rglob("samples_*.jsonl")).read_text(encoding="utf8").split("\n")
    return {one["doc"]["id"]: one["resps"][0][0] for one in map(json.loads, filter(None, samples))}
