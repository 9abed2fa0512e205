"""`data.template`: Jinja that makes a conversation, or a prompt and a completion, of a row's columns."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from configs.section import Section

if TYPE_CHECKING:
    from jinja2 import Undefined
    from jinja2.sandbox import SandboxedEnvironment


@cache
def no_value_type() -> type[Undefined]:
    """What a column without a value is to a template: false, empty and none, so that a part can be left out; written,
    it is an error, never an empty text."""
    from jinja2 import Undefined

    class NoValue(Undefined):
        __slots__ = ()
        __hash__ = Undefined.__hash__

        def __str__(self) -> str:
            self._fail_with_undefined_error()

        def __eq__(self, other: object) -> bool:
            return other is None or isinstance(other, NoValue)

        def __ne__(self, other: object) -> bool:
            return not self == other

    return NoValue


def refuse_null(value: Any) -> Any:
    """Of what is written: a null within a column would read `None`."""
    from jinja2 import UndefinedError

    if value is None:
        raise UndefinedError("null, which is no text")
    return value


def jinja_environment() -> SandboxedEnvironment:
    """A template sees its row and nothing else; a name that is not there is an error, never an empty text."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=refuse_null
    )
    environment.tests["none"] = lambda value: value is None or isinstance(value, no_value_type())
    return environment


def check_template(text: str) -> str:
    from jinja2 import TemplateSyntaxError

    try:
        jinja_environment().parse(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"a Jinja template: its line {error.lineno} says {error.message!r}") from None
    return text


def columns_of(text: str) -> set[str]:
    """The columns that a template reads; Jinja's own functions (`range`, `namespace`) are none."""
    from jinja2 import meta

    environment = jinja_environment()
    return meta.find_undeclared_variables(environment.parse(text)) - environment.globals.keys()


TemplateText = Annotated[str, AfterValidator(check_template)]


class Template(Section):
    """Jinja over a row's columns, as in `prompt: "Question: {{ question }}"`."""

    system: TemplateText | None = None
    prompt: TemplateText
    completion: TemplateText
    rejected: TemplateText | None = Field(
        None, description="for task dpo or reward: the answer that is worse than the completion"
    )
    chat: bool = Field(True, description="false: prompt and completion as they are, without the chat template")

    @model_validator(mode="after")
    def reads_columns(self) -> Template:
        for name in ("prompt", "completion", "rejected"):
            text = getattr(self, name)
            if text is not None and not columns_of(text):
                raise ValueError(f"a column in {name}, as {{{{ question }}}}: every row would say the same")
        if self.system is not None and not self.chat:
            raise ValueError("no system text with chat false")
        return self
