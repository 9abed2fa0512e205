from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError
from configs.release import Manifest
from configs.run.serving import Serving
from infra.served_messages import as_request
from infra.tokenizer import NO_SUBWORD
from infra.vllm.answer import Answer, read_tags
from infra.vllm.client import ask
from infra.vllm.parity import agrees, differ

pytestmark = pytest.mark.unit


def manifest(task: str) -> Manifest:
    fields: Any = {"name": "m", "task": task, "problem": "single_label", "labels": ["no", "yes"]}
    return Manifest.model_construct(**fields)


def answer(task: str, handler: httpx.MockTransport) -> Answer:
    async def go() -> Answer:
        async with httpx.AsyncClient(transport=handler) as client:
            example = {
                "text": "t",
                "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "gold"}],
            }
            return await ask(client, "http://x", "m", manifest(task), example, max_new_tokens=4)

    return asyncio.run(go())


def test_classifier_maps_probs_by_index_and_retries_5xx() -> None:
    replies = [httpx.Response(503), httpx.Response(200, json={"data": [{"probs": [0.2, 0.8], "label": "yes"}]})]
    found = answer("sequence-classification", httpx.MockTransport(lambda request: replies.pop(0)))
    assert found.label == "yes" and found.probs == {"no": 0.2, "yes": 0.8}
    assert differ(found, {"probs": {"no": 0.1, "yes": 0.9}}) == pytest.approx(0.1)
    assert differ(found, {}) == float("inf")


def test_chat_never_sends_the_gold_answer() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        assert len(json.loads(request.content)["messages"]) == 1
        choice = {"message": {"content": "hi"}, "logprobs": {"content": [{"logprob": -0.5}]}}
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 1}})

    assert answer("causal-lm", httpx.MockTransport(reply)).first_token_logprob == -0.5


def test_refusal_and_wrong_shape_are_outside_errors(tmp_path: Path) -> None:
    for response in (httpx.Response(404), httpx.Response(200, json={}), httpx.Response(200, text="no")):
        with pytest.raises(ExternalError):
            answer("causal-lm", httpx.MockTransport(lambda request, response=response: response))


def asked(
    task: str,
    example: dict[str, Any],
    reply: dict[str, Any],
    problem: str = "single_label",
    labels: list[str] | None = None,
    tool_parser: str | None = None,
) -> tuple[Any, list[Any]]:
    """The answer, and the requests that were sent as (path, body)."""
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=reply)

    async def go() -> Answer:
        fields: Any = {"name": "m", "task": task, "problem": problem, "labels": labels or ["no", "yes"]}
        served = Manifest.model_construct(**fields, serving=Serving(tool_parser=tool_parser))
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await ask(client, "http://x", "m", served, example, max_new_tokens=4)

    return asyncio.run(go()), sent


def test_many_labels_are_those_more_likely_than_not() -> None:
    found, _ = asked("sequence-classification", {"text": "t"}, {"data": [{"probs": [0.6, 0.7]}]}, "multi_label")
    assert found.labels == ["no", "yes"] and found.text == "no, yes" and found.probs == {"no": 0.6, "yes": 0.7}
    none, _ = asked("sequence-classification", {"text": "t"}, {"data": [{"probs": [0.1, 0.5]}]}, "multi_label")
    assert none.labels == [] and none.text == "(none)", "no label is an answer, not an empty one"
    assert agrees(none, {"answer": "(none)"}, 0) == 1 and agrees(none, {"answer": "yes"}, 0) == 0


def test_a_number_agrees_within_the_tolerance() -> None:
    found, sent = asked("sequence-classification", {"text": "t"}, {"data": [{"probs": [-2.5]}]}, "regression")
    assert found.value == -2.5 and found.label is None and sent[0][0] == "/classify"
    assert [agrees(found, {"value": -2.4, "answer": "x"}, tolerance) for tolerance in (0.2, 0.05)] == [1, 0]
    assert differ(found, {"value": -2.0}) == pytest.approx(0.5) and differ(found, {}) == float("inf")


