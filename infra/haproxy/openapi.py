"""What the router says of itself: an OpenAPI 3.1 document and the same as a page, of just the paths, scopes, errors and
limits that it has.

Both are public, so no text of an environment's YAML is in them: only its figures, and words of ours.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environment.config import DeployConfig
from configs.environment.router import SCOPES, RouterSettings
from configs.section import JsonObject

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

HERE = Path(__file__).parent
ONE_MODEL = "/v1/models/{model}"
ONE_HEALTH = "/health/{environment}"
HEALTH = ("/health", ONE_HEALTH)
PUBLIC = ("/health", "/openapi.json", "/docs")
PARTS = re.compile(r"#/components/(\w+)/([\w-]+)")
LIMITS = ("max_body_kib", "max_header_kib", "receive_seconds", "queue_seconds", "answer_seconds", "default_max_tokens")
TOKEN_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent")
CLIENT = """import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["TUNEGATE_URL"] + "/v1", api_key=os.environ["TUNEGATE_API_KEY"])
"""


def documents(config: DeployConfig, *, is_shared: bool = False) -> dict[str, str]:
    """The files that HAProxy answers with, by name. Pure: the same settings give the same bytes. `is_shared`: it is of
    several environments."""
    document = describe(config, is_shared=is_shared)
    return {
        "openapi.json": json.dumps(document, separators=(",", ":")) + "\n",
        "docs.html": page().render(document=document) + "\n",
    }


def describe(config: DeployConfig, *, is_shared: bool = False) -> JsonObject:
    """The OpenAPI document of this router."""
    router, document = config.router, copy.deepcopy(every_path())
    errors, components = document.pop("errors"), document["components"]
    document["info"]["description"] = "\n\n".join(sentences(router))
    document["x-tunegate-limits"] = limits_of(router)
    opened = (*PUBLIC, ONE_HEALTH) if is_shared else PUBLIC
    document["paths"] = {
        path: item for path, item in document["paths"].items() if path in opened or setting_of(path) in router.paths
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            complete(operation, path, method, router, errors)
    components["securitySchemes"] = security_schemes(router)
    components["responses"] = {status: response_of(status, error) for status, error in errors.items()}
    used = parts_used(document)
    for kind in ("parameters", "headers", "schemas"):
        components[kind] = {name: part for name, part in components[kind].items() if (kind, name) in used}
    return document


@cache
def every_path() -> JsonObject:
    from ruamel.yaml import YAML

    text = (HERE / "openapi.yaml").read_text(encoding="utf8")
    loaded: JsonObject = YAML(typ="safe", pure=True).load(text)
    return loaded


def scope_of(path: str) -> str | None:
    """None: without a key."""
    return next((scope for one, scope in SCOPES.items() if one == setting_of(path)), None)


def setting_of(path: str) -> str:
    """What `router.paths` calls it."""
    return "/v1/models" if path == ONE_MODEL else path


def complete(operation: JsonObject, path: str, method: str, router: RouterSettings, errors: JsonObject) -> None:
    """Adds what follows from the path: scope, headers, errors, examples."""
    scope = scope_of(path)
    is_served = scope is not None or path in HEALTH
    kinds = {"every", "served" if is_served else "", "keyed" if scope else ""}
    kinds |= {"posted", "named"} if method == "post" else {"named"} if path == ONE_MODEL else set()
    sent = ["request_id"] + ["sticky"] * (scope is not None)
    answered = ["x-request-id"] + ["x-tunegate-release", "x-tunegate-slot"] * is_served
    operation["tags"] = [scope or "public"]
    operation["security"] = security_of(scope, router)
    operation["parameters"] = operation.get("parameters", []) + [ref("parameters", name) for name in sent]
    operation["responses"]["200"]["headers"] = {name: ref("headers", name) for name in answered}
    operation["responses"] |= {
        status: ref("responses", status) for status, error in errors.items() if error["of"] in kinds
    }
    if "requestBody" in operation:
        operation["requestBody"] |= {
            "required": True,
            "description": f"One JSON object in UTF-8, at most {router.max_body_kib} KiB. "
            "Named are the common fields: vLLM takes more, and they pass through.",
        }
    operation["x-codeSamples"] = samples(operation, path, method, is_keyed=scope is not None)


def ref(kind: str, name: str) -> JsonObject:
    return {"$ref": f"#/components/{kind}/{name}"}


def parts_used(document: JsonObject) -> set[tuple[str, str]]:
    """The components that the paths and errors lead to, by kind and name."""
    parts, used = document["components"], set[tuple[str, str]]()
    found = set(PARTS.findall(json.dumps([document["paths"], parts["responses"]])))
    while found - used:
        used |= found
        found = set(PARTS.findall(json.dumps([parts[kind][name] for kind, name in used])))
    return used


def security_of(scope: str | None, router: RouterSettings) -> list[JsonObject]:
    """Any one of these will do; in each, the scope is a role (OpenAPI 3.1, 4.8.30)."""
    certificate: JsonObject = {"certificate": []} if router.tls and router.tls.client_ca else {}
    if scope is None:
        return [certificate] if certificate else []
    return [{name: [scope], **certificate} for name in ("key", "token") if name == "key" or router.jwt]


def security_schemes(router: RouterSettings) -> JsonObject:
    schemes = {"key": {"type": "http", "scheme": "bearer", "description": "The operator makes you one."}}
    if router.jwt:
        words = f"A token of the identity provider, signed with {' or '.join(router.jwt.algorithms)}. "
        words += "`scope`, or `scp`, names its scopes; without either it has no right."
        schemes["token"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": words}
    if router.tls and router.tls.client_ca:
        schemes["certificate"] = {"type": "mutualTLS", "description": "A client's certificate, before any key is read."}
    return schemes


def response_of(status: str, error: JsonObject) -> JsonObject:
    """OpenAI's shape. Where the model server may answer so as well, the type is its own."""
    said = {"type": {"enum": [error["type"], *error.get("also", [])]}, "code": {"const": int(status)}}
    exactly = {} if error.get("also_servers") else {"properties": {"error": {"properties": said}}}
    headers = ["x-request-id", *error.get("headers", [])]
    return {
        "description": error["means"],
        "headers": {name: ref("headers", name) for name in headers},
        "content": {"application/json": {"schema": ref("schemas", "Error") | exactly}},
        "x-type": error["type"],
        "x-do": error["do"],
    }


