"""Data: where labelled rows come from, what may be wrong with them, and how they are split."""

from __future__ import annotations

from glob import glob, has_magic
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from configs.section import Section, must_exist, stay_inside

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Action = Literal["refuse", "drop", "keep"]
Loss = Literal["refuse", "drop"]
URL_SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "https", "memory")
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
PACKED = (".gz", ".bz2", ".xz")


def check_location(location: str, info: ValidationInfo) -> str:
    """A path or pattern inside the checkout, or a URL that fsspec reads. `file://` would leave the checkout, and so
    might a chain of URLs."""
    scheme, is_url, _ = location.partition("://")
    if is_url or "::" in location:
        if scheme not in URL_SCHEMES or "::" in location:
            raise ValueError(f"a path inside the checkout, or one URL of {', '.join(URL_SCHEMES)}")
        return location
    stay_inside(location)
    if not has_magic(location):
        return must_exist(location, info)
    if info.context and not glob(location, root_dir=info.context["root"], recursive=True):
        raise ValueError("a pattern that some file matches")
    return location


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


Location = Annotated[str, AfterValidator(check_location)]
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


class Split(Section):
    """Which rows train and which are held out."""

    method: Literal["random", "stratified", "grouped", "temporal", "given"] = Field(
        "random",
        description="stratified: equal shares of labels; grouped: a group in one split only; "
        "temporal: the newest rows are held out; given: by files",
    )
    by: str | None = Field(None, description="the column that groups the rows, or says when they came to be")

    @model_validator(mode="after")
    def by_fits_method(self) -> Split:
        if (self.method in ("grouped", "temporal")) != (self.by is not None):
            raise ValueError("by exactly when method is grouped or temporal")
        return self


class Lint(Section):
    """What is done with each kind of fault: refuse ends `prepare`, drop leaves the row out and counts it, keep only
    reports it."""

    unreadable: Loss = Field("refuse", description="a line that is no row")
    missing_field: Loss = Field("refuse", description="a field that is not there, or holds another kind of value")
    empty_field: Loss = Field("refuse", description="a text without a character that shows")
    unknown_label: Loss = Field("refuse", description="a label or tag that data.labels does not list")
    invalid_tag: Loss = Field("refuse", description="tags that are not one a token, or are no tags")
    mojibake: Action = Field("refuse", description="U+FFFD, control characters, UTF-8 that was read as Latin-1")
    personal_data: Action | Literal["ignore"] = Field(
        "ignore", description="mail addresses, telephone, card and account numbers; ignore: not looked for"
    )
    repeated_id: Action = "refuse"
    duplicate: Action = Field("refuse", description="the same question with the same answer")
    conflicting_answer: Action = Field("refuse", description="the same question with another answer")
    too_long: Loss = Field("refuse", description="more tokens than data.max_tokens")
    no_target_tokens: Loss = Field("refuse", description="max_tokens leaves no token of the answer")
    identical_pair: Loss = Field("refuse", description="for task dpo: the rejected answer is the chosen one")
    leakage: Action = Field(
        "refuse",
        description="a row of one split that is nearly or wholly in another; drop keeps the held-out one",
    )
    near_duplicate: Action = Field("keep", description="nearly the same as an earlier row of its split")
    imbalance: Literal["refuse", "keep"] = Field(
        "keep", description="a label with a smaller share of the rows than rare_share"
    )
    rare_share: float = Field(0.01, ge=0, lt=0.5)
    near_threshold: float = Field(
        0.8,
        gt=0.3,
        le=1,
        description="Jaccard similarity of words and pairs of words from which two texts are nearly the same",
    )
    near_sample: int = Field(
        20_000,
        ge=0,
        le=200_000,
        description="train rows that all later ones are compared with; all rows are compared with all held-out ones",
    )


