"""The page as a reviewer sees it: a real headless browser, with no network, in light and dark, on a phone and on
paper."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.eval.picture import MOST_BYTES, headless_browser, take
from eval.report.write import write_reports
from tests.support.judged import HOSTILE, RELEASE, evidence, verdict

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    write_reports(verdict(), folder, evidence())
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_browser() as found:
        yield found


@pytest.fixture
def open_page(browser: Any, report: Path) -> Iterator[Any]:
    """Opens the page; afterwards nothing but the file itself may have been asked for, and nobody may have
    complained."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def opened(width: int = 1100, **options: Any) -> Any:
        context = browser.new_context(offline=True, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)

        def pass_on(route: Any) -> None:
            asked.append(route.request.url)
            route.continue_()

        context.route("**/*", pass_on)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert set(asked) == {report.as_uri()} and complaints == []


def test_the_page_says_the_verdict_first(open_page: Any) -> None:
    page = open_page()
    assert page.inner_text("#outcome") == "fail"
    told = "Fail: in topic=travel, labels 44 points fewer rows right than the champion."
    assert page.inner_text("#headline") == told
    assert page.inner_text("#others").startswith("Also failed: accuracy non-inferior to champion by 0.05.")
    assert page.locator("#headline").bounding_box()["y"] < 200
    outcomes = page.locator(".rule > header .badge, .rule > summary .badge").all_inner_texts()
    assert outcomes == ["fail", "fail", "inconclusive", "inconclusive", "pass"]
    assert page.locator("#decided + .rule .forest").first.bounding_box()["y"] < 600, (
        "what decided is on the first screen"
    )


def test_a_digest_is_copied_whole(open_page: Any) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.locator("button.copy").first.click()
    page.wait_for_function("document.querySelector('button.copy').textContent === 'copied'")
    assert page.evaluate("navigator.clipboard.readText()") == RELEASE


def test_it_says_as_much_without_javascript(open_page: Any) -> None:
    page = open_page(java_script_enabled=False)
    assert page.inner_text("#headline").startswith("Fail:") and not page.locator("button.copy").first.is_visible()
    assert page.locator("#flips li:visible").count() > 20 and page.locator("#changed ~ .scroll").is_visible()


def test_every_plot_is_to_be_seen(open_page: Any) -> None:
    page = open_page()
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    plots = page.locator(".forest, .calibration, .confusion")
    assert plots.count() == 4 + 1 + 1 + 1
    for number in range(plots.count()):
        box = plots.nth(number).bounding_box()
        assert box["width"] > 200 and box["height"] > 40
    points = page.locator(".forest .point")
    assert points.count() == 4 + 3
    for number in range(points.count()):
        mark, row = points.nth(number).bounding_box(), points.nth(number).locator("..").bounding_box()
        assert (
            row["x"] <= mark["x"]
            and mark["x"] + mark["width"] <= row["x"] + row["width"]
            and mark["width"] == mark["height"] > 8
        )
    assert page.locator(".axis text").count() >= 2 * 5


def test_the_interval_of_a_broken_rule_lies_off_the_shaded_side(open_page: Any) -> None:
    row = open_page().locator(".forest svg.row").first
    allowed, high = row.locator(".allowed").bounding_box(), row.locator(".whisker").first.bounding_box()
    assert high["x"] + high["width"] < allowed["x"]


def test_flips_are_found_by_kind_slice_and_words(open_page: Any) -> None:
    page = open_page()
    every = page.locator("#flips li")
    shown = page.locator("#flips li:visible")
    total = every.count()
    assert shown.count() == total > 20 and page.inner_text("#count") == f"{total} shown"
    page.select_option("#kind", "gained")
    assert 0 < shown.count() == page.locator("#flips li.gained").count() < total
    page.select_option("#kind", "")
    page.select_option("#slice", "topic=travel")
    assert 0 < shown.count() < total
    assert all("topic=travel" in text for text in shown.all_inner_texts())
    page.select_option("#slice", "")
    page.locator("#search").press_sequentially("ROW-001")
    assert shown.count() == 1 and "row-001" in shown.first.inner_text() and page.inner_text("#count") == "1 shown"
    page.fill("#search", "no such words")
    assert shown.count() == 0


def test_arrow_keys_walk_through_the_flips_that_are_shown(open_page: Any) -> None:
    page = open_page()
    page.select_option("#kind", "gained")
    page.focus("#search")
    found = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        found.append(
            page.evaluate("document.activeElement.id || document.activeElement.querySelector('code').textContent")
        )
    shown = page.locator("#flips li:visible code").all_inner_texts()
    assert found == [shown[0], shown[1], shown[0], "search"]


def test_a_hostile_example_is_text_and_no_more(open_page: Any) -> None:
    page = open_page()
    assert page.title() == "fail: sentiment"
    assert page.locator("script").count() == 1 and page.locator("img, iframe, object, link, base").count() == 0
    seen = page.locator("#flips li").first.inner_text()
    assert "<script>document.title='taken'</script>" in seen and "<b>id</b>" in seen and "\u202e" not in seen
    page.select_option("#slice", index=1)
    assert page.locator("#flips li:visible").count() >= 1, "the attack is a slice's name like any other"
    assert HOSTILE.split("\n")[0].strip() in page.locator("#slice option").nth(1).inner_text()


@pytest.mark.parametrize("width", [320, 375, 768])
def test_nothing_sticks_out_on_a_narrow_screen(open_page: Any, width: int) -> None:
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".forest svg.row").first.bounding_box()["width"] > width * 0.7


def test_light_and_dark_have_enough_contrast(open_page: Any) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text, of every colour that text has."""
    texts = "document.querySelectorAll('p,h1,h2,td,th,.badge,.better,.worse,dt,dd,a')"
    script = f"[...new Set([...{texts}].map(e => [getComputedStyle(e).color, ground(e)].join('|')))]"
    ground = (
        "e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; "
        "if (/^rgb\\(/.test(c)) return c } return 'rgb(255, 255, 255)' }"
    )
    for scheme in ("light", "dark"):
        pairs = open_page(color_scheme=scheme).evaluate(f"(() => {{ const ground = {ground}; return {script} }})()")
        low = [pair for pair in pairs if contrast(*pair.split("|")) < 4.5]
        assert len(pairs) > 5 and low == [], (scheme, low)


def contrast(one: str, other: str) -> float:
    lights = sorted(luminance(json.loads(colour.replace("rgb(", "[").replace(")", "]"))) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: list[int]) -> float:
    parts = [part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_it_prints(open_page: Any) -> None:
    page = open_page()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".filters").is_visible() and page.locator("#headline").is_visible()
    assert page.pdf().startswith(b"%PDF-")


def test_its_picture_is_small_enough_for_the_docs(browser: Any, report: Path, tmp_path: Path) -> None:
    take(browser, report, tmp_path / "page.png")
    assert 20_000 < (tmp_path / "page.png").stat().st_size <= MOST_BYTES
