"""Releases of the served parts: any shape, random weights, greedy answers that no rounding changes; laid out as a
publication leaves them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.gpu.shapes import ROPE
from configs.digest import sha256_of
from configs.release import Manifest, digest_of, list_files
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.verdict import Verdict
from infra.dvc.releases import folder_of
from tests.support.tiny_release import make_tokenizer

MATCH = 40.0  # the logit of the next token, beside which the others' are noise
ANSWER_TOKENS, PROMPTS = 8, 4
CONFIG = {
    "task": "causal-lm",
    "base": {"path": "none"},
    "data": {"source": "files", "files": ["none.jsonl"]},
    "train": {"max_steps": 1},
    "gate": "gate.yaml",
    "evaluate": {"max_new_tokens": ANSWER_TOKENS, "parity": {"golden_prompts": PROMPTS}},
}


def write_releases(root: Path, shape: dict[str, int], serving: Serving, names: tuple[str, ...]) -> tuple[str, ...]:
    """releases/NAME@DIGEST12 under `root`, one for each name; their references NAME@sha256:DIGEST.

    They differ in the head alone: every other file is the same, linked, so that two of 16 GB take little more than
    one. The golden answers are transformers' own, in bfloat16.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, model = make_tokenizer(), random_model(shape, device)
    found: list[str] = []
    hashes: dict[int, str] = {}
    for number, name in enumerate(names):
        set_successors(model, tokenizer, 1 + number)
        folder = root / "releases" / f".{name}" / "release"
        folder.mkdir(parents=True)
        write_weights(model, folder, root / folder_of(found[0]) / "release" if found else None)
        tokenizer.save_pretrained(folder)
        lines = golden(model, tokenizer)
        (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf8")
        for file in folder.rglob("*.*"):
            file.chmod(0o644)
        found.append(publish(root, folder, name, serving, hashes))
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return tuple(found)


def random_model(shape: dict[str, int], device: str) -> Any:
    """bfloat16. What a layer adds is small beside the token's own embedding, so that the head sees the last token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    sizes: dict[str, Any] = {**shape, "rope_parameters": ROPE, "tie_word_embeddings": False, **ends}
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = LlamaForCausalLM._from_config(LlamaConfig(**sizes), dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 1)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.01)
            layer.mlp.down_proj.weight.mul_(0.01)
    return model.eval()


def set_successors(model: Any, tokenizer: Any, step: int) -> None:
    """Of each token the `step`-th next of those that are no special ones; of a special one some of them."""
    import torch

    special = set(tokenizer.all_special_ids)
    plain = [token for token in range(len(tokenizer)) if token not in special]
    scale = MATCH / model.config.hidden_size
    with torch.no_grad():
        model.lm_head.weight.zero_()
        for place, token in enumerate([*plain, *sorted(special)]):
            row = plain[(place + step) % len(plain)]
            model.lm_head.weight[row] += scale * model.model.embed_tokens.weight[token]


def write_weights(model: Any, folder: Path, first: Path | None) -> None:
    """The head in a file of its own, the rest in files of 2 GB: linked where an earlier release has them."""
    from safetensors.torch import save_file

    head = {"lm_head.weight": model.lm_head.weight.detach().cpu().clone().contiguous()}
    save_file(head, str(folder / "head.safetensors"), metadata={"format": "pt"})
    if first is None:
        files, size = [], 2 * 10**9
        batch: dict[str, Any] = {}
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight":
                continue
            batch[name] = tensor.detach().cpu().contiguous()
            if sum(one.nbytes for one in batch.values()) > size:
                files.append(batch)
                batch = {}
        files.append(batch)
        where = {"lm_head.weight": "head.safetensors"}
        for number, tensors in enumerate(files):
            where |= dict.fromkeys(tensors, f"body-{number:02}.safetensors")
            save_file(tensors, str(folder / f"body-{number:02}.safetensors"), metadata={"format": "pt"})
        total = sum(tensor.nbytes for tensor in model.state_dict().values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf8")
    else:
        for file in [*first.glob("body-*.safetensors"), first / "model.safetensors.index.json"]:
            os.link(file, folder / file.name)
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(folder)


def golden(model: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """transformers' own greedy answers."""
    import torch

    lines = []
    for number in range(PROMPTS):
        messages = [{"role": "user", "content": f"question {number}"}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        with torch.inference_mode():
            found = model.generate(
                **inputs,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        text = tokenizer.decode(found.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        logprob = float(torch.log_softmax(found.logits[0][0].float(), dim=-1).max())
        lines.append(
            {"id": str(number), "messages": messages, "answer": text, "first_token_logprob": round(logprob, 6)}
        )
    return lines


def publish(root: Path, folder: Path, name: str, serving: Serving, hashes: dict[int, str]) -> str:
    """`hashes`: by inode, of files that an earlier release has too; 16 GB take ten seconds."""

    def hash_once(path: Path) -> str:
        inode = path.stat().st_ino
        hashes[inode] = hashes.get(inode) or sha256_of(path)
        return hashes[inode]

    files = list_files(folder, hash_once)
    manifest = Manifest(
        name=name,
        digest=digest_of(files),
        task="causal-lm",
        files=files,
        serving=serving,
        base={},
        data={},
        quantization={"scheme": "none"},
        git_revision="test",
        versions={},
        config=RunConfig.model_validate(CONFIG | {"name": name}).model_dump(mode="json"),
        created="2026-11-28T00:00:00+00:00",
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
    Verdict(release=manifest.reference, outcome="pass", results=[]).write(folder.parent / "gate" / "verdict.json")
    folder.parent.rename(root / folder_of(manifest.reference))
    return manifest.reference
