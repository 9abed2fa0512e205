"""One fine-tune of the GPU part by one of four hands, each in a process of its own: tunegate with LoRA or QLoRA, TRL
with packing and Liger, plain peft with Trainer and SDPA.

python -m benchmarks.gpu.arms trl build/prove/gpu/train trl.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.train.arms import ALPHA, LEARNING_RATE, RANK, SEED, clock, run_plain


def run_trl(folder: Path, settings: dict[str, Any], rows: list[dict[str, list[int]]]) -> None:
    """TRL's SFTTrainer with its packing; with Liger's kernels where there is a GPU, for they are Triton's."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    gpu = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(settings["base"], dtype=torch.bfloat16 if gpu else torch.float32)
    arguments = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch"],
        learning_rate=LEARNING_RATE,
        seed=SEED,
        max_length=settings["tokens"],
        packing=True,
        use_liger_kernel=gpu,
        gradient_checkpointing=False,
        use_cpu=not gpu,
        bf16=gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(settings["base"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear"),
    ).train()


def run_tunegate(file: Path) -> None:
    from configs.loader import load
    from configs.paths import RunPaths
    from configs.run.config import RunConfig
    from train.finetune import finetune

    config = load(file, RunConfig)
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
        "trl": lambda: run_trl(folder, settings, rows),
        "tunegate": lambda: run_tunegate(folder / "run.yaml"),
        "qlora": lambda: run_tunegate(folder / "run-qlora.yaml"),
    }[arm]()


if __name__ == "__main__":
    main()
