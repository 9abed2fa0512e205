"""One chat fine-tune by three hands, each in a process of its own: tunegate, TRL's own `sft` script, transformers'
plain Trainer.

    .venv/bin/python -m benchmarks.train.arms plain build/prove/speed plain.json

The same rows, base weights, LoRA, effective batch and steps. A clock inside each Trainer notes seconds and the
validation loss (mean over the answers' tokens) by step; measuring does not count as training.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

RANK, ALPHA, LEARNING_RATE, SEED = 16, 32, 1e-3, 17


def completion_loss(model: Any, rows: list[dict[str, list[int]]], bfloat16: bool) -> float:
    """Natural-log loss per token of the answer, one row at a time, so that no arm's padding or packing plays a part."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
        for row in rows:
            ids, labels = (
                torch.tensor([row["input_ids"]], device=model.device),
                torch.tensor(row["labels"][1:], device=model.device),
            )
            bounds = (
                {"cu_seq_lens_q": torch.tensor([0, ids.numel()])}
                if model.config._attn_implementation == "sdpa_by_row"
                else {}
            )
            logits = model(input_ids=ids, **bounds).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += int((labels != -100).sum())
    return total / count


def clock(rows: list[dict[str, list[int]]], every: int, target: Path) -> Any:
    """A callback class for transformers.trainer.DEFAULT_CALLBACKS: [{step, seconds, core_seconds (all threads'), loss,
    peak_gib (of a GPU)}] in `target`."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.points: list[dict[str, float]] = []
            self.seconds, self.core_seconds = 0.0, 0.0
            self.mark, self.core_mark = 0.0, 0.0

        def note(self, args: Any, state: Any, model: Any) -> None:
            peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
            model.eval()
            loss = completion_loss(model, rows, args.bf16)
            model.train()
            self.points.append(
                {
                    "step": state.global_step,
                    "seconds": round(self.seconds, 3),
                    "core_seconds": round(self.core_seconds, 3),
                    "loss": loss,
                    "peak_gib": round(peak, 2),
                }
            )
            target.write_text(json.dumps(self.points), encoding="utf8")

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            self.note(args, state, model)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not self.mark:  # whatever else measures before the first step is no training either
                self.mark, self.core_mark = time.perf_counter(), time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self.mark
            self.core_seconds += time.process_time() - self.core_mark
            if state.global_step % every == 0:
                self.note(args, state, model)
            self.mark, self.core_mark = time.perf_counter(), time.process_time()

    return Clock


def run_plain(folder: Path, settings: dict[str, Any], rows: list[dict[str, list[int]]]) -> None:
    """As transformers' own examples do it: padded batches, the whole vocabulary at each place; float32 on a CPU,
    bfloat16 on a GPU."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(SEED)
    gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(settings["base"])
    model = AutoModelForCausalLM.from_pretrained(settings["base"], dtype=torch.bfloat16 if gpu else torch.float32)
    adapter = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    arguments = TrainingArguments(
        output_dir=str(folder / "plain"),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch"],
        learning_rate=LEARNING_RATE,
        seed=SEED,
        use_cpu=not gpu,
        bf16=gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(
        model=get_peft_model(model, adapter),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    ).train()


def run_trl(folder: Path, settings: dict[str, Any]) -> None:
    """`trl sft` as it is shipped but for two of its defaults, which would hold it back here: gradient checkpointing,
    for nothing is short of memory, and bfloat16, which a CPU may only emulate. Every arm multiplies in float32."""
    from trl.scripts.sft import main, make_parser

    arguments = {
        "model_name_or_path": settings["base"],
        "dataset_name": folder / "rows",
        "output_dir": folder / "trl",
        "max_steps": settings["steps"],
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": settings["batch"],
        "seed": SEED,
        "lora_r": RANK,
        "lora_alpha": ALPHA,
        "lora_target_modules": "all-linear",
        "dtype": "float32",
        "bf16": "false",
        "gradient_checkpointing": "false",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": "true",
        "use_cpu": "true",
        "eval_strategy": "no",
    }
    words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
    script, training, model, dataset = make_parser().parse_args_and_config([*words, "--use_peft"])
    main(script, training, model, dataset)  # type: ignore[no-untyped-call]


def run_tunegate(folder: Path) -> None:
    from types import SimpleNamespace

    from configs.loader import load
    from configs.paths import RunPaths
    from configs.run.config import RunConfig
    from train.finetune import finetune

    config = load(folder / "run.yaml", RunConfig)
    finetune(config, RunPaths.of(config.name), SimpleNamespace(run_id=None, log_metrics=lambda figures, step: None))


def main() -> None:
    import transformers.trainer

    arm, folder, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf8"))
    rows, validation = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf8")) for name in ("train", "validation")
    )
    transformers.trainer.DEFAULT_CALLBACKS.append(clock(validation, settings["every"], target))
    {
        "plain": lambda: run_plain(folder, settings, rows),
        "trl": lambda: run_trl(folder, settings),
        "tunegate": lambda: run_tunegate(folder),
    }[arm]()


if __name__ == "__main__":
    main()
