"""One tiny random base of each model family, laid out as its makers publish it: tokenizer, chat template, dtype, files.

`make_family(name, folder)` writes it; what differs between families is what their makers differ in: a pad token or
none, the end of a turn, tied or untied, one file or shards, a pooler or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,  # of 32, the smallest size that vLLM's attention takes on a CPU
    "max_position_embeddings": 640,
}
GROUPED = SIZES | {"num_key_value_heads": 1}
WORDS = ["user assistant system good bad film", "is a fine poor one"]


@dataclass(frozen=True)
class TinyTokenizer:
    """Byte-level, so that every text has tokens. `wrapped`: by a first and a last token, as encoders have it."""

    special: list[str]
    eos: str | None = None
    bos: str | None = None
    pad: str | None = None
    unk: str | None = None
    template: str | None = None
    wrapped: tuple[str, str] | None = None


@dataclass(frozen=True)
class TinyFamily:
    """`architecture`: the class that saved the base. `generation`: what its generation_config.json holds besides."""

    config: str
    architecture: str
    tokenizer: TinyTokenizer
    sizes: dict[str, Any] = field(default_factory=lambda: GROUPED)
    dtype: str = "float32"
    shard: str = "5GB"
    generation: dict[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)


def turns(opening: str, closing: str, *, answer: str = "assistant") -> str:
    """A chat template: each turn between `opening`, which may hold ROLE, and `closing`."""
    role = f"{{{{ '{answer}' if m['role'] == 'assistant' else m['role'] }}}}"
    asked = opening.replace("ROLE", answer)
    return (
        f"{{% for m in messages %}}{opening.replace('ROLE', role)}{{{{ m['content'] }}}}{closing}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{asked}{{% endif %}}"
    )


CHATML = turns("<|im_start|>ROLE\n", "<|im_end|>\n")
LLAMA3 = TinyTokenizer(
    [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    eos="<|end_of_text|>",
    bos="<|begin_of_text|>",
    template="{{ bos_token }}" + turns("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>"),
)
MISTRAL = TinyTokenizer(
    ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
    eos="</s>",
    bos="<s>",
    unk="<unk>",
    template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
)
QWEN = TinyTokenizer(
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|endoftext|>", pad="<|endoftext|>", template=CHATML
)
SMOLLM2 = TinyTokenizer(
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|im_end|>", pad="<|im_end|>", template=CHATML
)
GEMMA = TinyTokenizer(
    ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    eos="<eos>",
    bos="<bos>",
    pad="<pad>",
    unk="<unk>",
    template="{{ bos_token }}" + turns("<start_of_turn>ROLE\n", "<end_of_turn>\n", answer="model"),
)
PHI3 = TinyTokenizer(
    ["<unk>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"],
    eos="<|endoftext|>",
    pad="<|endoftext|>",
    unk="<unk>",
    template=turns("<|ROLE|>\n", "<|end|>\n"),
)
GPT2 = TinyTokenizer(["<|endoftext|>"], eos="<|endoftext|>", bos="<|endoftext|>", unk="<|endoftext|>")
NEOX = TinyTokenizer(["<|endoftext|>", "<|padding|>"], eos="<|endoftext|>", bos="<|endoftext|>", unk="<|endoftext|>")
OLMO = TinyTokenizer(["<|padding|>", "<|endoftext|>"], eos="<|endoftext|>", pad="<|padding|>", template=CHATML)
BERT = TinyTokenizer(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], pad="[PAD]", unk="[UNK]", wrapped=("[CLS]", "[SEP]")
)
ROBERTA = TinyTokenizer(
    ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "</s>", "<s>", "<pad>", "<unk>", wrapped=("<s>", "</s>")
)

POOLED = {"modules.json": [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]}
SOFT = {"head_dim": 32, "sliding_window": 32, "query_pre_attn_scalar": 32}
DECODERS = {
    "llama3": TinyFamily(
        "LlamaConfig",
        "LlamaForCausalLM",
        LLAMA3,
        GROUPED | {"tie_word_embeddings": False},
        dtype="bfloat16",
        shard="40KB",
        generation={"temperature": 0.6, "top_p": 0.9, "do_sample": True},
    ),
    "mistral": TinyFamily(
        "MistralConfig", "MistralForCausalLM", MISTRAL, GROUPED | {"sliding_window": 64}, dtype="float16"
    ),
    "qwen2": TinyFamily(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        QWEN,
        GROUPED | {"tie_word_embeddings": True},
        dtype="bfloat16",
        generation={"repetition_penalty": 1.3, "max_new_tokens": 3, "top_k": 20, "do_sample": True},
    ),
    "qwen3": TinyFamily("Qwen3Config", "Qwen3ForCausalLM", QWEN, GROUPED | {"head_dim": 32}, dtype="bfloat16"),
    "gemma2": TinyFamily("Gemma2Config", "Gemma2ForCausalLM", GEMMA, GROUPED | SOFT, dtype="bfloat16"),
    "gemma3": TinyFamily("Gemma3TextConfig", "Gemma3ForCausalLM", GEMMA, GROUPED | SOFT, dtype="bfloat16"),
    "gemma3-images": TinyFamily(
        "Gemma3Config", "Gemma3ForConditionalGeneration", GEMMA, GROUPED | SOFT, dtype="bfloat16"
    ),
    "phi3": TinyFamily("Phi3Config", "Phi3ForCausalLM", PHI3, GROUPED | {"sliding_window": 64}),
    "gpt2": TinyFamily(
        "GPT2Config", "GPT2LMHeadModel", GPT2, {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 640}
    ),
    "gpt-neox": TinyFamily("GPTNeoXConfig", "GPTNeoXForCausalLM", NEOX, SIZES, dtype="float16"),
    "olmo": TinyFamily("OlmoConfig", "OlmoForCausalLM", OLMO, GROUPED | {"clip_qkv": 0.5}),
    "smollm2": TinyFamily(
        "LlamaConfig", "LlamaForCausalLM", SMOLLM2, GROUPED | {"tie_word_embeddings": True}, "bfloat16"
    ),
}
ENCODERS = {
    "bert": TinyFamily("BertConfig", "BertModel", BERT, SIZES, shard="40KB"),
    "bert-without-pooler": TinyFamily("BertConfig", "BertForMaskedLM", BERT, SIZES),
    "roberta": TinyFamily("RobertaConfig", "RobertaForMaskedLM", ROBERTA, SIZES, dtype="float16"),
    "distilbert": TinyFamily(
        "DistilBertConfig",
        "DistilBertModel",
        BERT,
        {"dim": 64, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 640, "hidden_dim": 128},
    ),
    "deberta-v3": TinyFamily(
        "DebertaV2Config",
        "DebertaV2Model",
        BERT,
        SIZES
        | {
            "relative_attention": True,
            "share_att_key": True,
            "position_biased_input": False,
            "pos_att_type": ["p2c", "c2p"],
        },
    ),
    "electra": TinyFamily("ElectraConfig", "ElectraForPreTraining", BERT, SIZES | {"embedding_size": 32}),
    "modernbert": TinyFamily("ModernBertConfig", "ModernBertModel", BERT, SIZES, dtype="bfloat16"),
    "sentence-transformers": TinyFamily("BertConfig", "BertModel", BERT, SIZES, beside=POOLED),
}
FAMILIES = DECODERS | ENCODERS


def make_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Writes the base of `name` into `folder`."""
    import torch
    import transformers

    family = FAMILIES[name]
    tokenizer = make_tokenizer(family.tokenizer)
    torch.manual_seed(seed)
    ids = {f"{one}_token_id": getattr(tokenizer, f"{one}_token_id") for one in ("bos", "eos", "pad")}
    known: dict[str, Any] = {"vocab_size": len(tokenizer), **ids, **family.sizes}
    config = getattr(transformers, family.config)(**(with_images(known) if family.config == "Gemma3Config" else known))
    model = getattr(transformers, family.architecture)(config, **family.keywords)
    widen(model)
    if family.generation:
        model.generation_config = transformers.GenerationConfig(**ids, **family.generation)
    model.to(getattr(torch, family.dtype)).save_pretrained(folder, max_shard_size=family.shard)
    tokenizer.save_pretrained(folder)
    for file, content in family.beside.items():
        (folder / file).write_text(json.dumps(content), encoding="utf8")
    return folder


