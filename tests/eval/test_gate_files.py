"""From the files of a run to a verdict on disk: its forms say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from configs.environment.config import DeployConfig
from configs.errors import ConfigError, InputError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.run.config import RunConfig
from configs.verdict import Verdict
from eval.gate import read_rules, run_gate
from eval.statistics.looks import confidence_at

pytestmark = pytest.mark.unit
RUN = RunPaths.of("run")
CHAMPION = "old@sha256:" + "c" * 64
PINNED = DeployConfig(name="local", model="assistant", release=CHAMPION, gate=None)
GATE = """rules:
  - {rule: threshold, metric: accuracy, minimum: 0.6}
  - {rule: non_inferior_to, reference: champion, metric: accuracy, margin: 0.05}
  - {rule: non_inferior_to, reference: base, metric: accuracy, margin: 0.05}
  - {rule: parity}
"""
PARITY = {"agreement": 1.0, "difference": 0.01, "prompts": 8, "passed": True}


def outcomes(right: int, n: int = 100) -> dict[str, float]:
    return {f"row-{number}": float(number < right) for number in range(n)}


@pytest.fixture
def run(
    checkout: Path,
    config: Callable[..., RunConfig],
    write_release: Callable[..., Manifest],
    write_measured: Callable[..., Path],
) -> Callable[..., Any]:
    """Writes a run of so many right answers (None: not measured) for release, champion and base, and judges it."""

    def judged(
        release: int | None,
        champion: int | None,
        base: int | None,
        production: DeployConfig | None = PINNED,
        weights: bytes = b"weights",
        **record: Any,
    ) -> Verdict:
        Path("gate.yaml").write_text(GATE)
        manifest = write_release(RUN.release, weights=weights, base={"digest": "sha256:" + "b" * 64})
        same = {key: value for key, value in record.items() if key == "conditions"}
        places = {
            RUN.evaluation: (manifest.reference, release, {"parity": PARITY} | record),
            checkout / "releases/old@cccccccccccc/eval": (CHAMPION, champion, same),
            RUN.evaluation / "base": ("base@sha256:" + "b" * 64, base, same),
        }
        for folder, (reference, right, fields) in places.items():
            if right is not None:
                write_measured(folder, reference, outcomes(right), **fields)
        return run_gate(config(), RUN, production)

    return judged


def read_reports() -> tuple[Verdict, dict[str, str | None], dict[str, str | None], str]:
    """The verdict, outcome by rule from junit.xml and from report.md, and the report."""
    report = (RUN.gate / "report.md").read_text(encoding="utf8")
    cases = ElementTree.parse(RUN.gate / "junit.xml").iter("testcase")
    kinds = {
        case.attrib["name"]: {None: "pass", "failure": "fail"}.get(
            kind := next((one.get("type") for one in case), None), kind
        )
        for case in cases
    }
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| ") and "**" in line]
    return (
        Verdict.read(RUN.gate / "verdict.json"),
        kinds,
        {row[0].removeprefix("| "): row[1].strip("*") for row in rows},
        report,
    )


@pytest.mark.parametrize(
    ("release", "champion", "base", "by_rule"),
    [
        (90, 80, 20, ["pass", "pass", "pass", "pass"]),
        (45, 90, 20, ["fail", "fail", "pass", "pass"]),
        (80, 80, 20, ["pass", "pass", "pass", "pass"]),
        (80, 84, 20, ["pass", "inconclusive", "pass", "pass"]),
        (90, None, None, ["pass", "inconclusive", "inconclusive", "pass"]),
        (None, 80, 20, ["inconclusive"] * 4),
    ],
)
def test_the_reports_agree_with_the_verdict(
    run: Callable[..., Verdict], release: int | None, champion: int | None, base: int | None, by_rule: list[str]
) -> None:
    verdict = run(release, champion, base)
    assert [one.outcome for one in verdict.results] == by_rule
    assert verdict.outcome == next((one for one in ("fail", "inconclusive") if one in by_rule), "pass")
    stored, junit, table, report = read_reports()
    assert stored == verdict and verdict.champion == CHAMPION
    assert junit == table == {one.rule: one.outcome for one in verdict.results}
    assert report.startswith(f"# Gate: {verdict.outcome}\n") and verdict.release in report and CHAMPION in report


def test_the_report_lists_what_was_lost_against_the_champion(run: Callable[..., Verdict]) -> None:
    run(90, 93, 20)
    report = read_reports()[-1]
    assert "**Lost against the champion: 3**" in report and "**Gained over the champion: 0**" in report
    for number in (90, 91, 92):
        assert f"| `row-{number}` | `good` | `good` | `bad` |" in report
    assert (RUN.gate / "report.html").read_text(encoding="utf8").count('<li class="lost"') == 3


def test_a_first_release_needs_no_champion_but_all_else(run: Callable[..., Verdict]) -> None:
    verdict = run(90, None, 20, production=PINNED.model_copy(update={"release": None}))
    assert verdict.outcome == "pass" and verdict.champion is None
    assert verdict.binding is not None and verdict.binding.champion == "none"
    assert "local has never served anything" in read_reports()[-1]
    assert run(90, None, 20, production=None, parity=None).outcome == "inconclusive"


def test_a_config_that_names_no_environment_knows_no_champion(run: Callable[..., Verdict]) -> None:
    verdict = run(90, None, 20, production=None)
    assert [one.outcome for one in verdict.results] == ["pass", "inconclusive", "pass", "pass"]
    assert verdict.binding is not None
    assert (verdict.binding.environment, verdict.binding.champion) == (None, None)


def test_the_verdict_says_what_it_was_reached_about(run: Callable[..., Verdict]) -> None:
    conditions = {"rows": "rows-1", "settings": "s", "versions": {"vllm": "1"}}
    binding = run(90, None, 20, n=100, conditions=conditions).binding
    assert binding is not None and binding.digest == binding.digest_of_contents()
    assert (binding.environment, binding.champion, binding.n) == ("local", CHAMPION, 100)
    assert (binding.gate, binding.gate_digest) == ("gate.yaml", read_rules(Path("gate.yaml")).digest)
    assert (binding.rows, binding.versions) == ("rows-1", {"vllm": "1"}) and binding.conditions
    assert binding.look is None, "there is no store here that counts"
    other = run(90, None, 20, n=100, conditions=conditions | {"settings": "t"}).binding
    assert other is not None and other.conditions != binding.conditions


def test_the_environment_says_by_which_gate(run: Callable[..., Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    """A run's own gate is not asked, however soft it is."""
    Path("strict.yaml").write_text("rules: [{rule: threshold, metric: accuracy, minimum: 0.99}]")
    verdict = run(90, 80, 20, production=PINNED.model_copy(update={"release_gate": "strict.yaml"}))
    assert [one.outcome for one in verdict.results] == ["fail"]
    assert verdict.binding is not None and verdict.binding.gate == "strict.yaml"
    assert "judged by strict.yaml, the release_gate of local, not by the run's gate.yaml" in capsys.readouterr().err