class Data(Section):
    """Labelled rows, what may be wrong with them, and how they are split."""

    source: Literal["bfcl", "bfcl_preferences", "sentiment", "ner_finance", "files", "hub"] = Field(
        description="bfcl: function calls; bfcl_preferences: pairs made of them; sentiment: labelled sentences; "
        "ner_finance: tagged sentences; files: files of your own; hub: a data set of the Hugging Face hub"
    )
    files: list[Location] = Field(
        default_factory=list,
        description="for source files: paths, patterns or URLs; with split.method given, the train rows",
    )
    validation_files: list[Location] = Field(default_factory=list, description="for split.method given")
    test_files: list[Location] = Field(default_factory=list, description="for split.method given")
    format: Literal["jsonl", "csv", "parquet", "arrow"] | None = Field(
        None, description="of the files; default: by suffix"
    )
    hub_id: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$", description="for source hub")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="for source hub: the commit")
    hub_split: str = Field(
        "train", description="for source hub: which of its splits is read; data.split is drawn from it"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our field: your column, as in text: review_body")
    keep: list[str] = Field(
        default_factory=list, description="columns of yours that stay with the rows, for evaluate.slices"
    )
    template: Template | None = Field(
        None, description="makes the conversation (or prompt and completion) of a row's columns"
    )
    labels: list[str] = Field(
        default_factory=list, description="the labels or tags that may be; empty: whatever the rows say"
    )
    lint: Lint = Lint()
    split: Split = Split()
    max_rows: int | None = Field(None, ge=10, le=100_000_000)
    max_tokens: int = Field(160, ge=8, le=131_072, description="the longest row (prompt and answer)")
    validation_rows: int = Field(40, ge=1, description="with split.method given: whatever the files hold")
    test_rows: int = Field(100, ge=1, description="with split.method given: whatever the files hold")
    seed: int = Field(17, ge=0, le=2**32 - 1)
    corrupt: Literal["none", "shuffle_answers"] = Field(
        "none", description="corrupt the training rows on purpose, to prove that the gate refuses"
    )

    @model_validator(mode="after")
    def keys_fit_source(self) -> Data:
        given, own = self.split.method == "given", self.source in ("files", "hub")
        rules = {
            "files exactly when source is files": (self.source == "files") == bool(self.files),
            "hub_id and revision exactly when source is hub": [self.hub_id is not None, self.revision is not None]
            == [self.source == "hub"] * 2,
            "validation_files and test_files exactly when split.method is given": [
                bool(self.validation_files),
                bool(self.test_files),
            ]
            == [given] * 2,
            "split.method given only with source files": not given or self.source == "files",
            "columns, keep, template, format and split.by only with source files or hub": own
            or not (self.columns or self.keep or self.template or self.format or self.split.by),
            "files that end in " + ", ".join(SUFFIXES) + " (also with .gz, .bz2 or .xz), or format": self.format
            is not None
            or all(suffix_format(location) for location in (*self.files, *self.validation_files, *self.test_files)),
        }
        broken = [expected for expected, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    def incompatibilities(self, task: str, problem: str) -> list[str]:
        """What would have to be for these rows to suit the task; empty where they do."""
        labelled = task == "sequence-classification" and problem != "regression"
        rules = {
            "data.template only with task causal-lm or dpo": self.template is None or task in ("causal-lm", "dpo"),
            "data.template.rejected exactly with task dpo": self.template is None
            or (task == "dpo") == (self.template.rejected is not None),
            "data.template.chat true with task dpo": self.template is None or task != "dpo" or self.template.chat,
            "data.split.method stratified only with labels to share out": self.split.method != "stratified" or labelled,
            "data.labels only with labels or tags": not self.labels or labelled or task == "token-classification",
        }
        return [expected for expected, holds in rules.items() if not holds]


def suffix_format(location: str) -> str | None:
    """jsonl, csv, parquet or arrow by the name's end, compression looked through."""
    for packed in PACKED:
        location = location.removesuffix(packed)
    return next((kind for suffix, kind in SUFFIXES.items() if location.endswith(suffix)), None)
