"""report.md, for the comment on a merge request: GitLab Flavored Markdown in which no text of ours or of an example can
be markup."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.release import short
from configs.verdict import RuleResult, Verdict
from eval.report import compared, labels, summary
from eval.report.compared import Compared
from eval.report.headline import by_severity, figure_of, headline, judged_against, looks, others, share
from eval.rules.evidence import Evidence
from eval.rules.result import finite

if TYPE_CHECKING:
    from jinja2 import Template

FLIPS_SHOWN = 5
SLICES_SHOWN = 5
LABELS_SHOWN = 5
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
    found = figure_of(one)
    return "" if found is None else spread(found.low, found.high, "+" if found.is_difference else "")


def spread(low: float | None, high: float | None, sign: str = "") -> str:
    return f"{figure(low, sign)} … {figure(high, sign)}" if low is not None and high is not None else ""


def value(one: RuleResult) -> str:
    """Of a rule on slices, the slice's that it decided by."""
    found = figure_of(one)
    return "" if found is None else figure(found.value, "+" if found.is_difference else "")


def arrow(change: Compared) -> str:
    """▼ -0.14 (-0.2 … -0.08) worse. The arrow is the way that the number went, the word whether that is good; of a cost
    by how much of what it was."""
    way = "▲" if change.difference > 0 else "▼" if change.difference < 0 else "="
    if change.ratio is not None:
        percent = 100 * (change.ratio - 1)
        return way if not change.difference else f"{way} {percent:+.0f}%" if abs(percent) >= 1 else f"{way} below 1%"
    ends = f"{change.low:+.3g} … {change.high:+.3g}" if change.low is not None and change.high is not None else ""
    moved = format(change.difference, "+.3g") if change.difference else "0"
    return " ".join(filter(None, [way, moved, f"({ends})" if ends else "", change.word]))


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
    environment.globals.update(
        plain=plain, code=code, figure=figure, interval=interval, value=value, arrow=arrow, spread=spread, share=share
    )
    return environment.get_template("report.md.jinja")


def write_markdown(verdict: Verdict, evidence: Evidence, background: summary.Background, links: dict[str, str]) -> str:
    """Pure. `links`: name to address."""
    metric, flips, changes = (
        summary.main_metric(verdict, evidence),
        summary.flips(evidence),
        compared.changes(verdict, evidence),
    )
    weakest = labels.weakest(evidence)
    columns = compared.references(verdict.changes.values())
    parts: dict[str, object] = {
        "metric": metric,
        "reference": compared.paired_with(evidence),
        "columns": [short(name) for name in columns],
        "changes": changes,
        "changes_shown": compared.shown_first(changes),
        "costs": compared.answers(verdict, evidence, columns),
        "slices": summary.slices(verdict, evidence, metric),
        "labels": weakest if len(weakest) > labels.MOST_LABELS else [],
        "confused": labels.confused(*compared.frames(evidence), most=LABELS_SHOWN),
        "not_judged": summary.not_judged(verdict, evidence),
        "background": background,
        "links": links,
    }
    parts |= {kind: [flip for flip in flips if flip.kind == kind] for kind in ("lost", "gained")}
    parts |= {"shown": FLIPS_SHOWN, "slices_shown": SLICES_SHOWN, "labels_shown": LABELS_SHOWN}
    text = template().render(
        verdict=verdict,
        headline=headline(verdict),
        others=others(verdict),
        looks=looks(verdict),
        judged_against=judged_against(verdict),
        results=by_severity(verdict.results),
        n=evidence.measured.record.get("n") if evidence.measured else None,
        **parts,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
