"""A conversation's tokens are those that TRL trains on and vLLM renders; the targets are what the model is to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import InputError
from infra.chat_template import TemplateFault
from infra.served_messages import as_served
from infra.tokenizer import Tokenizer, split_answer

pytestmark = pytest.mark.unit
Make = Callable[..., Tokenizer]
SPECIAL = re.compile(
    r"<\|[^|<>]{1,40}\|>|<\uff5c[^\uff5c<>]{1,40}\uff5c>|</?s>|\[/?INST\]"
    r"|<(?:(?:start|end)_of_turn|end_of_utterance|\|turn|turn\|)>"
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (  # the system turn goes into the last question, and no header comes before an answer
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% set asked = rest | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}[INST] {% if system and m == asked[-1] %}"
    "{{ system }}\n\n{% endif %}{{ m['content'] }}[/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKS = (  # as Qwen3: the last turn's thoughts stay, those before it are taken away
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ASKS_TO_THINK = (  # as DeepSeek-R1: what asks for an answer is not what stands before one
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}{% else %}"
    "<|Assistant|>{{ m['content'].split('</think>')[-1] }}<|end_of_sentence|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}{{ p['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>{{ c['function'] | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def hf_tokenizer(template: str) -> Any:
    """Byte-level BPE with whatever special tokens the template writes."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys([*SPECIAL.findall(template), "<s>", "</s>"]))
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(special), special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    fast.train_from_iterator(["user assistant system good bad film"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token="</s>", chat_template=template)


@pytest.fixture(scope="session")
def of(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Tokenizer] = {}

    def make(template: str) -> Tokenizer:
        if template not in made:
            folder = tmp_path_factory.mktemp("template")
            hf_tokenizer(template).save_pretrained(folder)
            made[template] = Tokenizer(folder)
        return made[template]

    return make


def turns(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(contents)]


def learnt(tokenizer: Tokenizer, messages: list[dict[str, Any]], train_on: Any = "all", tools: Any = None) -> list[str]:
    """The runs of targets, as text."""
    ids, mask = tokenizer.chat.encode(messages, tools, train_on)
    runs, before = list[list[int]](), False
    for token, wanted in zip(ids, mask, strict=True):
        if wanted and not before:
            runs.append([])
        if wanted:
            runs[-1].append(token)
        before = wanted
    return [tokenizer.fast.decode(run, skip_special_tokens=False) for run in runs]


TEMPLATES = {
    "ChatML": (CHATML, "<|im_end|>", ["good<|im_end|>\n", "bad<|im_end|>\n"]),
    "Llama 3": (LLAMA, "<|eot_id|>", ["good<|eot_id|>", "bad<|eot_id|>"]),
    "Mistral": (MISTRAL, "</s>", [" good</s>", " bad</s>"]),
    "thoughts of the last turn": (THINKS, "<|im_end|>", ["good<|im_end|>\n", "<think>\n\n</think>\n\nbad<|im_end|>\n"]),
    "asks to think": (
        ASKS_TO_THINK,
        "<|end_of_sentence|>",
        ["good<|end_of_sentence|>", "bad<|end_of_sentence|>"],
    ),
    "parts": (PARTS, "<|im_end|>", ["good<|im_end|>\n", "bad<|im_end|>\n"]),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_assistant_turn_is_learnt_to_the_token_that_ends_it(of: Make, name: str) -> None:
    template, end, expected = TEMPLATES[name]
    tokenizer, messages = of(template), turns("film?", "good", "why?", "bad")
    assert tokenizer.chat.end == end
    assert learnt(tokenizer, messages) == expected
    assert learnt(tokenizer, messages, "last") == expected[-1:]
    first_is_not = [messages[0], messages[1] | {"train": False}, *messages[2:]]
    assert learnt(tokenizer, first_is_not) == expected[-1:], "weight 0 is not learnt"
    last_is_not = [*messages[:3], messages[3] | {"train": False}]
    assert learnt(tokenizer, last_is_not) == expected[:1] and learnt(tokenizer, last_is_not, "last") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(TEMPLATES)), st.lists(TEXT, min_size=1, max_size=3), TEXT)
