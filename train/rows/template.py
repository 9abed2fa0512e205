"""From a row as a file holds it to our fields: columns renamed, a known shape read, and a conversation made by the
config's Jinja template."""

from __future__ import annotations

from typing import Any

from configs.errors import InputError
from configs.rows.source import RowSource
from configs.rows.template import Template, columns_of, jinja_environment
from configs.section import nearest
from train.rows.presets import PRESETS
from train.rows.trl import is_trl, read_trl
from train.sources.source import Fault, Row

FAILURES = (ArithmeticError, TypeError, ValueError, LookupError, AttributeError)  # of an expression on a row's values


class RowReader:
    """What is done to each row before its shape is looked at."""

    def __init__(self, data: RowSource) -> None:
        self.columns = data.columns
        self.preset = PRESETS[data.format] if data.format else None
        self.renderer = Renderer(data.template) if data.template else None

    def __call__(self, row: Row) -> Row | Fault:
        renamed = rename(row, self.columns)
        if isinstance(renamed, Fault):
            return renamed
        if self.renderer:
            return self.renderer(renamed)
        if self.preset:
            found = self.preset(renamed)
            return found if isinstance(found, Fault) else carried(renamed) | found
        if is_trl(renamed):  # its columns are known by their names
            found = read_trl(renamed)
            return found if isinstance(found, Fault) else renamed | found
        return renamed

    def finish(self) -> None:
        """Raises InputError for a column that the template reads and no row has."""
        if self.renderer:
            self.renderer.finish()


def make_reading(data: RowSource) -> RowReader:
    return RowReader(data)


def carried(row: Row) -> Row:
    return {key: row[key] for key in ("id", "reference", "tools") if row.get(key) is not None}


def rename(row: Row, columns: dict[str, str]) -> Row | Fault:
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        near = nearest(missing[0], map(str, row))
        return Fault(
            "missing_field",
            f"columns {', '.join(map(str, row))}",
            f"also {', '.join(missing)}, which data.columns names" + (f" ({near}?)" if near else ""),
        )
    return row | {ours: row[theirs] for ours, theirs in columns.items()} if columns else row


class Renderer:
    """A conversation, or a prompt and a completion, of a row's columns."""

    def __init__(self, template: Template) -> None:
        texts = {
            name: text
            for name in ("system", "prompt", "completion", "rejected")
            if (text := getattr(template, name)) is not None
        }
        self.chat = template.chat
        self.wanted = {name: columns_of(text) for name, text in texts.items()}
        self.compiled = {name: jinja_environment().from_string(text) for name, text in texts.items()}
        self.unseen = set().union(*self.wanted.values())  # columns that no row has had yet
        self.columns: set[str] = set()

    def __call__(self, row: Row) -> Row | Fault:
        """A template that fails on a row is that row's fault."""
        import jinja2

        if self.unseen:
            self.unseen -= row.keys()
            self.columns |= {key for key in row if isinstance(key, str)}
        found: dict[str, str] = {}
        problems: list[str] = []
        for name, part in self.compiled.items():
            try:
                found[name] = part.render(visible(row, self.wanted[name]))
            except jinja2.UndefinedError as error:
                if name != "system" or self.says_without(row):
                    problems.append(f"data.template.{name}: {error}")
            except (jinja2.TemplateError, *FAILURES) as error:
                problems.append(f"data.template.{name} (of {', '.join(sorted(self.wanted[name]))}): {error}")
        if problems:
            return Fault("missing_field", "; ".join(problems), "values that the template can write")
        return carried(row) | (conversation(found) if self.chat else found)

    def says_without(self, row: Row) -> bool:
        """Whether the system text says something although columns of it have no value."""
        from jinja2 import TemplateError

        filled = row | {key: "" for key in self.wanted["system"] if row.get(key) is None}
        try:
            return bool(self.compiled["system"].render(filled).strip())
        except (TemplateError, *FAILURES):
            return True

    def finish(self) -> None:
        if self.unseen and self.columns:
            names = sorted(self.unseen)
            raise InputError(
                f"data.template reads {', '.join(names)}, which no row has; found {', '.join(sorted(self.columns))}",
                hint=f"write {near}" if (near := nearest(names[0], self.columns)) else "name columns of your rows",
            )


def visible(row: Row, wanted: set[str]) -> dict[str, Any]:
    """The row to a template. A column without a value is false, empty and none, and cannot be written."""
    return row | {key: no_value(key, key in row) for key in wanted if row.get(key) is None}


def no_value(column: str, is_null: bool) -> Any:
    from configs.rows.template import no_value_type

    return no_value_type()(hint=f"no value for column {column}" + ("" if is_null else ", which this row lacks"))


def conversation(texts: dict[str, str]) -> Row:
    """A system text of nothing is no turn."""
    roles = {"system": "system", "prompt": "user", "completion": "assistant"}
    messages = [
        {"role": role, "content": texts[name]}
        for name, role in roles.items()
        if name in texts and (name != "system" or texts[name].strip())
    ]
    return {"messages": messages} | ({"rejected": texts["rejected"]} if "rejected" in texts else {})
