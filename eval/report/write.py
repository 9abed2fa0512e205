"""One verdict, five forms: verdict.json, junit.xml and metrics.txt for a CI server, report.md and report.html for a
reviewer."""

from __future__ import annotations

import os
from pathlib import Path

from configs.paths import RunPaths
from configs.verdict import Verdict
from eval.report import summary
from eval.report.ci import open_metrics, write_junit
from eval.report.markdown import write_markdown
from eval.report.page import write_page
from eval.rules.evidence import Evidence


def write_reports(verdict: Verdict, folder: Path, evidence: Evidence, paths: RunPaths | None = None) -> None:
    """verdict.json last: it is what says that the others are whole. `paths`: where the questions and the release's own
    account lie."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").unlink(missing_ok=True)
    background = summary.read_background(verdict, evidence, paths)
    write_junit(verdict, folder / "junit.xml")
    (folder / "metrics.txt").write_text(open_metrics(verdict, evidence), encoding="utf8")
    (folder / "report.html").write_text(write_page(verdict, evidence, background), encoding="utf8")
    (folder / "report.md").write_text(
        write_markdown(verdict, evidence, background, links_of(folder, os.environ)), encoding="utf8"
    )
    verdict.write(folder / "verdict.json")


def links_of(folder: Path, environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """To the page among the job's artifacts, where GitLab says which job this is (CI_JOB_URL)."""
    job = environment.get("CI_JOB_URL")
    return (
        {"the whole page, with the flipped examples": f"{job}/artifacts/file/{folder.as_posix()}/report.html"}
        if job and not folder.is_absolute()
        else {}
    )
