"""FSDP2: each process holds a shard of every weight, gradient and moment, by accelerate's plugin and torch's
`fully_shard`.

Weights come from rank 0, layer by layer, so that no other process ever holds the whole model. Checkpoints are sharded
too: each process writes and reads its own part.
"""

from __future__ import annotations

import os
from typing import Any

from configs.run.config import RunConfig


def sharding_arguments(config: RunConfig) -> dict[str, Any]:
    """For transformers' TrainingArguments. The environment tells transformers, which loads before it has any, that
    rank 0 alone reads the weights (transformers/distributed/fsdp.py:is_fsdp_enabled): all but packed ones, which
    accelerate sends to nobody, so that each process must have all of them, new heads too."""
    import torch
    from accelerate import PartialState

    sent = config.train.method != "qlora"
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": str(sent).lower(),
        "FSDP_VERSION": "2",
    }
    PartialState(cpu=not torch.cuda.is_available())  # the processes meet before the weights are read
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",  # a shard of each layer
            "cpu_ram_efficient_loading": sent,
            "state_dict_type": "SHARDED_STATE_DICT",
        },
    }


def shard_layers(trainer: Any) -> None:
    """Each layer by itself. Called before the trainer prepares its model.

    accelerate would also sum gradients in half precision, and round the loss to it.
    """
    import torch
    from accelerate.state import DistributedType
    from torch.distributed.fsdp import MixedPrecisionPolicy

    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        shard_on_cpus(trainer)
    state.fsdp_plugin.transformer_cls_names_to_wrap = layer_classes(trainer.model)
    if state.mixed_precision == "bf16":
        half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        state.fsdp_plugin.mixed_precision_policy = half


def layer_classes(model: Any) -> list[str]:
    """Names of the classes of which transformers says that they must stay in one piece, without those that hold the
    embedding: accelerate shards that one too, and would do it twice (1.15.0, BertEmbeddings)."""
    whole, embedding = set(getattr(model, "_no_split_modules", None) or ()), model.get_input_embeddings()
    kinds = {type(module).__name__: module for module in model.modules() if type(module).__name__ in whole}
    return sorted(name for name, module in kinds.items() if embedding not in [*module.modules()])


def shard_on_cpus(trainer: Any) -> None:
    """accelerate shards on accelerators only: on CPUs it makes the plugin and leaves it aside (1.15.0,
    accelerate/state.py). torch shards there too, over gloo."""
    from accelerate.state import DistributedType, PartialState
    from accelerate.utils import FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
    state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    trainer.is_fsdp_enabled = True


def whole_state(trainer: Any, config: RunConfig) -> dict[str, Any]:
    """What was trained, gathered from all processes into the main one's memory; of the others an empty dict. All must
    call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    adapted = config.train.method != "full"
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapted)
    found = get_model_state_dict(trainer.model, options=options)
    tied = {} if adapted else getattr(trainer.model, "all_tied_weights_keys", {})
    return {name: one for name, one in found.items() if name not in tied}  # gathered, they would be saved twice