def test_a_gate_is_known_by_what_it_means(checkout: Path) -> None:
    Path("one.yaml").write_text("rules:\n  - {rule: threshold, metric: accuracy, minimum: 0.60}  # a comment\n")
    Path("two.yaml").write_text("# other words\nrules: [{minimum: 0.6, metric: accuracy, rule: threshold}]\n")
    Path("three.yaml").write_text("rules: [{minimum: 0.59, metric: accuracy, rule: threshold}]\n")
    one, two, three = (read_rules(Path(f"{name}.yaml")).digest for name in ("one", "two", "three"))
    assert one == two != three


def test_each_look_at_the_same_rows_is_judged_at_a_higher_confidence(run: Callable[..., Verdict]) -> None:
    confidences = []
    for weights in (b"one", b"two", b"three", b"two"):
        verdict = run(90, 88, 20, weights=weights)
        confidences.append(verdict.results[1].evidence["confidence"])
    assert [round(one, 9) for one in confidences] == [round(confidence_at(0.95, look), 9) for look in (1, 2, 3, 2)]
    assert confidences == sorted(confidences[:3]) + confidences[1:2] and verdict.holdout_uses == 2


def test_an_evaluation_of_earlier_bytes_is_refused(
    run: Callable[..., Verdict], write_release: Callable[..., Manifest], config: Callable[..., RunConfig]
) -> None:
    assert run(90, 80, 20).outcome == "pass"
    manifest = write_release(RUN.release, weights=b"trained again", base={"digest": "sha256:" + "b" * 64})
    verdict = run_gate(config(), RUN, PINNED)
    assert verdict.outcome == "fail" and verdict.release == manifest.reference == read_reports()[0].release
    assert all("not of this release" in one.sentence for one in verdict.results)


def test_without_a_release_or_a_gate_file_there_is_no_verdict(
    run: Callable[..., Verdict], config: Callable[..., RunConfig]
) -> None:
    Path("gate.yaml").write_text("rules: [{rule: parity}]")
    with pytest.raises(InputError, match="not a release"):
        run_gate(config(), RUN, None)
    run(90, 80, 20)
    (RUN.gate / "verdict.json").unlink()
    with pytest.raises(ConfigError):
        run_gate(config(gate="nowhere.yaml"), RUN, None)
    assert not (RUN.gate / "verdict.json").exists()
