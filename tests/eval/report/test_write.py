"""One verdict in five forms that say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import markupsafe
import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from configs.check import schemas
from configs.paths import RunPaths
from configs.verdict import HeldOut, Outcome, RuleResult, Verdict, conjunction
from eval.report.ci import escape, open_metrics
from eval.report.headline import OUTCOMES as ORDER
from eval.report.headline import by_severity, headline
from eval.report.markdown import plain, printable
from eval.report.write import links_of, write_reports
from eval.rules.evidence import Evidence, Measured
from infra.terminal import print_verdict
from tests.support import judged

pytestmark = pytest.mark.unit
FORMS = {"verdict.json", "junit.xml", "metrics.txt", "report.md", "report.html"}
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("|`\n<>&\"'\\\x00\u202e"), min_size=1, max_size=20)
FIGURES = st.sampled_from(
    [
        {},
        {"value": 0.5},
        {"value": None},
        {"difference": -0.25, "low": -0.5, "high": 0.125, "n": 8, "p_value": 0.0625, "bound": -0.1},
    ]
)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["pass", "fail", "inconclusive"])
RESULTS = st.builds(
    lambda rule, outcome, sentence, evidence: RuleResult(
        rule=rule, outcome=outcome, sentence=sentence, evidence=evidence
    ),
    TEXT,
    OUTCOMES,
    TEXT,
    FIGURES,
)


def verdict_of(results: list[RuleResult], **fields: Any) -> Verdict:
    return Verdict(release=judged.RELEASE, outcome=conjunction(results), results=results, **fields)


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Family to (labels, value), by prometheus_client's strict parser."""
    return {
        family.name: [(one.labels, one.value) for one in family.samples]
        for family in text_string_to_metric_families(text)
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(RESULTS, min_size=1, max_size=5))
def test_the_five_forms_agree_whatever_the_words(tmp_path: Path, results: list[RuleResult]) -> None:
    verdict = verdict_of(results)
    write_reports(verdict, tmp_path, Evidence(judged.RELEASE, None))
    assert {path.name for path in tmp_path.iterdir()} == FORMS
    assert Verdict.read(tmp_path / "verdict.json") == verdict
    suite = next(iter(JUnitXml.fromfile(str(tmp_path / "junit.xml"))))
    assert suite.failures == sum(one.outcome != "pass" for one in results) and suite.tests == len(results)
    for case, one in zip(suite, results, strict=True):
        assert case.classname == judged.RELEASE
        assert [found.type for found in case.result] == {
            "pass": [],
            "fail": ["failure"],
            "inconclusive": ["inconclusive"],
        }[one.outcome]
    counted = {
        labels["outcome"]: value
        for labels, value in samples((tmp_path / "metrics.txt").read_text(encoding="utf8"))["tunegate_rules"]
    }
    assert counted == {outcome: sum(one.outcome == outcome for one in results) for outcome in ORDER}
    report = (tmp_path / "report.md").read_text(encoding="utf8")
    assert report.startswith(f"# Gate: {verdict.outcome}\n") and judged.RELEASE in report
    assert [row.split(" | ")[1] for row in report.splitlines() if "| **" in row] == [
        f"**{one.outcome}**" for one in by_severity(results)
    ]
    page = (tmp_path / "report.html").read_text(encoding="utf8")
    assert page.count(' class="card rule">') == len(results) and f'id="outcome">{verdict.outcome}<' in page
    told = headline(verdict)
    assert f'<h1 id="headline">{markupsafe.escape(printable(told))}</h1>' in page and f"**{plain(told)}**" in report


def test_the_test_tab_shows_the_sentence_and_the_numbers(tmp_path: Path) -> None:
    write_reports(judged.verdict(), tmp_path, judged.evidence())
    case = next(
        one
        for one in next(iter(JUnitXml.fromfile(str(tmp_path / "junit.xml"))))
        if "non-inferior to champion by 0.05" in one.name
    )
    failure = case.result[0]
    assert failure.message == "accuracy differs by -0.138 on 240 examples."
    lines = failure.text.splitlines()
    assert lines[0] == failure.message
    assert {
        "difference: -0.138",
        "low: -0.2",
        "high: -0.08",
        "n: 240",
        "p_value: 0.0004",
        "minimum_detectable_effect: 0.062",
    } <= {*lines}


