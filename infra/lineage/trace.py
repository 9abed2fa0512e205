"""The chain behind an answer, from its digest to the merge request: each link from what is here, or said to be missing
with the command that brings it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

from configs.errors import ExternalError, InputError, TunegateError
from configs.release import Manifest, ReleaseUse, read_manifest
from infra.dvc.releases import Published, folder_of, list_releases, pointer_of
from infra.git import history
from infra.git.history import Commit

ASKED = re.compile(r"(?:([a-z0-9][a-z0-9._-]{0,62})@)?(?:sha256:)?([0-9a-f]{12,64})")
EXPECTED = (
    "expected NAME@sha256:…, sha256:…, at least 12 hex digits of it, or the line x-tunegate-release: … of an answer"
)


class Asked(NamedTuple):
    """What was asked for: a digest or the first digits of it."""

    name: str | None
    digest: str
    slot: str | None


@dataclass(frozen=True)
class Link:
    """One link: what is known of it, and where something is missing the reason and the command that brings it."""

    link: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None
    bring: str | None = None


class CatalogueRow(Published):
    """`aliases`: None where MLflow was not to be asked. `environments`: who pins or runs it, and how."""

    aliases: list[str] | None
    environments: list[str]


def catalogue(uses: Iterable[ReleaseUse]) -> list[CatalogueRow]:
    """Every published release, oldest first, with its aliases (None: MLflow was not to be asked) and who pins or runs
    it."""
    from infra.mlflow.registry import registered

    rows, needed = list_releases(), [use for use in uses if use.needed]
    versions = registered(row["name"] for row in rows) if rows else {}

    def aliases(row: Published) -> list[str] | None:
        if versions is None:
            return None
        return versions[row["digest"]].aliases if row["digest"] in versions else []

    return [
        {
            **row,
            "aliases": aliases(row),
            "environments": [f"{use.environment}: {use.how}" for use in needed if use.reference == row["reference"]],
        }
        for row in rows
    ]


def identify(text: str) -> Asked:
    """Of a reference, a digest, or the headers of an answer in any case and order. Raises InputError."""
    header = re.search(r"x-tunegate-release:[ \t]*(\S+)", text, re.IGNORECASE)
    slot = re.search(r"x-tunegate-slot:[ \t]*(\w+)", text, re.IGNORECASE)
    found = ASKED.fullmatch((header[1] if header else text).strip())
    if found is None:
        raise InputError(
            f"{text[:120]!r}: found no digest, {EXPECTED}", hint="curl -si ADDRESS | grep -i x-tunegate-release"
        )
    return Asked(found[1], found[2], slot[1] if slot else None)


def choose(asked: Asked, known: Collection[str]) -> str:
    """The one known NAME@sha256:DIGEST that fits. Raises InputError for none or several."""
    fitting = sorted(
        {
            one
            for one in known
            if one.partition("@sha256:")[2].startswith(asked.digest) and asked.name in (None, one.partition("@")[0])
        }
    )
    if len(fitting) == 1:
        return fitting[0]
    wanted = f"{asked.name}@{asked.digest}" if asked.name else asked.digest
    if fitting:
        raise InputError(
            f"{wanted}: {len(fitting)} releases fit, expected one:" + "".join(f"\n  {one}" for one in fitting),
            hint="tunegate releases list",
        )
    raise InputError(
        f"{wanted}: found no such release here, in no pointer, pin or record",
        hint="git pull, then the same again; tunegate releases list",
    )


def trace(asked: Asked, uses: Iterable[ReleaseUse]) -> list[Link]:
    """Answer, environment, release, verdict, run, config, data, commit, merge request: always these, in this order."""
    uses = list(uses)
    rows = {row["reference"]: row for row in list_releases()}
    known = {*rows, *(use.reference for use in uses)}
    with suppress(ExternalError):  # without git, the releases and the records still know much
        known |= history.referenced().keys()
    reference = choose(asked, known)
    unlisted = {"reference": reference, "name": reference.partition("@")[0], "here": False}  # of the rest, links `get`
    row = rows.get(reference) or cast(Published, unlisted)
    manifest = read_manifest(folder_of(reference) / "release") if row["here"] else None
    answer = Link("answer", {"release": reference.partition("@")[2]} | ({"slot": asked.slot} if asked.slot else {}))
    links = [answer, environment_link(reference, uses), release_link(row, manifest), verdict_link(row), run_link(row)]
    made, pins = history.commit_facts(row.get("git_revision") or "unknown"), history.pinned_by(reference)
    return [
        *links,
        config_link(row, manifest),
        data_link(row, manifest),
        commit_link(row, made, pins),
        merge_request_link(reference, made, pins),
    ]


def environment_link(reference: str, uses: list[ReleaseUse]) -> Link:
    seen = [use for use in uses if use.reference == reference]
    if not seen:
        return Link(
            "environment",
            {},
            "no environment here pins it or has run it",
            "ask on the machine that serves: its records are there (state_dir)",
        )
    found: dict[str, list[str]] = {}
    for use in seen:
        found.setdefault(use.environment, []).append(use.how)
    switched = {use.environment: use.switched for use in seen if use.switched}
    return Link(
        "environment",
        {
            name: ", ".join(how) + (f"; all traffic since {switched[name][:19]}Z" if name in switched else "")
            for name, how in found.items()
        },
    )


def release_link(row: Published, manifest: Manifest | None) -> Link:
    facts = {"reference": row["reference"], "created": row.get("created"), "here": row["here"]}
    if manifest:
        scheme = manifest.quantization.get("scheme")
        return Link("release", facts | {"scheme": scheme, "size_bytes": sum(file.size for file in manifest.files)})
    if "digest" in row:
        return Link("release", facts, "its bytes are not here", f"tunegate releases fetch {row['reference']}")
    pointer = pointer_of(folder_of(row["reference"]))
    commit = history.added_by(pointer)
    bring = (
        f"git checkout {commit[:12]} -- {pointer}" if commit else f"git pull; commit {pointer} where it was published"
    )
    return Link("release", facts, "its pointer is not in this checkout", bring)


def verdict_link(row: Published) -> Link:
    outcome, reference = row.get("verdict", "unknown"), row["reference"]
    if outcome == "unknown":
        return Link("verdict", {}, "no verdict beside it", f"tunegate releases fetch {reference}")
    page = folder_of(reference) / "gate" / "report.md"
    facts = {"outcome": outcome, "judged_for": row.get("judged_for") or [], "metrics": row.get("metrics") or {}}
    return Link("verdict", facts | ({"report": page.as_posix()} if page.exists() else {}))


def run_link(row: Published) -> Link:
    from infra.mlflow.registry import registered, run_facts

    versions = registered([row["name"]])
    version = (versions or {}).get(row["reference"].partition("@")[2])
    run_id = row.get("run") or (version.run_id if version else None)
    known: dict[str, object] = {}
    if version:
        known = {"model_version": f"{row['name']}/{version.version}", "aliases": version.aliases}
    if run_id is None:
        return Link(
            "run",
            known,
            "it was published without one",
            f"tunegate sync {row['name']}; then tunegate releases publish configs/finetune/{row['name']}.yaml",
        )
    facts = run_facts(run_id) if versions is not None else None
    if facts is None:
        return Link(
            "run",
            {"run_id": run_id} | known,
            "MLflow here does not know it",
            "set MLFLOW_TRACKING_URI to the server that took it",
        )
    return Link("run", {"run_id": run_id} | facts | known)


def config_link(row: Published, manifest: Manifest | None) -> Link:
    file, revision = f"configs/finetune/{row['name']}.yaml", row.get("git_revision") or "unknown"
    facts: dict[str, object] = {"file": f"{revision[:12]}:{file}"} if history.is_at(revision, file) else {}
    if manifest is None:
        return Link(
            "config", facts, "the resolved config is in the release", f"tunegate releases fetch {row['reference']}"
        )
    base = " ".join(value for key, value in manifest.base.items() if key != "digest")
    facts |= {
        "task": manifest.task,
        "base": base,
        "base_digest": manifest.base.get("digest"),
        "gate": manifest.config.get("gate"),
    }
    return Link("config", {key: value for key, value in facts.items() if value})


def data_link(row: Published, manifest: Manifest | None) -> Link:
    facts = dict(manifest.data) if manifest else {"fingerprint": row["data"]} if row.get("data") else {}
    if not facts:
        return Link("data", {}, "no fingerprint is recorded", f"tunegate releases fetch {row['reference']}")
    source = manifest.config.get("data", {}).get("source") if manifest else None
    return Link("data", facts | ({"source": source} if source else {}))


def commit_link(row: Published, made: Commit | None, pins: list[Commit]) -> Link:
    revision = row.get("git_revision") or "unknown"
    facts = (made or {"sha": revision}) | (
        {"pinned_by": [f"{pin['sha'][:12]} {pin['author']}: {pin['subject']}" for pin in pins]} if pins else {}
    )
    if made is None:
        why = (
            "the release does not say of which commit it was made"
            if revision == "unknown"
            else "that commit is not in this clone"
        )
        return Link(
            "commit",
            facts,
            why,
            f"tunegate releases fetch {row['reference']}" if revision == "unknown" else "git fetch --all --tags",
        )
    return Link("commit", facts)


def merge_request_link(reference: str, made: Commit | None, pins: list[Commit]) -> Link:
    """Of the newest commit that pins it; else of the one that has its pointer; else of the one it was made of."""
    pointer = history.added_by(pointer_of(folder_of(reference)))
    commits = [
        *(pin["sha"] for pin in reversed(pins)),
        *([pointer] if pointer else []),
        *([made["sha"]] if made else []),
    ]
    for sha in commits:
        if found := history.merge_request_of(sha):
            return Link("merge request", found)
    if not commits:
        return Link("merge request", {}, "no commit here pins it, points to it or made it", "git fetch --all --tags")
    return ask_gitlab(commits) or Link(
        "merge request", {}, f"no merge commit after {commits[0][:12]} names one", "git fetch --all, once it is merged"
    )


def ask_gitlab(commits: list[str]) -> Link | None:
    """What a squashed or fast-forwarded merge leaves in no commit; None where GitLab is not configured or knows of
    none."""
    from infra.gitlab.api import GitLab

    gitlab = GitLab.from_environment()
    try:
        found = next((facts for sha in commits if gitlab and (facts := gitlab.merge_request_of(sha))), None)
    except TunegateError as error:
        return Link("merge request", {}, error.message, error.hint or "the same command, once GitLab answers")
    return Link("merge request", found) if found else None


def for_people(links: list[Link]) -> str:
    """A line a link, its parts by name; what is missing below it."""
    lines = []
    for link in links:
        words = [
            f"{name} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value}"
            for name, value in link.facts.items()
            if value not in (None, {}, [])
        ]
        lines.append(f"{link.link:>13}  {'  '.join(words) or '-'}")
        if link.missing:
            lines.append(f"{'':>13}  missing: {link.missing}; try: {link.bring}")
    return "\n".join(lines)


def for_machines(links: list[Link]) -> dict[str, object]:
    return {"whole": not any(link.missing for link in links), "links": [asdict(link) for link in links]}