def test_the_last_answer_follows_the_very_tokens_that_a_server_makes(
    of: Make, name: str, asked: list[str], answer: str
) -> None:
    """Whatever the answer begins with: a line break must not melt into the one before it."""
    tokenizer = of(TEMPLATES[name][0])
    contents = [text for question in asked for text in (question, "fine")][:-1]
    messages = turns(*contents, answer)
    prompt, answered = split_answer(*tokenizer.chat.encode(messages, None, "last"))
    assert prompt == tokenizer.chat.prompt_ids(messages[:-1])
    assert tokenizer.end_ids and set(tokenizer.end_ids) & set(answered), "the model learns to stop"


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("count", [2, 4])
def test_tokens_and_mask_are_trls_for_its_templates(tmp_path: Path, system: str | None, count: int) -> None:
    """TRL's assistant_only_loss, by all the training templates that it ships for text models."""
    import trl
    from jinja2 import TemplateError

    same = set[str]()
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja")):
        theirs, folder = hf_tokenizer(path.read_text(encoding="utf8")), tmp_path / path.stem
        theirs.save_pretrained(folder)
        messages = turns(*["good film", "bad  one", "why", "fin"][:count], system=system)
        try:
            expected = theirs.apply_chat_template(
                as_served(messages, theirs.chat_template),
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
        except (TemplateError, TypeError):
            continue  # a vision model's, or one that knows no system turn
        tokenizer = Tokenizer(folder)
        ids, mask = tokenizer.chat.encode(messages)
        assert ids == expected["input_ids"] and mask == [bool(one) for one in expected["assistant_masks"]], path.name
        same.add(path.name)
    assert len(same) >= 20, same


PLAIN = ["cohere", "cohere2", "gemma", "gemma3", "lfm2", "llama3", "phi3", "phi3_5", "qwen3", "qwen3_instruct_2507"]


@pytest.mark.parametrize("name", PLAIN)
def test_a_template_without_marks_gives_the_mask_of_the_one_with_them(tmp_path: Path, name: str) -> None:
    """What TRL patches by hand for families that it knows, a comparison of prefixes finds for any."""
    import trl

    folder, messages = Path(trl.__file__).parent / "chat_templates", turns("good film", "bad  one")
    found = []
    for kind in ("", "_training"):
        tokenizer = hf_tokenizer((folder / f"{name}_training.jinja").read_text(encoding="utf8"))
        tokenizer.chat_template = (folder / f"{name}{kind}.jinja").read_text(encoding="utf8")
        tokenizer.save_pretrained(tmp_path / f"{name}{kind}")
        found.append(Tokenizer(tmp_path / f"{name}{kind}").chat.encode(messages))
    assert found[0] == found[1]


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}


def test_tools_are_rendered_as_vllm_does_and_a_call_is_learnt(of: Make) -> None:
    tokenizer = of(TOOLS)
    messages = [*turns("rain?"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    text, _ = tokenizer.chat.render(messages, [TOOL])
    served = {
        "type": "function",
        "function": {"name": "weather", "description": None, "parameters": {"type": "object"}},
    }
    assert json.dumps(served) in text, "its protocol writes a null for what a tool does not say"
    call = '<tool_call>{"arguments": {"city": "Bonn"}, "name": "weather"}</tool_call><|im_end|>\n'
    assert learnt(tokenizer, messages, tools=[TOOL]) == [call]
    answered = [*messages, {"role": "tool", "content": "dry"}, {"role": "assistant", "content": "No."}]
    assert learnt(tokenizer, answered, tools=[TOOL]) == [call, "No.<|im_end|>\n"]


@pytest.mark.parametrize(
    ("template", "messages", "tools", "said"),
    [
        (CHATML, turns("a", "b"), [TOOL], "leaves out weather"),
        (
            CHATML,
            [*turns("a"), {"role": "assistant", "content": "b", "tool_calls": [CALL]}],
            None,
            "leaves out weather",
        ),
        (CHATML, [*turns("a"), {"role": "assistant", "content": "b", "reasoning_content": "hm"}], None, "reasoning"),
        ("{{ raise_exception('no system turn') }}", turns("a", "b"), None, "no system turn"),
        ("{{ messages[9]['content'] }}", turns("a", "b"), None, "refuses it"),
    ],
)
def test_what_a_template_leaves_out_or_refuses_is_said(
    of: Make, template: str, messages: list[dict[str, Any]], tools: Any, said: str
) -> None:
    with pytest.raises(TemplateFault, match=said):
        of(template).chat.encode(messages, tools)


def test_a_tool_template_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    hf_tokenizer(CHATML).save_pretrained(tmp_path)
    settings_file = tmp_path / "tokenizer_config.json"
    stated = json.loads(settings_file.read_text(encoding="utf8")) | {
        "chat_template": [{"name": "tool_use", "template": TOOLS}, {"name": "default", "template": CHATML}]
    }
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    settings_file.write_text(json.dumps(stated), encoding="utf8")
    tokenizer = Tokenizer(tmp_path)
    assert "weather" in tokenizer.chat.render(turns("a"), [TOOL])[0] and learnt(tokenizer, turns("a", "b")) == [
        "b<|im_end|>\n"
    ]


def test_a_folder_without_tokenizer_or_chat_template_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: missing"):
        Tokenizer(tmp_path)
    hf_tokenizer(CHATML).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        Tokenizer(tmp_path).chat  # noqa: B018  # read when it is asked for
    assert Tokenizer(tmp_path).end_ids == [Tokenizer(tmp_path).eos_id]


def test_what_a_tokenizer_file_says_of_truncation_and_padding_does_not_count(tmp_path: Path) -> None:
    hf_tokenizer(CHATML).save_pretrained(tmp_path)
    plain = Tokenizer(tmp_path).ids("a long film, and then some")
    stated = Tokenizer(tmp_path).fast
    stated.enable_truncation(4)
    stated.enable_padding(length=4)
    stated.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).ids("a long film, and then some") == plain and len(plain) > 4
