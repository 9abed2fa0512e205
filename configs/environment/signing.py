"""Signing: whose releases an environment loads."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from configs.section import Section, must_exist, stay_inside

PEM = "-----BEGIN PUBLIC KEY-----"


def pem_or_path(value: str, info: ValidationInfo) -> str:
    """A private key in git would be no secret any more."""
    if "PRIVATE KEY" in value:
        raise ValueError("a public key: keep the private one out of git")
    return value if is_pem(value) else must_exist(stay_inside(value), info)


def is_pem(value: str) -> bool:
    return value.lstrip().startswith(PEM)


class Signing(Section):
    """Only releases that this key has signed are loaded. Without the section no signature is asked for."""

    public_key: Annotated[str, AfterValidator(pem_or_path)] = Field(description="PEM of an EC key (P-256, P-384 or P-521), or its file in this checkout")
