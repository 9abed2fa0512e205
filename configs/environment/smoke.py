"""A smoke file: requests that a new server must answer, and what their answers must hold."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from configs.section import JsonObject, Section


def must_compile(regex: str) -> str:
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return regex


class Expectation(Section):
    """All that is stated must hold of the answer's text: a chat's or a completion's content, else the whole body."""

    status: int = Field(200, ge=100, le=599)
    contains: str | None = None
    regex: str | None = Field(None, description="Python's re, found anywhere")
    equals: str | None = Field(None, description="spaces at both ends do not count")
    json_schema: JsonObject | None = Field(None, description="the text is JSON and valid under this JSON Schema")
    max_seconds: float | None = Field(None, gt=0)

    @field_validator("regex")
    @classmethod
    def compiles(cls, regex: str | None) -> str | None:
        return must_compile(regex) if regex is not None else None

    @field_validator("json_schema")
    @classmethod
    def is_schema(cls, schema: JsonObject | None) -> JsonObject | None:
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(schema or {})
        except SchemaError as error:
            raise ValueError(f"a JSON Schema ({error.message})") from None
        return schema


class SmokeRequest(Section):
    """One request of the application's own; `model` is filled in."""

    name: str | None = None
    path: str = Field("/v1/chat/completions", pattern=r"^/[\w/.-]+$")
    body: JsonObject
    expect: Expectation = Expectation()


class SmokeConfig(Section):
    """The file that `smoke:` names."""

    requests: list[SmokeRequest] = Field(min_length=1, max_length=1000)
