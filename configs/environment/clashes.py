"""Two environments of one machine that would take each other's ports, folder or name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from configs.environment.config import DeployConfig
from configs.environment.state import declared_folder
from configs.slots import SLOTS


class Claim(NamedTuple):
    """What an environment takes for itself: the key that says so, and the value."""

    key: tuple[str | int, ...]
    what: str
    value: str


class Clash(NamedTuple):
    """`claim` of an environment, which is `other`'s as well, by its key of the name `theirs`."""

    claim: Claim
    other: str
    theirs: str


def claims(config: DeployConfig) -> Iterator[Claim]:
    if config.placement.kind == "local":  # a pod has an address, and all ports, of its own
        yield from on_this_machine(config)
    yield Claim(("state_dir",), "folder", str(declared_folder(config).resolve()))
    yield Claim(("name",), "name", config.name)


def on_this_machine(config: DeployConfig) -> Iterator[Claim]:
    if config.router_of is None:
        yield Claim(("router", "port"), "port", str(config.router.port))
        if config.router.tls:
            yield Claim(("router", "tls", "local_port"), "port", str(config.router.tls.local_port))
        if config.router.metrics_port:
            yield Claim(("router", "metrics_port"), "port", str(config.router.metrics_port))
    yield Claim(("model",), f"model behind the router of {config.host.name}", config.model)
    if config.supervision.metrics_port:
        yield Claim(("supervision", "metrics_port"), "port", str(config.supervision.metrics_port))
    for index, slot in enumerate(SLOTS):
        for port in config.ports_of(slot):
            yield Claim(("slot_ports", index), "port", str(port))


def clashes(config: DeployConfig, others: Sequence[DeployConfig]) -> list[Clash]:
    """Also what one environment takes twice. Folders clash where one lies in the other."""
    own = list(claims(config))
    twice = [
        Clash(claim, config.name, dotted(before.key))
        for index, claim in enumerate(own)
        for before in own[:index]
        if is_same(claim, before)
    ]
    return twice + [
        Clash(claim, other.name, dotted(theirs.key))
        for claim in own
        for other in others
        for theirs in claims(other)
        if is_same(claim, theirs)
    ]


def is_same(one: Claim, other: Claim) -> bool:
    if one.what != other.what:
        return False
    if one.what != "folder":
        return one.value == other.value
    first, second = Path(one.value), Path(other.value)
    return first.is_relative_to(second) or second.is_relative_to(first)


def dotted(key: tuple[str | int, ...]) -> str:
    return ".".join(map(str, key))
