"""New tokens from the YAML to the merged model: known to the tokenizer, trained, and in the release's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.tokenizer import Tokenizer, load_tokenizer
from tests.train.conftest import write_lines
from train.check_data import tokenizer_here
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.quantize import quantize

pytestmark = pytest.mark.unit
NEW = ["<call>", "<end_call>"]
QUIET = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)


def extended(path: str, tokens: list[str], **changes: Any) -> dict[str, Any]:
    return {"base": {"path": path, "add_tokens": tokens}} | changes


def untie(path: str, rows: int = 0) -> None:
    """A head of its own, and a vocabulary padded by `rows`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    if rows:
        model.resize_token_embeddings(model.config.vocab_size + rows, mean_resizing=False)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone() * 2)
    model.save_pretrained(path)


def test_rows_are_counted_before_the_base_is_made_by_the_tokens_that_it_will_have(
    chat: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = chat(**extended("tiny-gpt", NEW))
    turns = [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "<call>film<end_call>"}]
    with tokenizer_here(config) as folder:
        assert folder is not None
        counted = Tokenizer(folder).conversation({"messages": turns})
    made = make_base(config)
    assert (
        counted
        == Tokenizer(made).conversation({"messages": turns})
        != Tokenizer(Path("tiny-gpt")).conversation({"messages": turns})
    )
    known = chat(**extended("tiny-gpt", ["<|im_end|>"]))
    with pytest.raises(InputError, match="expected tokens that are new"), tokenizer_here(known):
        pass


@pytest.mark.parametrize(("tied", "padded"), [(True, 0), (False, 0), (False, 1), (False, 5)])
def test_a_base_has_a_row_for_each_new_token(chat: Callable[..., RunConfig], tied: bool, padded: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    if not tied:
        untie("tiny-gpt", padded)
    plain = AutoModelForCausalLM.from_pretrained("tiny-gpt", dtype=torch.float32)
    base = make_base(chat(**extended("tiny-gpt", NEW)))
    assert make_base(chat(**extended("tiny-gpt", NEW))) == base != make_base(chat())
    tokenizer = load_tokenizer(base)
    before = len(tokenizer) - 2
    assert tokenizer.convert_tokens_to_ids(NEW) == [before, before + 1]
    assert tokenizer("a<call>b")["input_ids"].count(before) == 1
    assert tokenizer.decode([before], skip_special_tokens=True) == "<call>"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert model.config.vocab_size == max(before + padded, before + 2)
    pairs: Any = (
        (model.get_input_embeddings(), plain.get_input_embeddings()),
        (model.get_output_embeddings(), plain.get_output_embeddings()),
    )
    for found, old in pairs:
        assert torch.equal(found.weight[:before], old.weight[:before])
        assert torch.allclose(found.weight[before], old.weight[:before].mean(dim=0), atol=1e-2)
    given = torch.tensor([[5, 6, 7]])
    assert torch.allclose(model(given).logits[..., :before], plain(given).logits[..., :before], atol=1e-5)


def test_a_token_that_is_one_already_is_refused(chat: Callable[..., RunConfig]) -> None:
    with pytest.raises(InputError, match=r"base.add_tokens: found <\|im_end\|>, expected tokens that are new"):
        make_base(chat(**extended("tiny-gpt", ["<new>", "<|im_end|>"])))


@pytest.mark.parametrize(("tied", "method"), [(True, "lora"), (False, "lora"), (True, "full"), (False, "full")])
def test_new_tokens_are_learnt_and_lie_in_the_release(
    chat: Callable[..., RunConfig], checkout: Path, tied: bool, method: str
) -> None:
    """Answers of new tokens alone, over a head of its own too: only rows that are trained make them likely."""
    import torch
    from transformers import AutoModelForCausalLM

    if not tied:
        untie("tiny-gpt")
    turns = [
        [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": "<call><end_call>"}]
        for index in range(40)
    ]
    write_lines(checkout / "rows.jsonl", [{"messages": messages} for messages in turns])
    train: dict[str, Any] = {"max_steps": 120, "learning_rate": 0.01, "dtype": "float32", "method": method}
    train |= {"lora": {}} if method == "full" else {}
    config = chat(**extended("tiny-gpt", NEW, quantize={"scheme": "none"}, train=train, evaluate={"max_new_tokens": 2}))
    paths = RunPaths.of(config.name)
    base = make_base(config)
    prepare(config, paths, base)
    record = finetune(config, paths, QUIET)
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"] / 2
    quantize(config, paths)
    tokenizer = load_tokenizer(paths.release)
    model = AutoModelForCausalLM.from_pretrained(paths.release, dtype=torch.float32).eval()
    asked = tokenizer.apply_chat_template(
        turns[0][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answered = model.generate(**asked, max_new_tokens=2, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(answered) == "<call><end_call>"
