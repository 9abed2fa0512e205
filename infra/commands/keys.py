"""Options of `keys` and `router`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import InputError
from configs.read import read_environment
from infra.terminal import AsJson, EnvironmentName, Why, example, print_table, seconds_of, show

if TYPE_CHECKING:
    from infra.haproxy.api_keys import Key, KeyLimits, Keyring

KeyName = Annotated[str, typer.Argument(metavar="NAME", help="who holds the key, as in logs: team-search")]
SHORT = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "a day": "tokens_per_day",
    "a month": "tokens_per_month",
}
COLUMNS = ("name", "scopes", *SHORT, "concurrent", "created", "expires", "sha256")


def add(
    environment: EnvironmentName,
    name: KeyName,
    scope: Annotated[list[str] | None, typer.Option(help="chat, classify, embeddings, models; none: all")] = None,
    rpm: Annotated[int, typer.Option(help="requests a minute; 0: no limit")] = 0,
    tpm: Annotated[int, typer.Option(help="tokens a minute, reserved from what a request asks for; 0: no limit")] = 0,
    tokens_per_day: Annotated[int, typer.Option(help="a budget: tokens really used in a day of UTC; 0: none")] = 0,
    tokens_per_month: Annotated[int, typer.Option(help="the same of a month; 0: none")] = 0,
    concurrent: Annotated[int, typer.Option(help="requests at once; 0: no limit")] = 0,
    expires: Annotated[str | None, typer.Option(help="valid for 30m, 12h, 90d; none: for ever")] = None,
    why: Why = None,
) -> None:
    """Make a key and print it, this once. The running router knows it at once."""
    ends = int(time.time()) + seconds_of(expires) if expires else 0
    limits = {
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "tokens_per_day": tokens_per_day,
        "tokens_per_month": tokens_per_month,
        "concurrent": concurrent,
        "expires": ends,
    }
    typer.echo(keyring(environment).add(name, read_limits(limits | ({"scopes": scope} if scope else {})), why))


def list_keys(environment: EnvironmentName, as_json: AsJson = False) -> None:
    """Names, limits and ends; of a key only the first 12 digits of its SHA-256."""
    rows = [row_of(key) for key in keyring(environment).read()]
    if as_json:
        show(rows, True)
        return
    print_table([row | {short: row[name] for short, name in SHORT.items()} for row in rows], COLUMNS)


def revoke(environment: EnvironmentName, name: KeyName, why: Why = None) -> None:
    """End every key of that name at once; what streams already goes on to its end."""
    typer.echo(f"{keyring(environment).revoke(name, why)} revoked")


def rotate(
    environment: EnvironmentName,
    name: KeyName,
    grace: Annotated[str, typer.Option(help="the old key is valid so long: 0s, 30m, 7d")] = "1d",
    why: Why = None,
) -> None:
    """Make a new key of the same name and limits and print it, this once."""
    typer.echo(keyring(environment).rotate(name, seconds_of(grace), why))


def group() -> None:
    """A group, though it has one command."""


def reload(environment: EnvironmentName) -> None:
    """Read certificates, token keys and `router:` settings anew; no stream is dropped, and each is counted on."""
    from infra.haproxy.router import Router

    typer.echo(f"read anew: {', '.join(Router(read_environment(environment)).reload()) or 'nothing changed'}")


def pod(
    environment: EnvironmentName,
    address: Annotated[
        str, typer.Option(envvar="TUNEGATE_POD_ADDRESS", help="the pod's own: requests, and :8405 for the agent")
    ],
    uid: Annotated[str, typer.Option(envvar="TUNEGATE_POD_UID", help="the pod's, by which its counts are known")],
) -> None:
    """Be a router in a pod of a cluster, until SIGTERM and the last stream's end."""
    from infra.router_pods.calls import token
    from infra.router_pods.pod import run_pod

    run_pod(environment, address, uid, token())


def add_commands(app: typer.Typer) -> None:
    keys = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="API keys of an environment, as in: tunegate keys list local"
    )
    app.add_typer(keys, name="keys")
    keys.command(
        "add",
        epilog=example(
            "tunegate keys add local team-search --rpm 600 --tpm 200000",
            "tunegate keys add local labels --scope classify --expires 90d",
        ),
    )(add)
    keys.command("list", epilog=example("tunegate keys list local --json"))(list_keys)
    keys.command("revoke", epilog=example("tunegate keys revoke local team-search"))(revoke)
    keys.command("rotate", epilog=example("tunegate keys rotate local team-search --grace 7d"))(rotate)
    router = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="The running router, as in: tunegate router reload local"
    )
    app.add_typer(router, name="router")
    router.callback()(group)
    router.command("reload", epilog=example("tunegate router reload local"))(reload)
    router.command("pod", epilog=example("tunegate router pod kubernetes --address 10.0.0.7 --uid 3f2a"))(pod)


def keyring(environment: str) -> Keyring:
    from infra.haproxy.api_keys import Keyring

    return Keyring(read_environment(environment))


def row_of(key: Key) -> dict[str, object]:
    limits = key.limits.model_dump() | {"expires": moment(key.limits.expires)}
    return {"name": key.name, "sha256": key.sha256[:12], "created": moment(key.created), **limits}


def read_limits(values: Mapping[str, object]) -> KeyLimits:
    """Raises InputError that names the option."""
    from pydantic import ValidationError

    from infra.haproxy.api_keys import KeyLimits

    try:
        return KeyLimits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{first['loc'][0]}: found {first['input']!r}: {first['msg']}", hint="tunegate keys add --help"
        ) from None


def moment(seconds: int) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else None
