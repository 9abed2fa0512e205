"""What one key may ask of the router: requests a minute, tokens a minute, requests at once."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring
from tests.infra.conftest import RunningProxy

pytestmark = pytest.mark.integration


def key_with(proxy: RunningProxy, name: str = "team", **limits: int) -> str:
    return Keyring(proxy.router.config).add(name, KeyLimits.model_validate(limits))


def refused(reply: httpx.Response) -> bool:
    """A 429 as the openai SDK wants it: a JSON error and a time to come back."""
    if reply.status_code != 429:
        return False
    assert int(reply.headers["retry-after"]) >= 1 and reply.json()["error"]["type"] == "rate_limit_error"
    return True


def test_requests_a_minute_are_counted_by_name_and_refused_ones_are_not(proxy: RunningProxy) -> None:
    secret, other = key_with(proxy, requests_per_minute=3), key_with(proxy, "other", requests_per_minute=3)
    assert [refused(proxy.ask(key=secret, json={})) for _ in range(6)] == [False] * 3 + [True] * 3
    rotated = Keyring(proxy.router.config).rotate("team", 60)
    assert refused(proxy.ask(key=rotated, json={})), "a new key is no new allowance"
    assert not refused(proxy.ask(key=other, json={})) and not refused(proxy.ask(json={}))
    assert len(proxy.arrivals) == 5


def test_requests_at_once_are_bounded_and_free_again_when_one_ends(proxy: RunningProxy) -> None:
    secret = key_with(proxy, concurrent=2)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: proxy.ask(key=secret, json={"hold": 1}), range(6)))
    assert sorted(reply.status_code for reply in replies) == [200, 200, 429, 429, 429, 429]
    assert all(refused(reply) for reply in replies if reply.status_code != 200)
    assert proxy.ask(key=secret, json={}).status_code == 200


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 1}, 100),
        ({"max_output_tokens": 100}, 100),
        ({"max_tokens": 50, "n": 2}, 100),
        ({"max_tokens": -1000}, 1024),
        ({}, 1024),
        ({"max_tokens": 10, "filler": "x" * 400}, 110),
    ],
)
def test_tokens_a_minute_are_reserved_from_what_the_body_asks(
    proxy: RunningProxy, body: dict[str, object], cost: int
) -> None:
    """Three fit and a fourth does not; the bytes of the body itself are less than 0.2 of the cost."""
    secret = key_with(proxy, tokens_per_minute=int(3.7 * cost) if cost > 100 else 390)
    assert [refused(proxy.ask(key=secret, json=body)) for _ in range(4)] == [False, False, False, True]
    assert len(proxy.arrivals) == 3


CHAT = '"messages": [{"role": "user", "content": "n max_tokens"}]'
# Ways to spell 4 answers of 100 tokens each: none may pass for less.
SPELT = {
    "plainly": '{%s, "max_tokens": 100, "n": 4}',
    "twice, the small ones first": '{"max_tokens": 1, "n": 1, %s, "max_tokens": 100, "n": 4}',
    "twice, the small ones last": '{"max_tokens": 100, "n": 4, %s, "max_tokens": 1, "n": 1}',
    "twice, once by escapes": '{"max_tokens": 1, %s, "max\\u005ftokens": 100, "n": 4}',
    "by escapes alone": '{%s, "\\u006dax_tokens": 100, "\\u006E": 4}',
    "after a key that looks like it": '{"x": "\\"n\\": 1", %s, "max_tokens": 100, "n": 4}',
    "in an inner object first": '{"a": {"max_tokens": 1, "n": 1}, %s, "max_tokens": 100, "n": 4}',
    "as texts": '{%s, "max_tokens": "100", "n": "4"}',
    "as texts by escapes": '{%s, "max_tokens": "\\u0031\\u0030\\u0030", "n": "4"}',
    "as texts with blanks and a sign": '{%s, "max_tokens": " +100 ", "n": " 4"}',
    "with an underscore": '{%s, "max_tokens": "1_00", "n": "4"}',
    "as fractions": '{%s, "max_tokens": 100.0, "n": 4e0}',
    "as powers": '{%s, "max_tokens": 1e2, "n": 0.4E+1}',
    "best of": '{%s, "max_tokens": 100, "n": 1, "best_of": 4}',
    "under the other name": '{%s, "max_completion_tokens": 100, "n": 4}',
    "under both names, the small one first": '{%s, "max_completion_tokens": 1, "max_tokens": 100, "n": 4}',
    "under both names, the large one first": '{%s, "max_completion_tokens": 100, "max_tokens": 1, "n": 4}',
    "under all three": '{%s, "max_output_tokens": 100, "max_completion_tokens": 1, "max_tokens": 1, "n": 4}',
    "with blanks everywhere": ' \t\r\n{ %s\n,\r"max_tokens"\t: 100 , "n" :4 } \n',
    "four prompts": '{"prompt": ["a", "b", "c", "d"], "max_tokens": 100}',
    "two prompts twice": '{"prompt": ["a", "b"], "max_tokens": 100, "n": 2}',
    "prompts that hold commas and brackets": '{"prompt": ["a,]", "[b,", "\\"],", "d\\\\"], "max_tokens": 100}',
    "prompts of token ids": '{"prompt": [[1], [2, 3], [4], [5]], "max_tokens": 100}',
    "prompts of token ids with blanks": '{"prompt": [ [1] ,\n[2,3],[ 4 ], [5] ], "max_tokens": 100}',
}
# Of these nobody can say what they cost: no JSON object in UTF-8 that names each key once.
UNREAD = {
    "UTF-16": '{%s, "max_tokens": 100, "n": 4}'.encode("utf-16"),
    "UTF-16 without a mark": '{%s, "max_tokens": 100, "n": 4}'.encode("utf-16-le"),
    "UTF-32": '{%s, "max_tokens": 100, "n": 4}'.encode("utf-32"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + b'{"max_tokens": 100}',
    "a list": b'[{"max_tokens": 100}]',
    "a text": b'"max_tokens"',
    "two objects": b'{"max_tokens": 1} {"max_tokens": 100}',
    "nothing": b"",
    "cut short": b'{"max_tokens": 100',
    "cut in a text": b'{"max_tokens": "100',
    "cut after a backslash": b'{"a": "\\',
    "a list that does not end": b'{"prompt": ["a", "b"',
    "no colon": b'{"max_tokens" 100}',
    "no comma": b'{"n": 4 "max_tokens": 100}',
    "a comma too many": b'{"n": 4,}',
    "a bare key": b"{n: 4}",
    "a bound in words": b'{"max_tokens": "many"}',
    "a bound as a list": b'{"max_tokens": [100]}',
    "a bound as an object": b'{"n": {"$gt": 0}}',
    "not a number": b'{"max_tokens": NaN}',
    "a NUL": b'{"a": "\x00"}',
    "a key twice": b'{"n": 4, "n": 4}',
    "a key twice by escapes": b'{"model": 1, "\\u006dodel": 2}',
}


def test_no_spelling_of_a_request_makes_it_cost_less(proxy: RunningProxy) -> None:
    """A key of 700 tokens a minute: one goes in, a second one does not, if it is seen as the 400 that it may cost."""
    assert len(SPELT) + len(UNREAD) >= 45
    for number, (what, spelling) in enumerate(SPELT.items()):
        body = (spelling % CHAT if "%s" in spelling else spelling).encode()
        secret = key_with(proxy, f"team{number}", tokens_per_minute=700)
        path = "/v1/completions" if b"prompt" in body else "/v1/chat/completions"
        headers = {"content-type": "application/json"}
        statuses = [proxy.ask(path=path, key=secret, content=body, headers=headers).status_code for _ in range(2)]
        assert statuses in ([200, 429], [400, 400]), what


def test_what_cannot_be_read_is_refused_before_a_model_server_reads_it_otherwise(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=1_000_000)
    headers = {"content-type": "application/json"}
    found = {what: proxy.ask(key=secret, content=body, headers=headers).status_code for what, body in UNREAD.items()}
    assert found == dict.fromkeys(UNREAD, 400) and proxy.arrivals == []


def test_what_a_request_wants_at_once_and_a_minute_counts_each_answer(proxy: RunningProxy) -> None:
    secret = key_with(proxy, concurrent=3, requests_per_minute=10)
    reply = proxy.ask(key=secret, json={"n": 4})
    assert refused(reply) and "asks for 4 answers at once, and its API key has 3" in reply.json()["error"]["message"]
    many = key_with(proxy, "many", requests_per_minute=10)
    answers = [proxy.ask(path="/v1/completions", key=many, json={"prompt": ["x"] * 4}) for _ in range(3)]
    assert [refused(one) for one in answers] == [False, False, True]
    assert "asks for 4 answers, and its API key has 10 requests a minute" in answers[2].json()["error"]["message"]


def test_a_request_that_can_never_fit_is_told_what_it_needs(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=300)
    reply = proxy.ask(key=secret, json={"max_tokens": 100, "n": 6})
    message = reply.json()["error"]["message"]
    assert refused(reply) and re.search(r"may need 6\d\d tokens .* and its API key has 300 a minute", message)


def test_token_ids_count_one_by_one_and_inputs_of_a_classifier_write_nothing(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=1_500)
    ids = json.dumps({"prompt": [7] * 1000, "max_tokens": 1}, separators=(",", ":"))
    headers = {"content-type": "application/json"}
    assert [
        proxy.ask(path="/v1/completions", key=secret, content=ids, headers=headers).status_code for _ in range(2)
    ] == [200, 429], "two bytes each"
    labels = key_with(proxy, "labels", tokens_per_minute=300)
    assert not refused(proxy.ask(path="/classify", key=labels, json={"input": ["x"] * 100}))


def test_an_input_of_many_parts_is_one_conversation(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=400)
    parts = [{"role": "user", "content": "x"}] * 5
    assert not refused(proxy.ask(path="/v1/responses", key=secret, json={"input": parts, "max_output_tokens": 100}))


def test_an_answer_bound_beyond_all_measure_is_refused_and_takes_nothing(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=1000)
    for bound in (2**31, 2**62, 10**30):
        assert refused(proxy.ask(key=secret, json={"max_tokens": bound}))
    assert not refused(proxy.ask(key=secret, json={"max_tokens": 900}))


def test_a_prompt_larger_than_a_network_buffer_is_read_too(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=200_000)
    body = {"messages": "y" * 600_000, "max_tokens": 49_000}
    assert [refused(proxy.ask(key=secret, json=body)) for _ in range(2)] == [False, True]


def test_a_classifier_writes_no_tokens_and_models_cost_none(proxy: RunningProxy) -> None:
    secret = key_with(proxy, tokens_per_minute=20)
    assert not refused(proxy.ask(path="/classify", key=secret, json={"input": ["x"]}))
    assert not refused(proxy.ask("GET", "/v1/models", key=secret))
    assert refused(proxy.ask(key=secret, json={}))


def test_a_spent_budget_is_refused_for_its_day_or_month_alone(proxy: RunningProxy) -> None:
    """The router itself knows when the period is over: whoever looks after budgets may be dead then."""
    secret, other = key_with(proxy), key_with(proxy, "other")
    moment = time.gmtime()
    today, month = time.strftime("%Y-%m-%d", moment), time.strftime("%Y-%m", moment)
    for period, words in ((today, "for this day"), (month, "for this month")):
        proxy.router.set_spent({"team": period})
        reply = proxy.ask(key=secret, json={})
        assert (reply.status_code, reply.json()["error"]["type"]) == (429, "insufficient_quota")
        assert words in reply.json()["error"]["message"]
        assert proxy.ask(key=other, json={}).status_code == proxy.ask(json={}).status_code == 200
        assert proxy.ask("GET", "/v1/models", key=secret).status_code == 200
    for over in ("2020-01-01", "2020-01", today + "1", "-"):
        proxy.router.set_spent({"team": over})
        assert proxy.ask(key=secret, json={}).status_code == 200
    proxy.router.set_spent({})
    assert proxy.ask(key=secret, json={}).status_code == 200