def test_a_words_tag_is_read_at_its_first_subword() -> None:
    labels, example = ["O", "B-PER"], {"input_ids": [9, 5, 6, 7, 9], "first_subwords": [1, NO_SUBWORD, 3]}
    reply = {"data": [{"data": [[0.5, 0.5], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]}]}
    found, sent = asked("token-classification", example, reply, labels=labels)
    assert sent == [("/pooling", {"model": "m", "input": [[9, 5, 6, 7, 9]], "task": "token_classify"})]
    assert found.labels == ["B-PER", "O", "O"] and found.text == "B-PER O O" and found.confidences == [0.9, 1.0, 0.8]
    assert agrees(found, {"answer": "B-PER O B-PER"}, 0) == pytest.approx(2 / 3)
    assert differ(found, {"confidences": [0.7, 1.0, 0.8]}) == pytest.approx(0.2 / 3) and differ(found, {}) == float(
        "inf"
    )


@given(st.lists(st.integers(0, 2), min_size=1, max_size=10), st.data())
def test_tags_come_back_for_every_word_whatever_its_subwords(sizes: list[int], data: st.DataObject) -> None:
    """`sizes`: how many subwords each word has; each subword's likeliest tag is drawn, the first one counts."""
    starts = [1 + sum(sizes[:place]) if size else NO_SUBWORD for place, size in enumerate(sizes)]
    drawn = data.draw(st.lists(st.integers(0, 2), min_size=sum(sizes) + 2, max_size=sum(sizes) + 2))
    tokens = [[0.8 if tag == one else 0.1 for tag in range(3)] for one in drawn]
    example = {"input_ids": [0] * len(tokens), "first_subwords": starts}
    found = read_tags({"data": [{"data": tokens}]}, ["O", "B", "I"], example, 0.1)
    assert found.labels == ["O" if start == NO_SUBWORD else "OBI"[drawn[start]] for start in starts]


def test_another_number_of_tokens_than_was_sent_is_an_outside_error() -> None:
    with pytest.raises(ExternalError, match="unexpected shape"):
        asked(
            "token-classification", {"input_ids": [1, 2, 3], "first_subwords": [1]}, {"data": [{"data": [[0.5, 0.5]]}]}
        )


def test_a_golden_answer_is_followed_token_by_token_from_the_golden_ones_before() -> None:
    entries = [
        None,
        *({str(token): {"logprob": -0.1, "rank": rank}} for token, rank in ((5, 9), (6, 1), (7, 2), (8, 1))),
    ]
    reply = {
        "choices": [{"text": " hi", "logprobs": {"token_logprobs": [-0.25]}, "prompt_logprobs": entries}],
        "usage": {"completion_tokens": 1},
    }
    golden = {"prompt": "p", "answer": "another text", "prompt_ids": [4, 5], "answer_ids": [6, 7, 8]}
    found, sent = asked("causal-lm", golden, reply)
    assert sent[1][1]["prompt"] == [4, 5, 6, 7, 8] and found.followed == pytest.approx(2 / 3)
    assert agrees(found, golden, 0) == pytest.approx(2 / 3), (
        "the prompt's own tokens do not count, the text does not decide"
    )


def test_a_prompt_is_completed_and_a_text_is_scored() -> None:
    choice = {
        "text": " hi",
        "logprobs": {"token_logprobs": [-0.25, -0.5]},
        "prompt_logprobs": [None, {"7": {"logprob": -1.0}}, {"8": {"logprob": -2.0}}],
    }
    reply = {"choices": [choice], "usage": {"completion_tokens": 2}}
    completed, sent = asked("causal-lm", {"prompt": "p", "completion": "gold"}, reply)
    assert sent[0][0] == "/v1/completions" and sent[0][1]["prompt"] == "p" and "gold" not in json.dumps(sent)
    assert completed.text == " hi" and completed.first_token_logprob == -0.25
    scored, sent = asked("causal-lm", {"text": "t"}, reply)
    assert sent[0][1]["prompt"] == "t" and scored.logprob == -3.0 and scored.scored_tokens == 2


def test_a_pair_is_answered_and_both_its_answers_are_scored_after_the_prompt() -> None:
    example = {
        "messages": [{"role": "user", "content": "q"}],
        "rejected": "no",
        "prompt_ids": [1, 2],
        "chosen_ids": [3, 4],
        "rejected_ids": [5],
    }
    tokens = [None, {"2": {"logprob": -9.0}}, {"3": {"logprob": -1.0}}, {"4": {"logprob": -0.5}}]
    reply = {"choices": [{"message": {"content": "yes"}, "prompt_logprobs": tokens}], "usage": {"completion_tokens": 1}}
    found, sent = asked("causal-lm", example, reply)
    assert [path for path, _ in sent] == ["/v1/chat/completions", "/v1/completions", "/v1/completions"]
    assert [body["prompt"] for _, body in sent[1:]] == [[1, 2, 3, 4], [1, 2, 5]]
    assert found.text == "yes" and (found.logprob, found.rejected_logprob) == (-1.5, -0.5), "the answer's tokens only"


