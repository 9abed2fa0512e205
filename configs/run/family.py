"""What hangs on a model's architecture, by its config.json and without torch: the one place that knows families.

Where a table stands for what the pinned vLLM 0.32.0 serves, tests/configs/run/test_family.py holds it against
vllm/model_executor/models/registry.py and transformers' own mapping of types to classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from configs.run.quantize import Quantize
from configs.task import Task

Kind = Literal["decoder", "encoder"]

# model_type of config.json. Served as generators: by a class of vLLM's own or by its transformers backend, which it
# names for them (registry.py: _TEXT_GENERATION_MODELS, _TRANSFORMERS_SUPPORTED_MODELS).
GENERATORS = frozenset(
    str.split(
        "afmoe apertus arcee bloom cohere cohere2 cwm dbrx deepseek_v2 deepseek_v3 ernie4_5 ernie4_5_moe "
        "exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo gemma gemma2 gemma3_text glm glm4 "
        "glm4_moe glm4_moe_lite gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granitemoe "
        "granitemoehybrid granitemoeshared hunyuan_v1_dense hunyuan_v1_moe jais2 jamba lfm2 lfm2_moe "
        "llama longcat_flash mamba mamba2 minicpm3 minimax_m2 ministral3 mistral mixtral nemotron "
        "nemotron_h olmo olmo2 olmo3 olmoe opt phi phi3 qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next "
        "seed_oss smollm3 stablelm starcoder2 vaultgemma zamba2"
    )
)
# A text model inside one that also sees or hears: the text model alone is trained and served.
TEXT_PARTS = {"gemma3": "gemma3_text"}
# Served with a linear `score` over the last token (vllm/model_executor/models/adapters.py:as_seq_cls_model), GPT-2 by
# a class of its own.
CLASSIFYING_GENERATORS = frozenset(
    str.split(
        "arcee exaone4 falcon gemma gemma2 glm glm4 gpt2 gptj gpt_neox hunyuan_v1_dense llama ministral3 "
        "mistral nemotron olmo olmo2 olmo3 opt phi phi3 qwen2 qwen3 seed_oss smollm3 stablelm starcoder2"
    )
)
# _SEQUENCE_CLASSIFICATION_MODELS and _TOKEN_CLASSIFICATION_MODELS
CLASSIFIERS = frozenset({"bert", "modernbert", "roberta", "xlm-roberta"})
TAGGERS = frozenset({"bert", "modernbert", "roberta", "xlm-roberta"})

# Their layers are transformers' Conv1D, weights transposed: llmcompressor 0.14.0.1 quantizes and prunes none of them.
TRANSPOSED = frozenset({"gpt2"})
# vLLM's class is without SupportsLoRA.
NO_UNMERGED_ADAPTER = frozenset(
    str.split("bloom dbrx falcon falcon_mamba gemma3 gpt2 gptj mamba mamba2 stablelm zamba2")
)

# The layers of a task, new in most bases: trained whole and never by an adapter. peft trains whatever ends so.
HEADS = r"(.*\.)?[^.]*(classifier|score)(\..*)?"
# What lies in a numbered block of layers is quantized and pruned; all around them vLLM holds as plain layers: pooler,
# head, projections (vllm/model_executor/models/{bert,roberta,modernbert}.py, adapters.py).
BLOCK = re.compile(r"\.\d+\.")
# Where an adapter that stays unmerged may not lie.
OUTER_LAYERS = ("lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "wpe")

# Best first: tokens made for padding, by the names of Llama 3.1, Gemma and T5, BERT, GPT-NeoX and OLMo, then tokens
# kept for later use, which no text holds.
PADDING = ("<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|pad_token|>")
RESERVED = re.compile(r"<\|reserved[^|]*\|>|<unused\d+>|\[unused\d+\]|<\|extra_\d+\|>|<\|unused\d+\|>|<\|dummy_\d+\|>")

# Keys of generation_config.json that leave a greedy answer as it is; all others bend it or cut it short
# (vllm/config/model.py:get_diff_sampling_param, transformers/generation/configuration_utils.py).
HARMLESS_GENERATION = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p"}
    | {"transformers_version", "_from_model_config", "cache_implementation", "use_cache"}
)

# Feed-forwards of two products.
UNGATED = frozenset(str.split("bloom falcon gpt2 gpt_bigcode gpt_neox gptj nemotron opt phi starcoder2"))

# transformers' own names of one size, the commonest first.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")  # transformers' names of their number
SIZES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "dim", "d_model", "word_embed_proj_dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim", "ffn_hidden_size"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
}


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part that describes the text model, as transformers' get_text_config finds it."""
    part = config.get("text_config")
    return dict(part) if isinstance(part, dict) else dict(config)


def model_type(config: Mapping[str, Any]) -> str:
    """Of the text model; "" where config.json names none."""
    found = str(config.get("model_type") or "")
    return TEXT_PARTS.get(found, found)


