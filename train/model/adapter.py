"""How the base weights are adapted: LoRA and its variants by peft, QLoRA, or every weight. Training wraps and merging
loads by the same config."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from configs.digest import hash_files, key_of
from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.run.family import HEADS
from infra.files.hashes import remembered
from train.model.added_tokens import token_indices
from train.model.dtype import base_dtype
from train.model.heads import new_model

PEFT_TASKS = {
    "sequence-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "causal-lm": "CAUSAL_LM",
    "dpo": "CAUSAL_LM",
    "grpo": "CAUSAL_LM",
    "reward": "SEQ_CLS",
}


def adapted_model(config: RunConfig, base: Path, labels: list[str]) -> Any:
    """What training starts from. Raises RefusedError where the hardware cannot do the method."""
    from train.layers.lora import fuse_adapters

    require_device(config)
    plain = new_model(config, base, labels, base_dtype(config, base), **loading(config))
    model = wrap_model(plain, config, token_indices(plain, base, config.base.add_tokens))
    if not config.train.compile:  # the compiler fuses peft's own
        fuse_adapters(model)
    return model


def wrap_model(model: Any, config: RunConfig, new_rows: dict[str, list[int]] | None = None) -> Any:
    """`model` with its adapter, which alone is trainable, and `new_rows` of its embedding and head; with method full
    the model itself. Whatever is trained is float32."""
    if config.train.method == "full":
        return model
    from peft import get_peft_model

    # not prepare_model_for_kbit_training: it holds in float32 what is not packed, gigabytes of embeddings
    return in_float32(get_peft_model(model, lora_config(config, model.new_layers, new_rows)))


def in_float32(model: Any) -> Any:
    """`model`, whatever it trains held in float32: the biases, heads or embeddings of a base in half precision, whose
    steps it would round away."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
    return model


def lora_config(config: RunConfig, new_layers: Sequence[str] = (), new_rows: dict[str, list[int]] | None = None) -> Any:
    """`new_layers`: of the model, without weights of their own yet; they are trained whole and saved with the adapter,
    as peft does with the head. peft leaves a head out of all-linear for SEQ_CLS only (peft/tuners/tuners_utils.py).
    `new_rows`: those of base.add_tokens in embedding and head.
    """
    from peft import LoftQConfig, LoraConfig

    lora = config.train.lora
    has_head = PEFT_TASKS[config.task] != "CAUSAL_LM"
    return LoraConfig(
        task_type=PEFT_TASKS[config.task],
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=lora.target_modules,
        exclude_modules=HEADS if has_head else None,
        modules_to_save=sorted({*new_layers, *lora.modules_to_save}) or None,
        trainable_token_indices=new_rows,
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.initialization == "default" else lora.initialization,
        loftq_config=LoftQConfig(loftq_bits=4) if lora.initialization == "loftq" else {},
    )


def loading(config: RunConfig) -> dict[str, Any]:
    """How transformers loads a base that is to be trained: on a GPU each tensor goes from its file straight to this
    process's own. Of a model that is sharded rank 0 reads the files into host memory, and its layers go out from there;
    packed in 4 bits it is packed by each process on its own GPU first."""
    import torch

    packed, rank = config.train.method == "qlora", os.environ.get("LOCAL_RANK", "0")
    found: dict[str, Any] = {"quantization_config": packed_in_four_bits(config)} if packed else {}
    if config.launch.shards and not packed:
        # transformers reads all files in every process, and drops what it read in all but the first (5.17.0)
        return {} if rank == "0" else {"state_dict": {}}
    if torch.cuda.is_available():
        found["device_map"] = {"": f"cuda:{rank}"}
    return found


