"""The site as a reader has it: built strict, no link broken, every page found by search, nothing asked elsewhere."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from benchmarks.eval.picture import headless_browser
from tests.paths import ROOT

pytestmark = pytest.mark.integration
SITE = ROOT / "build/docs/site"
HERE = ("http://127.0.0.1:", "file:", "data:", "blob:")
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Page(HTMLParser):
    """What a page links to, fetches and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {name for name in (found.get("id"), found.get("name")) if name}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag in FETCHED and found.get(FETCHED[tag]) and found.get("rel") != "canonical":
            self.fetched.append(str(found[FETCHED[tag]]))


@pytest.fixture(scope="module")
def site() -> Path:
    clean = os.environ | {"MAKEFLAGS": ""}
    make = subprocess.run(["make", "docs"], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert make.returncode == 0, make.stdout[-2000:] + make.stderr[-4000:]
    return SITE


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Every page by its address, but for the one that says a page is not there: its links start at the root."""
    found = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    return {path.relative_to(site).as_posix(): Page(path) for path in found}


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_browser() as found:
        yield found


@pytest.fixture
def view(browser: Any) -> Iterator[Any]:
    """An empty tab; afterwards it may have asked nobody but this machine, and nothing may have failed."""
    asked: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.on("request", lambda request: asked.append(request.url))
    tab = context.new_page()
    tab.on("console", lambda said: complaints.extend([said.text] if said.type == "error" else []))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("response", lambda got: complaints.extend([f"{got.status} {got.url}"] if got.status >= 400 else []))
    yield tab
    context.close()
    assert asked and [url for url in asked if not url.startswith(HERE)] == [] and complaints == []


def title_of(page: Path) -> str:
    """The first heading as the browser shows it."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf8"), flags=re.MULTILINE)
    assert found, page
    return found[1].replace("`", "")


def written() -> dict[str, str]:
    """The address of every page that is in the repository, and its title."""
    top = {"index.html": "README.md", "contributing.html": "CONTRIBUTING.md", "changelog.html": "CHANGELOG.md"}
    files = {f"{path.stem}.html": path for path in ROOT.glob("docs/*.md")} | {
        page: ROOT / path for page, path in top.items()
    }
    return {page: title_of(path) for page, path in files.items()}


def test_every_page_of_the_repository_is_on_the_site(pages: dict[str, Page]) -> None:
    assert set(pages) == set(written())


def test_no_link_is_broken(pages: dict[str, Page], site: Path) -> None:
    broken = []
    for page, found in pages.items():
        for link in (*found.links, *found.fetched):
            target = urlsplit(urljoin(f"http://site/{page}", link))
            path, place = unquote(target.path).lstrip("/") or "index.html", unquote(target.fragment)
            if target.hostname == "site" and not (site / path).is_file():
                broken.append(f"{page}: {link}")
            if target.hostname == "site" and place and path in pages and place not in pages[path].ids:
                broken.append(f"{page}: {link}, no such place on that page")
    assert broken == [] and sum(len(found.links) for found in pages.values()) > 500


def test_no_page_fetches_from_elsewhere(pages: dict[str, Page]) -> None:
    fetched = [url for found in pages.values() for url in found.fetched]
    assert fetched and [url for url in fetched if urlsplit(url).scheme or url.startswith("//")] == []


@pytest.mark.usefixtures("pages")
def test_no_sign_of_markdown_is_left_on_a_page(site: Path) -> None:
    """GitLab takes a list or a table that follows a paragraph without an empty line; the site would show its signs."""
    for page in site.glob("*.html"):
        seen = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", page.read_text(encoding="utf8"), flags=re.DOTALL)
        assert re.findall(r"<p>[^<]*\n(?:\||- |\d+\. )|\| ?---|\n```", seen) == [], page


def test_search_finds_every_page_by_its_title(view: Any, address: str) -> None:
    view.goto(address)
    for page, title in written().items():
        assert page in results(view, title), title


def test_search_finds_what_only_the_code_says(view: Any, address: str) -> None:
    view.goto(address)
    assert "yaml.html" in results(view, "drain_deadline_seconds") and "cli.html" in results(view, "export-schemas")


def test_search_works_from_the_disk(view: Any, site: Path) -> None:
    view.goto((site / "index.html").as_uri())
    assert "glossary.html" in results(view, title_of(ROOT / "docs/glossary.md"))


def test_pages_open_and_the_picture_is_drawn(view: Any, address: str) -> None:
    for page in ("reviewer.html", "yaml.html", "index.html"):
        view.goto(address + page)
        assert view.locator("h1").first.inner_text().rstrip("¶").strip() == written()[page]
    drawn = view.locator("div.mermaid").first  # Material puts the picture there in place of its text
    drawn.wait_for(timeout=10_000)
    box = drawn.bounding_box()
    assert box["width"] > 300 and box["height"] > 100 and view.locator("pre.mermaid").count() == 0


def results(view: Any, words: str) -> list[str]:
    """The pages that the search box offers for these words, best first."""
    box, meta = view.locator("[data-md-component=search-query]"), view.locator(".md-search-result__meta")
    box.click()
    box.fill("")
    box.press("Backspace")  # the box listens to keys
    view.wait_for_function("said => said.textContent.includes('Type to start')", arg=meta.element_handle())
    box.fill(words)
    box.press("End")
    view.wait_for_function("said => /matching|No /.test(said.textContent)", arg=meta.element_handle())
    links = view.locator(".md-search-result__item a").evaluate_all("all => all.map(one => one.href)")
    return [urlsplit(link).path.rsplit("/", 1)[-1] for link in links]
