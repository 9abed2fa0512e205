"""`data.template`: Jinja that makes a conversation, or a prompt and a completion, of a row's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, model_validator

from configs.section import Section

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


def jinja_environment() -> SandboxedEnvironment:
    """A template sees its row and nothing else; a name that is not there is an error, never an empty text."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def check_template(text: str) -> str:
    from jinja2 import TemplateSyntaxError

    try:
        jinja_environment().parse(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"a Jinja template: its line {error.lineno} says {error.message!r}") from None
    return text


def columns_of(text: str) -> set[str]:
    """The columns that a template reads."""
    from jinja2 import meta

    return meta.find_undeclared_variables(jinja_environment().parse(text))


TemplateText = Annotated[str, AfterValidator(check_template)]


class Template(Section):
    """Jinja over a row's columns, as in `prompt: "Question: {{ question }}"`."""

    system: TemplateText | None = None
    prompt: TemplateText
    completion: TemplateText
    rejected: TemplateText | None = Field(
        None, description="for task dpo: the answer that is worse than the completion"
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
