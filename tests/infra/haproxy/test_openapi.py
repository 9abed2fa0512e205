"""The router's own description: valid, of just what its settings open, and without a text of anybody's YAML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31

from configs.environment.config import DeployConfig
from configs.environment.router import SCOPES, OpenPath, RouterSettings
from infra.haproxy.config import ERRORS, render
from infra.haproxy.jwks import SigningKey
from infra.haproxy.openapi import ONE_MODEL, describe, documents, page

pytestmark = pytest.mark.unit
PORTS = st.integers(1, 65_535)
HOSTILE = st.text(min_size=1, max_size=20) | st.sampled_from(
    ["</pre><script>x</script>", '"}],"x":[{"', "{{ 7*7 }}", "{% raw %}", "it's", "\\", "`<b>`", "\u2028", "]]>", "--"]
)
NAMES = HOSTILE.filter(lambda text: not re.search(r"[\x00-\x1f\x7f]", text))
ISSUERS = NAMES.filter(lambda text: not re.search(r"[\s'\"]", text))
# What decides about the document.
OPENED = st.fixed_dictionaries(
    {
        "paths": st.lists(st.sampled_from(get_args(OpenPath)), unique=True),
        "max_body_kib": st.integers(1, 16_384),
        "max_header_kib": st.integers(1, 64),
        "receive_seconds": st.integers(1, 600),
        "queue_seconds": st.integers(1, 3_600),
        "answer_seconds": st.integers(1, 86_400),
        "default_max_tokens": st.integers(1, 10**9),
    }
)
NONE = dict.fromkeys(("tls", "client_ca", "jwt", "cors"), False)
KINDS = st.fixed_dictionaries({name: st.booleans() for name in NONE})
# Texts and numbers that are nobody's business outside: of the machine, the operator, the identity provider.
SECRETS = st.fixed_dictionaries(
    {
        "model": NAMES,
        "texts": st.lists(NAMES, min_size=4, max_size=4),
        "issuer": ISSUERS,
        "audience": ISSUERS,
        "ports": st.lists(PORTS, min_size=5, max_size=5),
        "origin": st.sampled_from(["https://intern.example", "http://10.0.0.1:8000"]),
        "host": st.sampled_from(["127.0.0.1", "::", "*", "db7.intern"]),
        "variable": st.sampled_from(["TUNEGATE_API_KEY", "VAULT_TOKEN_7"]),
    }
)
PLAIN: dict[str, Any] = {
    "model": "m",
    "texts": ["a", "b", "c", "d"],
    "issuer": "i",
    "audience": "a",
    "ports": [1, 2, 3, 4, 5],
    "origin": "https://a.example",
    "host": "127.0.0.1",
    "variable": "TUNEGATE_API_KEY",
}


def config_of(opened: dict[str, Any], kinds: dict[str, bool], secrets: dict[str, Any] = PLAIN) -> DeployConfig:
    certificate, key, authority, jwks = secrets["texts"]
    router = opened | {"host": secrets["host"], "port": secrets["ports"][0], "api_key_env": secrets["variable"]}
    router |= {"metrics_port": secrets["ports"][1]}
    if kinds["tls"]:
        router["tls"] = {"certificate": certificate, "key": key, "local_port": secrets["ports"][2]}
        router["tls"] |= {"client_ca": authority} if kinds["client_ca"] else {}
    if kinds["jwt"]:
        router["jwt"] = {"jwks": jwks, "issuer": secrets["issuer"], "audience": secrets["audience"]}
    if kinds["cors"]:
        router["cors_origins"] = [secrets["origin"]]
    facts = {"name": "x", "model": secrets["model"], "gate": None, "slot_ports": secrets["ports"][3:]}
    return DeployConfig.model_validate(facts | {"router": router})


def known_paths(config: DeployConfig) -> tuple[set[str], bool]:
    """What the router's own configuration lets in: paths, and whether a model may be named."""
    with pytest.MonkeyPatch.context() as patch:
        key = SigningKey("k", "RS256", "pem")
        patch.setattr("infra.haproxy.config.keys_of", lambda config: [key] if config.router.jwt else [])
        lines = render(config).splitlines()
    (known,) = [line.split()[3:] for line in lines if line.startswith("    acl known path /")]
    return set(known), any(line.split()[:2] == ["acl", "one_model"] for line in lines)


@settings(max_examples=60, deadline=None)
@given(OPENED, KINDS)
def test_it_describes_just_the_paths_scopes_and_limits_that_the_router_has(
    opened: dict[str, Any], kinds: dict[str, bool]
) -> None:
    config = config_of(opened, kinds)
    document = describe(config)
    paths, one_model = known_paths(config)
    assert set(document["paths"]) == paths | ({ONE_MODEL} if one_model else set())
    for path, item in document["paths"].items():
        for operation in item.values():
            scope = SCOPES.get("/v1/models" if path == ONE_MODEL else path)  # type: ignore[call-overload]  # or public
            roles = {
                tuple(roles) for one in operation["security"] for name, roles in one.items() if name != "certificate"
            }
            assert roles == ({(scope,)} if scope else set())
            schemes = {name for one in operation["security"] for name in one}
            assert ("certificate" in schemes) == (kinds["tls"] and kinds["client_ca"])
            assert ("token" in schemes) == (kinds["jwt"] and scope is not None)
    assert set(document["components"]["securitySchemes"]) == (
        {"key"}
        | ({"token"} if kinds["jwt"] else set())
        | ({"certificate"} if kinds["tls"] and kinds["client_ca"] else set())
    )
    limits = document["x-tunegate-limits"]
    assert {name: limits[name]["value"] for name in opened if name != "paths"} == {
        name: value for name, value in opened.items() if name != "paths"
    }
    assert ("token_concurrent" in limits) == kinds["jwt"]