def widen(model: Any) -> None:
    """Weights wide enough that two tokens, and two texts, give answers that differ."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)


def with_images(known: dict[str, Any]) -> dict[str, Any]:
    """The same text model within one that also sees."""
    eyes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "text_config": known,
        "vision_config": eyes | {"image_size": 28, "patch_size": 14},
        "mm_tokens_per_image": 4,
        "eos_token_id": known["eos_token_id"],
    }


def make_tokenizer(settings: TinyTokenizer) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer
    inner.train_from_iterator(
        WORDS,
        trainer(
            vocab_size=300,
            special_tokens=settings.special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if settings.wrapped:
        first, last = settings.wrapped
        pairs = [(one, inner.token_to_id(one)) for one in settings.wrapped]
        inner.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=pairs)
    names = {f"{one}_token": getattr(settings, one) for one in ("bos", "eos", "pad", "unk")}
    found = PreTrainedTokenizerFast(tokenizer_object=inner, **{name: token for name, token in names.items() if token})
    found.chat_template = settings.template
    return found


def rows_of(name: str, task: str, count: int = 24) -> list[dict[str, Any]]:
    """Chats where the family has a template, else prompts with completions; texts with labels; tagged words."""
    numbers = range(count)
    if task == "sequence-classification":
        return [
            {"text": f"a {('fine', 'poor')[one % 2]} film {one}", "label": ("good", "bad")[one % 2]} for one in numbers
        ]
    if task == "token-classification":
        return [{"tokens": ["film", f"{one}", "is", "fine"], "tags": ["O", "B-ORG", "O", "O"]} for one in numbers]
    if FAMILIES[name].tokenizer.template is None:
        return [{"prompt": f"a film {one}", "completion": f" good {one}"} for one in numbers]
    return [
        {"messages": [{"role": "user", "content": f"film {one}"}, {"role": "assistant", "content": f"good {one}"}]}
        for one in numbers
    ]
