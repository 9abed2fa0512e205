"""Every command with its options and examples, as Markdown: `.venv/bin/python -m docs.hooks.command_reference`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.hooks.markup import code, prose, table


def command_reference(app: Any) -> str:
    import typer

    return "\n\n".join(described(typer.main.get_command(app), "tunegate", 1))


def described(command: Any, name: str, depth: int) -> Iterator[str]:
    """A command, then those below it; one of a group stands a heading deeper."""
    context = command.context_class(command, info_name=name)
    if depth > 1:
        yield f"{'#' * depth} {name}"
        yield from (prose(part) for part in (command.help or "").split("\n\n"))
        yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```"
        records = filter(None, [one.get_help_record(context) for one in command.params])
        rows = [[code(names), prose(meaning)] for names, meaning in records]
        if rows:
            yield table(["argument or option", "meaning"], rows)
    examples = [line for line in (command.epilog or "").split("\n\n") if line.startswith("tunegate") or "=" in line]
    if examples:
        yield "```sh\n" + "\n".join(examples) + "\n```"
    for below, one in getattr(command, "commands", {}).items():
        yield from described(one, f"{name} {below}", depth + 1)


if __name__ == "__main__":
    from tunegate import app

    print(command_reference(app))