@settings(max_examples=60, deadline=None)
@given(OPENED, KINDS)
def test_it_is_whole_and_fits_haproxys_buffer(opened: dict[str, Any], kinds: dict[str, bool]) -> None:
    texts = documents(config_of(opened, kinds))
    document = json.loads(texts["openapi.json"])
    parts = document["components"]
    pointed = set(re.findall(r"#/components/(\w+)/([\w-]+)", texts["openapi.json"]))
    assert pointed <= {(kind, name) for kind in parts for name in parts[kind]}
    assert {(kind, name) for kind in ("schemas", "headers", "parameters") for name in parts[kind]} <= pointed
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    for text in texts.values():
        assert len(text.encode()) + 2048 < (opened["max_body_kib"] + 64) * 1024 - 1024  # tune.bufsize, tune.maxrewrite


@settings(max_examples=100, deadline=None)
@given(OPENED, KINDS, SECRETS)
def test_no_text_and_no_port_of_a_yaml_changes_a_byte_of_it(
    opened: dict[str, Any], kinds: dict[str, bool], secrets: dict[str, Any]
) -> None:
    """So none is told to whoever asks, and none can be syntax: neither JSON's nor HTML's."""
    assert documents(config_of(opened, kinds, secrets)) == documents(config_of(opened, kinds))


@pytest.mark.parametrize("paths", [[], list(get_args(OpenPath))])
@pytest.mark.parametrize("kinds", [NONE, dict.fromkeys(NONE, True)])
@pytest.mark.parametrize("is_shared", [False, True])
def test_it_is_a_valid_document_of_openapi_3_1(paths: list[str], kinds: dict[str, bool], is_shared: bool) -> None:
    document = describe(config_of({"paths": paths}, kinds), is_shared=is_shared)
    assert [error.message for error in Draft202012Validator(OPENAPI_31).iter_errors(document)] == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    del document["info"]["title"]
    assert not Draft202012Validator(OPENAPI_31).is_valid(document), "the validator looks"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action")}


@settings(max_examples=25, deadline=None)
@given(OPENED, KINDS)
def test_the_page_says_the_same_and_asks_nobody_for_anything(opened: dict[str, Any], kinds: dict[str, bool]) -> None:
    config = config_of(opened, kinds)
    document, text = describe(config), documents(config)["docs.html"]
    found = Tags()
    found.feed(text)
    assert not found.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "svg"}
    assert not [name for name in found.attributes if name.startswith("on") or name in ("style", "src")]
    assert {link for link in found.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in found.links if link.startswith("#")} <= found.ids
    operations = {one["operationId"] for item in document["paths"].values() for one in item.values()}
    assert operations | {f"e{status}" for status in document["components"]["responses"]} <= found.ids
    assert "@import" not in text and "url(" not in text and "http://" not in text
    assert all(path in text for path in document["paths"])


def test_a_text_of_the_document_is_text_on_the_page() -> None:
    """Whatever a later version may put in: the template escapes it."""
    document = describe(config_of({"paths": list(get_args(OpenPath))}, dict.fromkeys(NONE, True)))
    evil = "<script>alert(1)</script>`<b>`\" onclick='x"

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            kept = ("$ref", "operationId", "in", "type")
            return {key: one if key in kept and isinstance(one, str) else poisoned(one) for key, one in value.items()}
        return (
            [poisoned(one) for one in value] if isinstance(value, list) else evil if isinstance(value, str) else value
        )

    found = Tags()
    found.feed(page().render(document=poisoned(document)))
    assert "script" not in found.tags and "b" not in found.tags and "onclick" not in found.attributes


def test_every_error_that_the_router_itself_makes_is_described_with_its_type() -> None:
    responses = describe(config_of({}, NONE))["components"]["responses"]
    assert {str(status): kind for status, kind, _ in ERRORS}.items() <= {
        status: response["x-type"] for status, response in responses.items()
    }.items()


def test_examples_fit_the_schemas_beside_them() -> None:
    document = describe(config_of({"paths": list(get_args(OpenPath))}, NONE))
    bodies = [
        operation["requestBody"]["content"]["application/json"]
        for item in document["paths"].values()
        for operation in item.values()
        if "requestBody" in operation
    ]
    assert len(bodies) == len(get_args(OpenPath)) - 1
    for body in bodies:
        schema = body["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(body["example"])
        with pytest.raises(Exception, match="required property"):
            Draft202012Validator(schema).validate({})
        Draft202012Validator(schema).validate(body["example"] | {"a_field_of_vllm": 1})


def test_a_limit_without_words_would_be_told_without_words() -> None:
    assert all(
        RouterSettings.model_fields[name].description for name in describe(config_of({}, NONE))["x-tunegate-limits"]
    )
