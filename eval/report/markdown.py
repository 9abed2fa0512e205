"""report.md, for the comment on a merge request: GitLab Flavored Markdown in which no text of ours or of an example can
be markup."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.verdict import RuleResult, Verdict
from eval.report import summary
from eval.rules.evidence import Evidence
from eval.rules.result import finite

if TYPE_CHECKING:
    from jinja2 import Template

FLIPS_SHOWN = 5
SLICES_SHOWN = 5
CHANGES_SHOWN = 8
LONGEST = 160  # characters of an example's text in a table
# Entities cannot be Markdown's structure (CommonMark 0.31, 2.5). A `_` between letters is none either: metric names
# stay readable.
MARKUP = re.compile(
    r"[\\`*{}\[\]<&|~$@#!^\"]|:(?=\S)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[-+=>]|^\d+[.)]|(?<=www)\.", re.IGNORECASE
)
HARMLESS = re.compile(r"[^`|\\]+")  # within backticks
BIDIRECTIONAL = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def printable(text: object) -> str:
    """Control characters, lone surrogates and those that turn the reading direction become U+FFFD; ends of lines and
    tabs stay."""
    return "".join(
        "\ufffd"
        if one in BIDIRECTIONAL
        or (one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cs"))
        or one in "\ufffe\uffff"
        else one
        for one in str(text)
    )


def plain(text: object, longest: int = 1000) -> str:
    """Text on one line, for a cell or a sentence: it reads as it is written, whatever it is."""
    return MARKUP.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), one_line(text, longest))


def one_line(text: object, longest: int) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def code(text: object) -> str:
    """As code: GitLab looks for no @names, #issues or :emoji: in it."""
    line = one_line(text, LONGEST)
    if not line:
        return "*(empty)*"
    return f"`{line}`" if HARMLESS.fullmatch(line) else f"<code>{plain(text, LONGEST)}</code>"


def figure(value: object, sign: str = "") -> str:
    """Four digits, of a large whole number all; nothing where there is no finite number."""
    number = finite(value)
    if number is None:
        return ""
    return format(number, f"{sign},.0f" if number.is_integer() and abs(number) >= 10_000 else f"{sign}.4g")


def interval(one: RuleResult) -> str:
    sign = "+" if "difference" in one.evidence else ""
    low, high = (figure(one.evidence.get(name), sign) for name in ("low", "high"))
    return f"{low} … {high}" if low and high else ""


def value(one: RuleResult) -> str:
    return (
        figure(one.evidence["difference"], "+") if "difference" in one.evidence else figure(one.evidence.get("value"))
    )


def arrow(change: summary.Change) -> str:
    word = {True: "better", False: "worse", None: ""}[change.better]
    spread = (
        f" ({figure(change.low, '+')} … {figure(change.high, '+')})"
        if change.low is not None and change.high is not None
        else ""
    )
    return " ".join(filter(None, [change.arrow, figure(change.release - change.before, "+") + spread, word]))


@cache
def template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Not HTML: every text passes through `plain` or `code`, whose entities autoescape would break.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plain=plain, code=code, figure=figure, interval=interval, value=value, arrow=arrow)
    return environment.get_template("report.md.jinja")


def write_markdown(verdict: Verdict, evidence: Evidence, facts: dict[str, str], links: dict[str, str]) -> str:
    """Pure. `facts`: where the release comes from; `links`: name to address."""
    metric, flips, changes = summary.main_metric(verdict, evidence), summary.flips(evidence), summary.changes(verdict)
    rows = summary.slices(evidence, metric)
    parts: dict[str, object] = {
        "metric": metric,
        "reference": summary.reference_of(evidence),
        "changes": changes,
        "slices": rows,
        "facts": facts,
        "links": links,
    }
    parts |= {
        "lost": [flip for flip in flips if flip.kind == "lost"],
        "gained": [flip for flip in flips if flip.kind == "gained"],
    }
    parts |= {"shown": FLIPS_SHOWN, "slices_shown": SLICES_SHOWN, "changes_shown": CHANGES_SHOWN}
    text = template().render(
        verdict=verdict,
        headline=summary.headline(verdict),
        results=summary.by_severity(verdict.results),
        n=evidence.measured.record.get("n") if evidence.measured else None,
        **parts,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
