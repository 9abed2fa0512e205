"""Pictures of pages: `python -m benchmarks.eval.picture build/NAME/gate/report.html picture.png`, or without arguments
the five of docs/reviewer.md, of the verdicts that benchmarks/eval/verdicts.py makes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path(__file__).parents[2] / "infra/npm/node_modules/.chromium"
WIDTH, HEIGHT = 1000, 1250
MOST_BYTES = 200 * 1024


@contextmanager
def headless_browser() -> Iterator[Any]:
    """playwright driving the Chromium that `make setup` unpacked, with the libraries and the font that came with it."""
    from playwright.sync_api import sync_playwright

    found = {"LD_LIBRARY_PATH": str(CHROMIUM / "al2023/lib"), "FONTCONFIG_PATH": str(CHROMIUM / "fonts")}
    with sync_playwright() as playwright:
        # Root has no sandbox (CI in a container); the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM / "chromium", args=["--no-sandbox"], env={**os.environ, **found}
        )
        yield browser
        browser.close()


def take(browser: Any, page: Path, picture: Path, *, whole: bool = False) -> None:
    """The top of the page as PNG, or the whole of it, at most MOST_BYTES: 256 colours are enough for text and bars."""
    from PIL import Image

    view = browser.new_context(
        offline=True, viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
    ).new_page()
    view.goto(page.resolve().as_uri())
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(view.screenshot(full_page=whole))).convert("RGB").quantize(256).save(picture, optimize=True)
    if not whole and picture.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{picture}: found {picture.stat().st_size:,} bytes, expected at most {MOST_BYTES:,}")


def take_all(folder: Path, kinds: list[str]) -> None:
    """`folder`/gate-KIND.png of each."""
    from benchmarks.eval.verdicts import make

    pages = {kind: make(kind, Path("build/verdicts") / kind)[1].resolve() for kind in kinds}
    with headless_browser() as browser:
        for kind, page in pages.items():
            take(browser, page, folder / f"gate-{kind}.png")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith(".html"):
        with headless_browser() as browser:
            take(browser, Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        from benchmarks.eval.verdicts import CASES

        take_all(Path("docs"), sys.argv[1:] or [*CASES])
