"""Preference: how a model is told which of two answers is better."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section

PreferenceMethod = Literal["dpo", "orpo", "cpo", "simpo", "kto"]
# What says how strongly a method pushes: DPO's beta (arXiv:2305.18290, 0.1), ORPO's lambda (arXiv:2403.07691, 0.1),
# CPO's (arXiv:2401.08417, 0.1), SimPO's (arXiv:2405.14734, 2.0 to 2.5), KTO's (arXiv:2402.01306, 0.1). TRL 1.16.0 has
# 0.1 for all of them, SimPO's too, whose paper it contradicts.
BETAS: dict[PreferenceMethod, float] = {"dpo": 0.1, "orpo": 0.1, "cpo": 0.1, "simpo": 2.0, "kto": 0.1}
# Keys that only some methods read.
READ_BY: dict[str, tuple[PreferenceMethod, ...]] = {
    "loss": ("dpo", "cpo"),
    "margin": ("simpo",),
    "chosen_loss_weight": ("cpo", "simpo"),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}


class Preference(Section):
    """Preference tuning by TRL. dpo and kto hold the model to a reference, which is the model with its adapter off;
    orpo, cpo and simpo need none."""

    method: PreferenceMethod = Field(
        "dpo",
        description="dpo: arXiv:2305.18290; orpo: arXiv:2403.07691; cpo: arXiv:2401.08417; simpo: arXiv:2405.14734; "
        "kto: arXiv:2402.01306, each answer by itself, so its rows need no second one",
    )
    beta: float | None = Field(
        None, gt=0, le=100, description="how strongly it pushes; default: 2.0 with simpo, 0.1 with the others"
    )
    loss: Literal["sigmoid", "hinge", "ipo"] = Field("sigmoid", description="of dpo and cpo")
    margin: float | None = Field(
        None, ge=0, le=100, description="of simpo: gamma, by how much the better answer shall win; default: beta / 2"
    )
    chosen_loss_weight: float | None = Field(
        None,
        ge=0,
        le=100,
        description="of cpo and simpo: how much the chosen answer's own likelihood counts; default: 1 with cpo, "
        "0 with simpo",
    )
    desirable_weight: float = Field(1.0, gt=0, le=100, description="of kto: how much a good answer counts")
    undesirable_weight: float = Field(1.0, gt=0, le=100, description="of kto: how much a bad answer counts")

    @model_validator(mode="after")
    def keys_fit_method(self) -> Preference:
        fields = type(self).model_fields
        unread = [
            name
            for name, methods in READ_BY.items()
            if self.method not in methods and getattr(self, name) != fields[name].default
        ]
        if unread:
            raise ValueError("; ".join(f"{name} only with method {' or '.join(READ_BY[name])}" for name in unread))
        return self

    @model_validator(mode="after")
    def resolve_defaults(self) -> Preference:
        """Past fields_set: what was not given stays so, for a sweep's trial of another method."""
        beta = BETAS[self.method] if self.beta is None else self.beta
        by_method = {"beta": beta}
        if self.method == "simpo":
            by_method["margin"] = beta / 2  # the paper's ratio of gamma to beta to begin with
        if self.method in READ_BY["chosen_loss_weight"]:
            by_method["chosen_loss_weight"] = 1.0 if self.method == "cpo" else 0.0
        for name, value in by_method.items():
            if getattr(self, name) is None:
                self.__dict__[name] = value
        return self

    @property
    def least_rows(self) -> int:
        """Rows that must go through together: kto judges an answer by those beside it."""
        return 2 if self.method == "kto" else 1

    @property
    def has_reference(self) -> bool:
        """Whether it is held to the model that it began as."""
        return self.method in ("dpo", "kto")
