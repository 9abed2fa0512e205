"""What an application sees: the openai SDK raises its own classes on the door's errors."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring
from tests.infra.conftest import SECRET, OpenDoor

pytestmark = pytest.mark.integration
HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def client_of(door: OpenDoor, key: str = SECRET) -> openai.OpenAI:
    return openai.OpenAI(base_url=door.router.base_url + "/v1", api_key=key, max_retries=0)


def key_with(door: OpenDoor, **limits: object) -> str:
    return Keyring(door.router.config).add("team", KeyLimits.model_validate(limits))


def test_a_wrong_key_and_a_missing_scope_are_the_sdks_own_errors(door: OpenDoor) -> None:
    with pytest.raises(openai.AuthenticationError, match="wrong or missing API key") as found:
        client_of(door, "wrong").chat.completions.create(model="assistant", messages=HELLO)
    assert found.value.type == "authentication_error" and found.value.request_id
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope chat"):
        client_of(door, key_with(door, scopes=["models"])).chat.completions.create(model="assistant", messages=HELLO)


def test_a_path_that_is_not_open_and_a_server_that_is_down_too(door: OpenDoor) -> None:
    with pytest.raises(openai.NotFoundError, match="no such path here"):
        client_of(door).files.list()
    config = door.router.config
    door.router.stop(0)
    type(door.router)(config.model_copy(update={"slot_ports": (1, 2)})).start(SECRET)
    with pytest.raises(openai.InternalServerError, match="no model server is up") as found:
        client_of(door).chat.completions.create(model="assistant", messages=HELLO)
    assert found.value.status_code == 503


def test_a_429_names_the_limit_and_the_time_to_come_back(door: OpenDoor) -> None:
    key = key_with(door, requests_per_minute=1)
    client_of(door, key).models.list()
    with pytest.raises(openai.RateLimitError, match="too many requests a minute") as found:
        client_of(door, key).models.list()
    assert int(found.value.response.headers["retry-after"]) > 0


def test_the_model_is_listed_by_its_stable_name_with_its_release(door: OpenDoor) -> None:
    door.router.set_release("blue", "sha256:aa")
    (model,) = client_of(door).models.list().data
    assert (model.id, model.owned_by) == ("assistant", "tunegate")
    assert model.model_extra is not None and model.model_extra["tunegate"]["release"] == "sha256:aa"


def test_the_sdk_waits_as_long_as_a_429_says_and_asks_again_by_itself(door: OpenDoor) -> None:
    key = key_with(door, concurrent=1)
    client = client_of(door, key).with_options(max_retries=5)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(door.ask, key=key, json={"hold": 2})
        while not door.arrivals:
            time.sleep(0.01)
        client.chat.completions.create(model="assistant", messages=HELLO)
        assert held.result().status_code == 200
    assert '"status":429' in (door.router.folder / "access.jsonl").read_text() and len(door.arrivals) == 2
