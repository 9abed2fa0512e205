"""What is wrong with the rows: every finding with file, row, kind; what happens to the row is the config's word, never
a silent one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from train.data.findings import Findings
from train.rows.shape import texts_of
from train.sources.source import Fault, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.data.table import RowTable

# UTF-8 read as Latin-1 or Windows-1252: a lead byte's character, then those of continuation bytes (0x80 to 0xbf).
CONTINUATION = "\u0080-\u00bf" + "".join(bytes([byte]).decode("cp1252", errors="ignore") for byte in range(0x80, 0xA0))
MISREAD = rf"[ÂÃ][{CONTINUATION}]|(?:[ÐÑÎÏ][{CONTINUATION}]){{2}}|â[{CONTINUATION}]{{2}}|ðŸ[{CONTINUATION}]{{2}}"
MOJIBAKE = re.compile(MISREAD + r"|\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def mojibake_of(row: Row) -> Fault | None:
    for text in texts_of(row):
        found = MOJIBAKE.search(text)
        if found:
            around = text[max(0, found.start() - 12) : found.end() + 12]
            return Fault("mojibake", f"{found.group()!a} in {around!r}", "text in UTF-8, read as UTF-8")
    return None


def make_personal_data_check() -> Callable[[Row], Fault | None]:
    """Presidio's pattern recognisers, without a language model; nothing is looked up outside."""
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

    class OfflineEmailRecognizer(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> None:
            """Presidio's own would fetch the public suffix list."""

    kinds = (
        OfflineEmailRecognizer,
        PhoneRecognizer,
        CreditCardRecognizer,
        IbanRecognizer,
        IpRecognizer,
        UsSsnRecognizer,
    )
    recognizers: list[Any] = [kind() for kind in kinds]  # their types forbid None for what patterns do not need

    def check(row: Row) -> Fault | None:
        text = "\n".join(texts_of(row))
        for recognizer in recognizers:
            found = [
                result
                for result in recognizer.analyze(text, recognizer.supported_entities, None) or []
                if result.score >= 0.4
            ]
            if found:
                return Fault(
                    "personal_data", f"{found[0].entity_type} at character {found[0].start}", "no personal data"
                )
        return None

    return check


def lint_table(table: RowTable, findings: Findings) -> None:
    """Faults that only show when rows are compared; what may not stay is taken out of `table.kept`."""
    repeat_of = first_of(table.identity)
    report(
        table,
        findings,
        "repeated_id",
        table.rows_where(repeat_of >= 0),
        lambda row: (f"the id of {table.location(repeat_of[row])}", "an id of its own"),
    )
    first = first_of(table.question ^ table.part.astype("uint64"))
    same = table.answer == table.answer[first]
    report(
        table,
        findings,
        "duplicate",
        table.rows_where((first >= 0) & same),
        lambda row: (f"the row of {table.location(first[row])}", "each row once"),
    )
    other = table.rows_where((first >= 0) & ~same)
    report(
        table,
        findings,
        "conflicting_answer",
        other,
        lambda row: (f"the question of {table.location(first[row])}", "one answer to a question"),
    )


def lint_lengths(table: RowTable, findings: Findings, max_tokens: int) -> None:
    """Truncation is never done: a row that would need it is a fault."""
    prompts = table.prompt_length
    prompt_alone = prompts >= max_tokens
    report(
        table,
        findings,
        "no_target_tokens",
        table.rows_where(prompt_alone),
        lambda row: (f"a prompt of {prompts[row]} tokens", f"less than {max_tokens}"),
    )
    long = table.rows_where((table.length > max_tokens) & ~prompt_alone)
    report(table, findings, "too_long", long, lambda row: (f"{table.length[row]} tokens", f"at most {max_tokens}"))


def report(
    table: RowTable, findings: Findings, kind: str, rows: NDArray[Any], say: Callable[[int], tuple[str, str]]
) -> None:
    """One finding for each of `rows`, and the config's action on them."""
    for row in rows.tolist():
        findings.add(*table.where(row), Fault(kind, *say(row)))
    if findings.action(kind) != "keep":
        table.leave_out(rows, kind)


def lint_balance(counts: Counter[str], findings: Findings) -> None:
    """`counts`: how often each label occurs; of tags, without O, which is nearly all of any text."""
    total = counts.total()
    for label, count in sorted(counts.items()):
        if count < findings.lint.rare_share * total:
            found = f"label {label!r} on {count} of {total} ({count / total:.2%})"
            findings.add(
                "all rows", None, Fault("imbalance", found, f"a share of at least {findings.lint.rare_share:.2%}")
            )


def lint_spelling(counts: Counter[str], findings: Findings) -> None:
    """Labels that would be one if case, spaces and forms of characters did not count: two classes by mistake."""
    alike: dict[str, list[str]] = {}
    for label in sorted(counts):
        alike.setdefault(" ".join(normalize("NFKC", label).casefold().split()), []).append(label)
    for labels in alike.values():
        if len(labels) > 1:
            found = "labels " + ", ".join(f"{label!r} ({counts[label]})" for label in labels)
            findings.add("all rows", None, Fault("label_variants", found, "one spelling of a label"))


def first_of(keys: NDArray[Any]) -> NDArray[Any]:
    """For each row the index of the first with its key; -1 where it is the first itself."""
    import numpy

    order = numpy.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = (
        numpy.flatnonzero(numpy.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(keys)
        else numpy.zeros(0, dtype="int64")
    )
    firsts = numpy.repeat(order[starts], numpy.diff(numpy.append(starts, len(keys))))
    found = numpy.empty(len(keys), dtype="int64")
    found[order] = numpy.where(order == firsts, -1, firsts)
    return found
