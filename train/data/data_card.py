"""The data card as one page that opens anywhere: tables and plots in the file itself, no script, nothing fetched."""

from __future__ import annotations

import io
from html import escape
from typing import Any

from configs.data_card import DataCard, LengthHistogram, NearDuplicates

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
    "table{border-collapse:collapse}code{font-size:.85em;overflow-wrap:anywhere}"
    "td,th{border-bottom:1px solid #ddd;padding:.2rem .8rem;text-align:left}svg{max-width:100%;height:auto}"
)
MOST_BARS = 30


def write_page(name: str, card: DataCard, examples: list[str]) -> str:
    """HTML. `examples`: the first findings of each kind, as lines."""
    facts = [
        ["Source", escape(card["source"])],
        ["Licence", escape(card["licence"])],
        ["Fingerprint", f"<code>{escape(card['fingerprint'])}</code>"],
        ["Corrupted", escape(card["corrupt"])],
        *([["Tags as found", escape(card["tags"])]] if "tags" in card else []),
    ]
    splits = [[split, f"{part['rows']:,}", f"<code>{part['sha256']}</code>"] for split, part in card["splits"].items()]
    parts = [
        f"<h1>Data card: {escape(name)}</h1>",
        table([], facts),
        "<h2>Splits</h2>" + table(["split", "rows", "fingerprint"], splits) + fold_sentence(card.get("folds", [])),
        table_sources(card.get("sources", {})),
        plot_balance(card["balance"]),
        plot_lengths(card["lengths"]),
        "<h2>Findings</h2>" + table(["kind", "action", "found", "left out"], finding_rows(card)),
        f"<p>{escape(near_sentence(card['near_duplicates']))}</p>",
        "<ul>" + "".join(f"<li><code>{escape(line)}</code></li>" for line in examples) + "</ul>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(name)}: data card</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{"".join(parts)}</html>\n'


def fold_sentence(folds: list[int]) -> str:
    if not folds:
        return ""
    sizes = ", ".join(f"{rows:,}" for rows in folds)
    return (
        f"<p>By {len(folds)} folds, of {sizes} rows: each row is a test row of the model that is trained without its "
        "fold. The release is trained on the train rows above.</p>"
    )


def table_sources(sources: dict[str, dict[str, int]]) -> str:
    """How many rows of each part of `data.mix` a split got; nothing where the rows are of one source."""
    if not sources:
        return ""
    rows = [[escape(name), *(f"{count:,}" for count in counts.values())] for name, counts in sources.items()]
    return "<h2>Sources</h2>" + table(["part", *next(iter(sources.values()))], rows)


def finding_rows(card: DataCard) -> list[list[str]]:
    """A row for each kind that was looked for, then for each reason for which the source itself left rows out."""
    left_out = card["left_out"]
    rows = [
        [found["kind"], found["action"], f"{found['count']:,}", f"{left_out.get(found['kind'], 0):,}"]
        for found in card["findings"]
    ]
    known = {found["kind"] for found in card["findings"]}
    return rows + [
        [kind, "by the source", f"{count:,}", f"{count:,}"] for kind, count in left_out.items() if kind not in known
    ]


def near_sentence(near: NearDuplicates) -> str:
    shared = near.get("shared_runs", 0)
    left_out = f"{shared:,} runs of five words that many rows share did not count. " if shared else ""
    return (
        f"Nearly the same means a Jaccard similarity of at least {near['threshold']:g} of words and pairs of words. "
        f"{left_out}"
        "Every row was compared with all validation and test rows; among themselves the train rows were compared "
        f"with {near['train_rows_indexed']:,} of {near['train_rows']:,}, drawn by the seed."
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML already."""
    header = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>" if head else ""
    return (
        "<table>"
        + header
        + "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        + "</table>"
    )


def plot_balance(balance: dict[str, dict[str, int]]) -> str:
    """Shares of the labels in each split, the commonest labels first; nothing where rows have no labels."""
    totals: dict[str, int] = {}
    for counts in balance.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    names = sorted(totals, key=lambda label: (-totals[label], label))[:MOST_BARS]
    if not names:
        return ""
    figure, axes = blank((8, 1.2 + 0.34 * len(names)))
    for offset, (split, counts) in enumerate(balance.items()):
        shares = [counts.get(name, 0) / max(1, sum(counts.values())) for name in names]
        axes.barh([row + 0.27 * (offset - 1) for row in range(len(names))], shares, 0.25, label=split)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("share of the split's labels")
    axes.legend(frameon=False)
    hidden = len(totals) - len(names)
    return "<h2>Labels</h2>" + svg(figure) + (f"<p>{hidden} rarer labels are not shown.</p>" if hidden else "")


def plot_lengths(lengths: LengthHistogram) -> str:
    """How many rows have how many tokens; nothing where tokens were not counted."""
    if not lengths["counts"]:
        return ""
    figure, axes = blank((8, 3))
    axes.stairs(lengths["counts"], lengths["edges"], fill=True)
    axes.set_xlabel("tokens of a row")
    axes.set_ylabel("rows")
    return "<h2>Lengths</h2>" + svg(figure)


def blank(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Any) -> str:
    """Inline: the same rows give the same bytes. Text becomes paths, so that no font is looked for."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "tunegate", "svg.fonttype": "path", "axes.unicode_minus": False}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return (
        text[text.index("<svg") :]
        .replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        .replace("xlink:href", "href")
    )