def limits_of(router: RouterSettings) -> JsonObject:
    """By the name of the setting."""
    fields = RouterSettings.model_fields
    limits = {name: {"value": getattr(router, name), "description": fields[name].description} for name in LIMITS}
    for name in TOKEN_LIMITS if router.jwt else ():
        words = "of one token's `sub`; 0: no limit"
        limits[f"token_{name}"] = {"value": getattr(router.jwt, name), "description": words}
    return limits


def samples(operation: JsonObject, path: str, method: str, *, is_keyed: bool) -> list[JsonObject]:
    """With curl, and where the openai client has a way, with that."""
    shows_head = {"head": " -I", "get": " -i"}.get(method, "") if path in HEALTH else ""
    place = path.replace("{model}", "MODEL").replace("{environment}", "ENVIRONMENT")
    words = [f'curl{shows_head} "$TUNEGATE_URL{place}"']
    words += ['-H "Authorization: Bearer $TUNEGATE_API_KEY"'] * is_keyed
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        words += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(example))}"]
    found = [{"lang": "curl", "source": " \\\n  ".join(words)}]
    code = operation.pop("x-python", None)
    return found + ([{"lang": "Python", "source": f"{CLIENT}{code.rstrip()}"}] if code else [])


def sentences(router: RouterSettings) -> list[str]:
    token = ", or a token of the identity provider in its place" if router.jwt else ""
    if router.tls is None:
        transport = "The router speaks HTTP/1.1 without TLS."
    else:
        transport = "HTTPS only: TLS 1.2 or later, HTTP/1.1 or HTTP/2."
        transport += " A client shows a certificate." if router.tls.client_ca else ""
    browsers = "from pages of the origins that the operator named" if router.cors_origins else "not allowed"
    return [
        f"An OpenAI-compatible API. Send your key as `Authorization: Bearer KEY`{token}. {transport}",
        "`MODEL` stands for the model's name, which `GET /v1/models` tells those who have a key."
        if "/v1/models" in router.paths
        else "`MODEL` stands for the model's name, which the operator tells you.",
        "Nothing else exists here: another path is 404 and another method 405, whatever the model server could do. "
        "The query is not read. A body states its `Content-Length`. What is not HTTP at all gets a short HTML page.",
        "Your key may have limits of its own: requests a minute, tokens a minute, requests at once, and a budget of "
        "tokens by day or month. Its operator knows them.",
        f"Calls from a browser: {browsers}.",
    ]


@cache
def page() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["marked"] = marked
    return environment.get_template("docs.html.jinja")


def marked(text: str) -> Markup:
    """`code` in backquotes, as OpenAPI's texts have it."""
    from markupsafe import Markup, escape

    parts = [
        escape(part) if number % 2 == 0 else Markup("<code>{}</code>").format(part)
        for number, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)