def packed_in_four_bits(config: RunConfig) -> Any:
    """NF4 with double quantization (Dettmers et al. 2023, arXiv:2305.14314, section 3); heads stay as they are. Sharded
    the bytes lie in tensors of bfloat16, which torch cuts without a look inside (bitsandbytes: fsdp_qlora)."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=torch.bfloat16 if config.launch.shards else torch.uint8,
        llm_int8_skip_modules=["lm_head", "classifier", "score"],
    )


def require_device(config: RunConfig) -> None:
    """Raises RefusedError where qlora or LoftQ meet a machine without a GPU or without bitsandbytes."""
    from importlib.util import find_spec

    import torch

    wanted = [
        name
        for name, used in (
            ("train.method qlora", config.train.method == "qlora"),
            ("loftq", config.train.lora.initialization == "loftq"),
        )
        if used
    ]
    lacking = [
        name
        for name, there in (("GPU", torch.cuda.is_available()), ("package bitsandbytes", find_spec("bitsandbytes")))
        if not there
    ]
    if wanted and lacking:
        raise RefusedError(
            f"{' and '.join(wanted)}: found no {' and no '.join(lacking)}, expected both, "
            "for the base is packed in 4 bits by CUDA kernels",
            hint="--set train.method=lora --set train.lora.initialization=default",
        )


def use_loraplus_optimizer(trainer: Any, config: RunConfig) -> Any:
    """`trainer`, with LoRA+'s optimizer where the config has a ratio: its state is saved and resumed like any
    other's."""
    ratio = config.train.lora.loraplus_ratio
    if ratio is not None and config.train.method != "full":
        import torch
        from peft.optimizers import create_loraplus_optimizer

        settings = config.train
        trainer.optimizer = create_loraplus_optimizer(
            trainer.model,
            torch.optim.AdamW,
            lr=settings.learning_rate or 0.0,
            loraplus_lr_ratio=ratio,
            weight_decay=settings.weight_decay,
            loraplus_weight_decay=settings.weight_decay,
        )
    return trainer


def save_trained(
    trainer: Any, config: RunConfig, base: Path, target: Path, state: dict[str, Any] | None = None
) -> None:
    """The adapter as safetensors, naming its base by a path inside the checkout; with method full the whole model.

    `state`: of a model that is sharded over processes, its trained weights, gathered.
    """
    model = trainer.model
    if config.train.method == "full":
        model.save_pretrained(target, state_dict=state)
        return
    model.peft_config["default"].base_model_name_or_path = base.as_posix()
    given = {} if state is None else {"state_dict": state}
    model.save_pretrained(target, save_embedding_layers=False, selected_adapters=["default"], **given)
    (target / "README.md").unlink(missing_ok=True)


def trained_key(trained: Path) -> str:
    """What training left, in one word, over the bytes of its safetensors."""
    files = sorted(trained.glob("*.safetensors"))
    with remembered() as hash_file:
        return key_of([(file.name, digest) for file, digest in zip(files, hash_files(files, hash_file), strict=True)])


def load_trained(config: RunConfig, base: Path, trained: Path, labels: list[str], dtype: Any = None) -> Any:
    """The trained model with its adapter merged, in float32; of a language model rounded to the torch `dtype`, where
    one is given, layer by layer: no more of it is ever float32 than a layer.

    PiSSA and LoftQ changed the base when they began: peft does the same again here, from the same weights, before it
    loads what was trained.
    """
    if config.train.method == "full":
        model = new_model(config, trained, labels, dtype)
        model.config._name_or_path = model.name_or_path = base.as_posix()  # the tokenizer is there
        return model
    require_device(config)
    from peft import PeftModel

    model = PeftModel.from_pretrained(new_model(config, base, labels, dtype), trained)
    if dtype is not None:
        sum_in_float32(model)
    return model.merge_and_unload()


def sum_in_float32(model: Any) -> None:
    """A layer's weights are float32 while its adapter is added to them, then again what they were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.merge = partial(merge_in_float32, layer, layer.merge)


def merge_in_float32(layer: Any, merge: Callable[..., None], *given: Any, **named: Any) -> None:
    held = [(parameter, parameter.dtype) for parameter in layer.get_base_layer().parameters()]
    for parameter, _ in held:
        parameter.data = parameter.data.float()
    merge(*given, **named)
    for parameter, dtype in held:
        parameter.data = parameter.data.to(dtype)
