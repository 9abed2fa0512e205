"""Who may import whom: the one table of rooms and sub-rooms, and the imports that there are.

.venv/bin/python -m tests.support.rooms   # writes the table of arrows into docs/architecture.md

A box is a sub-room (`plan/`) or a file at its room's root (`deploy.py`). An arrow is an import from one box to another
of the same room.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

# Room: the rooms it may import. `tunegate.py`, `demo.py`, benchmarks and tests may import all.
ROOMS = {
    "configs": set[str](),
    "infra": {"configs"},
    "train": {"configs", "infra"},
    "eval": {"configs", "infra"},
    "serve": {"configs", "infra"},
}
# Room, sub-room: the boxes of its room that it may import. `*`: all of them.
MAY_IMPORT: dict[str, dict[str, set[str]]] = {
    "configs": {
        "rows": {"section.py"},
        "training": {"section.py", "task.py"},
        "run": {"digest.py", "errors.py", "rows", "section.py", "task.py", "training"},
        "environment": {"errors.py", "release.py", "section.py", "slots.py"},
        "rules": {"digest.py", "run", "release.py", "section.py"},
    },
    "infra": {
        "files": set(),
        "checkpoints": set(),
        "engines": {"files", "kubernetes", "processes.py"},
        "state": {"boot.py", "files"},
        "git": {"masking.py"},
        "dvc": {"files", "git", "masking.py", "signing.py", "state"},
        "mlflow": {"files", "git", "masking.py", "state"},
        "vllm": {"boot.py", "files", "nvml.py", "served_messages.py", "state", "terminal.py", "tokenizer.py"},
        "haproxy": {"boot.py", "files", "git", "state"},
        "kubernetes": {"boot.py", "files", "haproxy", "state", "terminal.py", "vllm"},
        "pipelines": set(),
        "transfer": {"dvc", "files", "signing.py"},
        "manifests": {"files", "kubernetes", "router_pods"},
        "router_pods": {"boot.py", "files", "haproxy", "kubernetes", "state"},
        "gitlab": {"dvc", "git", "mlflow", "signing.py"},
        "lineage": {"dvc", "git", "gitlab", "mlflow"},
        "commands": {"*"},
    },
    "train": {
        "sources": set(),
        "rows": {"sources"},
        "tokens": {"rows", "sources"},
        "data": {"rows", "sources", "tokens"},
        "batches": {"data"},
        "layers": {"batches"},
        "model": {"layers"},
        "tasks": {"batches", "layers", "model", "sources"},
        "loop": {"batches", "layers", "model", "tasks"},
        "release": {"batches", "data", "model", "rows", "sources", "tasks"},
        "estimate": {"batches", "data", "layers", "model", "rows", "sources"},
        "search": set(),
        "propose": {"model", "rows", "sources"},
    },
    "eval": {
        "metrics": set(),
        "statistics": {"metrics"},
        "measure": {"metrics"},
        "behaviour": {"measure", "metrics"},
        "rules": {"metrics", "statistics"},
        "report": {"measure", "metrics", "rules", "statistics"},
    },
    "serve": {
        "record": set(),
        "plan": {"record"},
        "load": set(),
        "proofs": {"load", "record"},
        "watch": {"record"},
        "exporter": {"plan", "record"},
        "switch": {"exporter", "plan", "proofs", "record", "watch"},
        "gitops": {"record"},
        "view": {"plan", "record"},
        "commands": {"*"},
    },
}
BLOCK = re.compile(r"(<!-- arrows: begin[^>]*-->\n).*?(<!-- arrows: end -->)", re.DOTALL)
Arrow = tuple[str, str, str]  # the file, its box, the box that it imports


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file may import, wherever in it: `from room import file` counts as
    room.file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files(root: Path, room: str) -> list[Path]:
    return sorted(path for path in (root / room).rglob("*.py") if "node_modules" not in path.parts)


def box(root: Path, dotted: str) -> str | None:
    """`serve.plan.planner` lies in `plan`, `serve.deploy` is `deploy.py`, `serve` itself is in none."""
    parts = dotted.split(".")
    if len(parts) < 2:
        return None
    if (root / parts[0] / parts[1]).is_dir():
        return parts[1]
    return f"{parts[1]}.py" if (root / parts[0] / f"{parts[1]}.py").is_file() else None


def arrows(root: Path, room: str) -> set[Arrow]:
    found = set[Arrow]()
    for path in files(root, room):
        name = path.relative_to(root)
        here = box(root, ".".join(name.with_suffix("").parts))
        for dotted in imports(path):
            there = box(root, dotted) if dotted.split(".")[0] == room else None
            if here and there and here != there:
                found.add((name.as_posix(), here, there))
    return found


def upward(root: Path, room: str) -> list[str]:
    """The imports that the table does not allow, a line each."""
    may = MAY_IMPORT[room]
    return [
        f"{path} ({here}) imports {there}"
        for path, here, there in sorted(arrows(root, room))
        if here in may and there not in may[here] and not ("*" in may[here] and there != "commands")
    ]


def circle(links: dict[str, set[str]]) -> list[str]:
    """Some circle among these boxes or files, or none."""
    done, way = set[str](), list[str]()

    def visit(name: str) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        way.append(name)
        found = next((found for target in sorted(links.get(name, ())) if (found := visit(target))), [])
        way.pop()
        done.add(name)
        return found

    return next((found for name in sorted(links) if (found := visit(name))), [])


def box_links(root: Path, room: str) -> dict[str, set[str]]:
    links: dict[str, set[str]] = {}
    for _, here, there in arrows(root, room):
        links.setdefault(here, set()).add(there)
    return links


def file_links(root: Path) -> dict[str, set[str]]:
    """Every file of the rooms, and the files of ours that it imports at its top level or within a function."""
    return {
        path.relative_to(root).as_posix(): {
            target
            for dotted in imports(path)
            if (root / (target := f"{dotted.replace('.', '/')}.py")).is_file() and target.split("/")[0] in ROOMS
        }
        for room in ROOMS
        for path in files(root, room)
    }


def table(root: Path) -> str:
    """The boxes and arrows of each room, and which boxes each imports, as Markdown."""
    lines = ["| room | boxes | arrows | up | circles |", "|---|---|---|---|---|"]
    for room in ROOMS:
        links = box_links(root, room)
        boxes = {
            found
            for path in files(root, room)
            if (found := box(root, ".".join(path.relative_to(root).with_suffix("").parts))) and found != "__init__.py"
        }
        arrows_here = sum(map(len, links.values()))
        lines.append(
            f"| `{room}/` | {len(boxes)} | {arrows_here} | {len(upward(root, room))} | {int(bool(circle(links)))} |"
        )
    lines += ["", "| box | imports |", "|---|---|"]
    for room in ROOMS:
        for here, there in sorted(box_links(root, room).items(), key=lambda link: (link[0].endswith(".py"), link[0])):
            lines.append(f"| `{shown(room, here)}` | {', '.join(f'`{shown(room, name)}`' for name in sorted(there))} |")
    return "\n".join(lines) + "\n"


def shown(room: str, name: str) -> str:
    return f"{room}/{name}" if name.endswith(".py") else f"{room}/{name}/"


def main() -> None:
    page = ROOT / "docs/architecture.md"
    page.write_text(
        BLOCK.sub(lambda found: f"{found[1]}{table(ROOT)}{found[2]}", page.read_text(encoding="utf8")), encoding="utf8"
    )


if __name__ == "__main__":
    main()