def test_a_reference_is_scored_after_the_prompt_where_its_tokens_are_given() -> None:
    """As a preference pair's chosen answer, and there is no other."""
    example = {"prompt": "p", "completion": "gold", "prompt_ids": [1, 2], "chosen_ids": [3, 4]}
    tokens = [None, {"2": {"logprob": -9.0}}, {"3": {"logprob": -1.0}}, {"4": {"logprob": -0.5}}]
    reply = {
        "choices": [{"text": "said", "prompt_logprobs": tokens}],
        "usage": {"completion_tokens": 1, "prompt_tokens": 2},
    }
    found, sent = asked("causal-lm", example, reply)
    assert [body["prompt"] for _, body in sent] == ["p", [1, 2, 3, 4]] and found.text == "said"
    assert (found.logprob, found.scored_tokens, found.rejected_logprob) == (-1.5, 2, None) and found.prompt_tokens == 2


def test_the_label_is_the_word_that_applications_read_and_one_that_the_release_does_not_know_is_no_answer() -> None:
    """A release whose config.json maps labels wrongly shows it here: its probabilities alone would not."""
    swapped = {"data": [{"probs": [0.2, 0.8], "label": "no"}]}
    found = asked("sequence-classification", {"text": "t"}, swapped, labels=["no", "yes"])[0]
    assert found.label == found.text == "no" and found.probs == {"no": 0.2, "yes": 0.8}
    with pytest.raises(ExternalError, match="unexpected shape"):
        asked(
            "sequence-classification",
            {"text": "t"},
            {"data": [{"probs": [0.2, 0.8], "label": "LABEL_1"}]},
            labels=["no", "yes"],
        )


def test_the_tokens_of_the_prompt_are_those_that_the_server_counted() -> None:
    reply = {"data": [{"probs": [0.2, 0.8], "label": "yes"}], "usage": {"prompt_tokens": 7}}
    assert asked("sequence-classification", {"text": "t"}, reply, labels=["no", "yes"])[0].prompt_tokens == 7
    assert (
        asked("sequence-classification", {"text": "t"}, reply | {"usage": None}, labels=["no", "yes"])[0].prompt_tokens
        == 0
    )


TOOL = {"type": "function", "function": {"name": "weather"}}
ASKED = {
    "messages": [
        {"role": "user", "content": "rain?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "weather", "arguments": {"a": 1}}}],
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "dry", "tool_call_id": "1"},
        {"role": "assistant", "content": "no", "train": False},
    ],
    "tools": [TOOL],
}


@pytest.mark.parametrize(("tool_parser", "choice"), [(None, "none"), ("hermes", "auto")])
def test_tools_and_calls_are_asked_in_openais_words_and_a_call_is_read(tool_parser: str | None, choice: str) -> None:
    call = {"id": "7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    reply = {"choices": [{"message": {"content": None, "tool_calls": [call]}}], "usage": {"completion_tokens": 3}}
    found, ((_, body),) = asked("causal-lm", ASKED, reply, tool_parser=tool_parser)
    assert (body["tools"], body["tool_choice"]) == ([TOOL], choice)
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}', "a text, as its protocol has it"
    assert len(body["messages"]) == 3 and "train" not in json.dumps(body)
    assert body["messages"][1]["reasoning"] == "hm" and as_request(body["messages"][1]) == body["messages"][1]
    assert found.text == '{"name": "weather", "arguments": {"city": "Bonn"}}'


def test_a_reward_model_judges_both_answers_with_the_tools_that_were_there() -> None:
    reply = {"data": [{"probs": [1.5], "label": None}]}
    _, (chosen, rejected) = asked("sequence-classification", ASKED | {"rejected": "yes"}, reply, "regression")
    tool = {"type": "function", "function": {"name": "weather", "description": None, "parameters": None}}
    for (path, body), answer in ((chosen, "no"), (rejected, "yes")):
        assert path == "/classify" and body["chat_template_kwargs"] == {"tools": [tool]}, "as the chat endpoint has it"
        assert body["messages"][-1] == {"role": "assistant", "content": answer} and len(body["messages"]) == 4
        assert body["messages"][1]["reasoning"] == "hm", "the one name that /classify reads"