def kind_of(config: Mapping[str, Any]) -> Kind:
    """GPT-type or BERT-type: by type, else by the class that saved it."""
    found = model_type(config)
    if found in GENERATORS or found in CLASSIFIERS | TAGGERS:
        return "decoder" if found in GENERATORS else "encoder"
    saved = " ".join(map(str, config.get("architectures") or []))
    return "decoder" if re.search(r"ForCausalLM|LMHeadModel|ForConditionalGeneration", saved) else "encoder"


def kind_of_task(task: Task) -> Kind:
    """What a task is trained on as a rule, where the base is not here to be asked."""
    return "encoder" if task in {"sequence-classification", "token-classification"} else "decoder"


def served_types(task: Task) -> frozenset[str]:
    """The types of model that vLLM serves for a task."""
    if task == "token-classification":
        return TAGGERS
    if task == "sequence-classification":
        return CLASSIFIERS | CLASSIFYING_GENERATORS
    return GENERATORS


def unserved(config: Mapping[str, Any], task: Task) -> str | None:
    """What is expected of the base instead; None where vLLM serves what comes of it."""
    found = model_type(config)
    if found in served_types(task):
        return None
    known = ", ".join(sorted(CLASSIFIERS if task == "sequence-classification" else served_types(task)))
    more = ", or a GPT such as llama or qwen3" if task == "sequence-classification" else ""
    return f"a base that vLLM 0.32.0 serves for {task} ({known}{more}), found model_type {found or 'none'}"


def uncompressed(config: Mapping[str, Any], settings: Quantize) -> str | None:
    """What is expected of `quantize:` instead; None where this family can be made smaller so."""
    found = str(config.get("model_type") or "")
    if settings.scheme == "adapter":
        served = f"quantize.scheme none or int8 with model_type {found}: vLLM serves no unmerged adapter of it"
        return served if found in NO_UNMERGED_ADAPTER else None
    if found in TRANSPOSED and (settings.scheme != "none" or settings.prune is not None):
        return f"quantize.scheme none without prune: llmcompressor takes none of the transposed layers of {found}"
    return None


def is_gated(config: Mapping[str, Any]) -> bool:
    """Whether the feed-forward of a layer is three products (gate, up, down) or two."""
    found = model_type(config)
    return found == "modernbert" or (kind_of(config) == "decoder" and found not in UNGATED)


def true_attention(config: Mapping[str, Any]) -> Literal["eager"] | None:
    """The one of transformers' attentions that computes this model as it was made and as vLLM serves it; None where any
    does. Its SDPA drops the cap on the scores without a word (transformers/integrations/sdpa_attention.py)."""
    return "eager" if text_config(config).get("attn_logit_softcapping") else None


def is_outer(name: str) -> bool:
    """A layer outside the numbered blocks, or of a head."""
    return BLOCK.search(f".{name}.") is None or re.fullmatch(HEADS, name) is not None


def size_of(config: Mapping[str, Any], name: str) -> int:
    """A size by transformers' commonest name for it. Raises KeyError where the config has none.

    GPT-2 writes null for a feed-forward of four times the hidden size (transformers/models/gpt2/modeling_gpt2.py).
    """
    for other in SIZES.get(name, (name,)):
        if config.get(other) is not None:
            return int(config[other])
    if name == "intermediate_size" and "n_embd" in config:
        return 4 * int(config["n_embd"])
    raise KeyError(name)


def active_width(config: Mapping[str, Any]) -> int:
    """Of the feed-forward that one token goes through: of a mixture all of the experts that it is sent to. Raises
    KeyError where the config has no such size."""
    if not any(config.get(name) for name in EXPERTS):
        return size_of(config, "intermediate_size")
    return int(config["num_experts_per_tok"]) * (
        int(config.get("moe_intermediate_size") or 0) or size_of(config, "intermediate_size")
    )


def stand_in_for_padding(special: Iterable[str], unknown: str | None, end: str | None) -> str | None:
    """The token that pads where a tokenizer names none: one made for it, one kept for later use, the unknown token,
    at last the end's. Padding is masked by length and not by this token's id, so that the end is learnt all the same.
    """
    tokens = list(special)
    made = [token for token in PADDING if token in tokens]
    reserved = [token for token in tokens if RESERVED.fullmatch(token)]
    spare = [unknown] if unknown and unknown != end else []
    return next(iter([*made, *reserved, *spare, *([end] if end else [])]), None)


def bending(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What in a generation_config.json changes greedy answers, and is set."""
    unset: tuple[Any, ...] = (None, False, [], {}, 1.0, 1)  # as a penalty or a number of beams these do nothing
    return {
        key: value
        for key, value in generation.items()
        if key not in HARMLESS_GENERATION and not any(value == one and type(value) is type(one) for one in unset)
    }
