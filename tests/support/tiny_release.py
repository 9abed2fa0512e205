"""Releases of tiny random GPT models that the real vLLM serves, laid out as a publication leaves them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from configs.release import ADAPTER, Manifest, digest_of, list_files
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.verdict import Verdict

RANK, LAYERS = 4, ["down_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def make_tokenizer() -> Any:
    """ASCII bytes only, so that no greedy answer ends in half a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=128,
        special_tokens=special,
        initial_alphabet=[*string.ascii_letters, *string.digits, *string.punctuation, "Ġ"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a few words"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=TEMPLATE
    )


def write_model(folder: Path, seed: int, adapter_seed: int | None = None) -> list[dict[str, Any]]:
    """Weights and tokenizer; the golden prompts with transformers' own greedy answers. With a seed for it, an unmerged
    adapter beside them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    shape: Any = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    # A wide initialisation: no near-ties between tokens, so that two runtimes agree; no end token, so that answers are
    # not empty.
    ends: Any = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, initializer_range=0.3, **shape, **ends)
    ).eval()
    with torch.no_grad():
        model.lm_head.weight[:3] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if adapter_seed is not None:
        model = adapted(model, folder / ADAPTER, adapter_seed)
    lines = []
    for number in range(4):
        messages = [{"role": "user", "content": f"question {number}"}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        found = model.generate(
            **inputs, max_new_tokens=8, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        text = tokenizer.decode(found.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        logprob = float(torch.log_softmax(found.logits[0][0].float(), dim=-1).max())
        lines.append(
            {"id": str(number), "messages": messages, "answer": text, "first_token_logprob": round(logprob, 6)}
        )
    return lines


def adapted(model: Any, folder: Path, seed: int) -> Any:
    """A random adapter of peft's that changes every answer, saved; the model with it merged in."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    peft = get_peft_model(
        model, LoraConfig(r=RANK, target_modules=LAYERS, init_lora_weights=False, task_type="CAUSAL_LM")
    )
    peft.save_pretrained(str(folder))
    (folder / "README.md").unlink()
    return peft.merge_and_unload().eval()


def write_release(
    root: Path, name: str, seed: int, outcome: str = "pass", *, adapter_seed: int | None = None, **serving: Any
) -> str:
    """releases/NAME@DIGEST12 as a publication leaves it; returns NAME@sha256:DIGEST."""
    folder = root / "releases" / f".{name}" / "release"
    folder.mkdir(parents=True)
    golden = write_model(folder, seed, adapter_seed)
    quantization = {"scheme": "none"} if adapter_seed is None else {"scheme": "adapter", "rank": RANK, "layers": LAYERS}
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in golden), encoding="utf8")
    for file in folder.rglob("*.*"):
        file.chmod(0o644)
    config = {
        "name": name,
        "task": "causal-lm",
        "base": {"path": "none"},
        "data": {"source": "files", "files": ["none.jsonl"]},
        "train": {"max_steps": 1},
        "gate": "gate.yaml",
        "evaluate": {"max_new_tokens": 8, "parity": {"golden_prompts": 4}},
    }
    files = list_files(folder)
    manifest = Manifest(
        name=name,
        digest=digest_of(files),
        task="causal-lm",
        files=files,
        serving=Serving(**serving),
        base={},
        data={},
        quantization=quantization,
        git_revision="test",
        versions={},
        config=RunConfig.model_validate(config).model_dump(mode="json"),
        created="2026-11-24T00:00:00+00:00",
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
    Verdict(release=manifest.reference, outcome=outcome, results=[]).write(folder.parent / "gate" / "verdict.json")  # type: ignore[arg-type]  # one of three
    folder.parent.rename(root / "releases" / f"{name}@{manifest.digest[7:19]}")
    return manifest.reference
