"""One verdict, three forms: verdict.json, junit.xml for a CI server, report.md for a reviewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.verdict import RuleResult, Verdict

FLIPS_SHOWN = 5
TEMPLATE = """# Gate: {{ verdict.outcome }}

Release `{{ verdict.release }}`, champion {{ '`' ~ verdict.champion ~ '`' if verdict.champion else 'none' }}, test rows `{{ verdict.dataset or 'none' }}`.

| rule | outcome | value | interval | n | p | why |
|---|---|---|---|---|---|---|
{% for one in verdict.results -%}
| {{ cell(one.rule) }} | **{{ one.outcome }}** | {{ value(one) }} | {{ interval(one) }} {# the row goes on #}
{#- -#} | {{ one.evidence.get('n', '') }} | {{ figure(one.evidence.get('p_value')) }} | {{ cell(one.sentence) }} |
{% endfor %}
{%- for title, rows in flips.items() %}
## {{ title }}
{% for row in rows[:shown] %}
- `{{ cell(row.id) }}` gold `{{ cell(row.gold) }}`, reference `{{ cell(row.reference) }}`, release `{{ cell(row.release) }}`
{%- endfor %}
{% endfor %}"""


def write_reports(verdict: Verdict, folder: Path, flips: dict[str, list[dict[str, Any]]] | None = None) -> None:
    """`flips`: title to rows of id, gold, reference, release; five of each are shown."""
    folder.mkdir(parents=True, exist_ok=True)
    write_junit(verdict, folder / "junit.xml")
    (folder / "report.md").write_text(render(verdict, flips or {}), encoding="utf8")
    verdict.write(folder / "verdict.json")


def write_junit(verdict: Verdict, path: Path) -> None:
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("tunegate gate")
    for one in verdict.results:
        case = TestCase(one.rule, classname=verdict.release)
        if one.outcome != "pass":
            case.result = [Failure(one.sentence, "inconclusive" if one.outcome == "inconclusive" else "failure")]
        suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.write(str(path))


def render(verdict: Verdict, flips: dict[str, list[dict[str, Any]]]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=False, undefined=StrictUndefined)
    environment.globals.update(cell=cell, figure=figure, value=value, interval=interval)
    return environment.from_string(TEMPLATE).render(verdict=verdict, flips=flips, shown=FLIPS_SHOWN) + "\n"


def cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("`", "'").replace("\n", " ")


def figure(number: Any) -> str:
    return f"{number:.4g}" if isinstance(number, int | float) else ""


def value(one: RuleResult) -> str:
    return figure(one.evidence.get("value", one.evidence.get("difference")))


def interval(one: RuleResult) -> str:
    return f"[{figure(one.evidence['low'])}, {figure(one.evidence['high'])}]" if "low" in one.evidence else ""