def test_the_metrics_report_has_each_figure_once_with_what_it_is_of() -> None:
    text = open_metrics(judged.verdict(), judged.evidence())
    assert text.endswith("# EOF\n")
    found = samples(text)
    measured = {(labels["metric"], labels["of"]): value for labels, value in found["tunegate_metric"]}
    assert {of for _, of in measured} == {"release", "champion", "base"}
    assert measured["accuracy", "release"] == judged.evidence().measured.record["metrics"]["accuracy"]  # type: ignore[union-attr]
    assert ({"slice": "topic=travel", "metric": "accuracy"}) in [labels for labels, _ in found["tunegate_slice"]]
    assert ({"test": "typos", "figure": "flip_rate"}, 0.125) in found["tunegate_behaviour"] and ({}, 3.0) in found[
        "tunegate_holdout_uses"
    ]
    assert ({"number": "2", "rule": "accuracy non-inferior to champion by 0.05", "figure": "high"}, -0.08) in found[
        "tunegate_rule"
    ]
    assert not re.search(r"sha256:[0-9a-f]{64}", text), (
        "a digest among the labels would make every merge request's series new"
    )


def test_a_figure_that_is_no_number_has_no_line() -> None:
    metrics: Any = {"a": float("nan"), "b": None, "c": True, "d": float("inf"), "e": 1}
    evidence = Evidence(judged.RELEASE, Measured({"metrics": metrics}))
    assert samples(open_metrics(verdict_of([]), evidence))["tunegate_metric"] == [
        ({"metric": "e", "of": "release"}, 1.0)
    ]


@given(st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=4))
@example({"\x1e": 0.0, "0": 1.0, "\x1f": 2.0})
def test_any_name_survives_in_a_label(metrics: dict[str, float]) -> None:
    found = samples(open_metrics(verdict_of([]), Evidence(judged.RELEASE, Measured({"metrics": metrics}))))
    wanted: dict[str, float] = {}
    for name, value in metrics.items():
        wanted.setdefault(printable(name), value)  # of two names that print alike the first stands
    assert [(labels["metric"], value) for labels, value in found.get("tunegate_metric", [])] == [*wanted.items()]
    assert all("\n" not in escape(name) for name in metrics)


def test_the_same_verdict_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_reports(judged.verdict(), tmp_path / name, judged.evidence())
    assert all((tmp_path / "one" / form).read_bytes() == (tmp_path / "other" / form).read_bytes() for form in FORMS)


def test_verdict_json_follows_its_published_schema(tmp_path: Path) -> None:
    write_reports(judged.verdict(), tmp_path, judged.evidence())
    schema = json.loads(schemas()["verdict.json"])
    jsonschema.validate(json.loads((tmp_path / "verdict.json").read_text(encoding="utf8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"release": "x", "outcome": "maybe", "results": []}, schema)


def test_an_old_verdict_is_gone_before_the_new_reports_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reports(judged.verdict(), tmp_path, judged.evidence())
    monkeypatch.setattr("eval.report.write.write_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_reports(judged.verdict(), tmp_path, judged.evidence())
    assert not (tmp_path / "verdict.json").exists(), (
        "a verdict beside half of its reports would say that they are whole"
    )


def test_what_was_asked_stands_beside_a_flipped_example(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.data.mkdir()
    pandas.DataFrame({"id": ["row-001", "row-002"], "text": ["Was the train <late>?", "never flipped"]}).to_parquet(
        paths.data / "test.parquet"
    )
    paths.trained.mkdir()
    (paths.trained / "training.json").write_text('{"tracking_run_id": "run-17"}')
    write_reports(judged.verdict(), paths.gate, judged.evidence(), paths)
    page = (paths.gate / "report.html").read_text(encoding="utf8")
    assert "Was the train &lt;late&gt;?" in page and "never flipped" not in page and "run-17" in page
    assert "run-17" in (paths.gate / "report.md").read_text(encoding="utf8")


def test_a_job_of_gitlab_links_to_its_own_artifact() -> None:
    folder = Path("build/run/gate")
    assert [*links_of(folder, {"CI_JOB_URL": "https://gitlab.invalid/a/-/jobs/7"}).values()] == [
        "https://gitlab.invalid/a/-/jobs/7/artifacts/file/build/run/gate/report.html"
    ]
    assert (
        links_of(folder, {}) == links_of(Path("/tmp/gate"), {"CI_JOB_URL": "https://gitlab.invalid/a/-/jobs/7"}) == {}
    )


def test_folds_are_named_on_every_page_and_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_folds = HeldOut(folds=5, champion="trained", champion_trained_on=30)
    for verdict in (verdict_of([], held_out=by_folds), verdict_of([])):
        write_reports(verdict, tmp_path, Evidence(judged.RELEASE, None))
        print_verdict(verdict)
        pages = [(tmp_path / name).read_text() for name in ("report.md", "report.html")] + [capsys.readouterr().out]
        assert all((by_folds.sentence() in page) == (verdict.held_out is not None) for page in pages)
        assert Verdict.read(tmp_path / "verdict.json") == verdict
