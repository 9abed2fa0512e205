"""From a row as a file holds it to our fields: columns renamed, and a conversation made by the config's Jinja
template."""

from __future__ import annotations

from collections.abc import Callable

from configs.rows.data import Data
from configs.rows.template import Template, columns_of, jinja_environment
from train.sources.source import Fault, Row

Reading = Callable[[Row], Row | Fault]


def make_reading(data: Data) -> Reading:
    """What is done to each row before its shape is looked at."""
    render = make_renderer(data.template) if data.template else None

    def read(row: Row) -> Row | Fault:
        renamed = rename(row, data.columns)
        return renamed if render is None or isinstance(renamed, Fault) else render(renamed)

    return read


def rename(row: Row, columns: dict[str, str]) -> Row | Fault:
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        return Fault(
            "missing_field",
            f"columns {', '.join(map(str, row))}",
            f"also {', '.join(missing)}, which data.columns names",
        )
    return row | {ours: row[theirs] for ours, theirs in columns.items()} if columns else row


def make_renderer(template: Template) -> Reading:
    """Raises nothing: a template that fails on a row is that row's fault."""
    import jinja2

    texts = {
        name: text
        for name in ("system", "prompt", "completion", "rejected")
        if (text := getattr(template, name)) is not None
    }
    wanted = {name: columns_of(text) for name, text in texts.items()}
    compiled = {name: jinja_environment().from_string(text) for name, text in texts.items()}

    def render(row: Row) -> Row | Fault:
        known = {key: value for key, value in row.items() if isinstance(key, str) and value is not None}
        try:
            found = {name: part.render(known) for name, part in compiled.items()}
        except jinja2.UndefinedError as error:
            missing = sorted(set().union(*wanted.values()) - known.keys())
            what = f"no value for column {', '.join(missing)}" if missing else str(error)
            return Fault("missing_field", what, "every column that data.template reads")
        except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            return Fault("missing_field", f"data.template: {error}", "values that the template can render")
        return {key: row[key] for key in ("id", "reference") if key in row} | (
            conversation(found) if template.chat else found
        )

    return render


def conversation(texts: dict[str, str]) -> Row:
    roles = {"system": "system", "prompt": "user", "completion": "assistant"}
    messages = [{"role": role, "content": texts[name]} for name, role in roles.items() if name in texts]
    return {"messages": messages} | ({"rejected": texts["rejected"]} if "rejected" in texts else {})
