"""What MkDocs is told beyond mkdocs.yml: pages of the top folder, a reference out of the code, scripts from npm."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.hooks.yaml_reference import yaml_reference

ROOT = Path(__file__).parents[2]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SCRIPTS = {
    "@mermaid-js/tiny/dist/mermaid.tiny.js": "scripts/mermaid.js",
    "iframe-worker/shim/index.js": "scripts/iframe-worker.js",
}


def on_files(files: Files, config: Any) -> Files:
    for source, page in TOP.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf8")))
    for source, script in SCRIPTS.items():
        files.append(File.generated(config, script, abs_src_path=str(ROOT / "infra/npm/node_modules" / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    for source, target in TOP.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{source}(#[^)]*)?\)", rf"]({target}\1)", markdown)
    if page.file.src_uri in TOP.values():
        markdown = markdown.replace("](docs/", "](")
    return re.sub(r"<!-- reference: (\w+) -->", lambda found: REFERENCES[found[1]](), markdown)


def commands() -> str:
    """The command line needs its own environment, which this one is not."""
    words = [str(ROOT / ".venv/bin/python"), "-m", "docs.hooks.command_reference"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise PluginError(f"the command reference: {done.stderr.strip()[-600:]}   try: make setup")
    return done.stdout


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Material asks a CDN for mermaid unless it is there; it is 3 MB, so only where there is a picture."""
    return f'{html}<script src="scripts/mermaid.js"></script>' if 'class="mermaid"' in html else html


REFERENCES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "yaml": lambda: yaml_reference(ROOT / "configs/schema"),
}
