"""Render the model card of an exported student: what it is, its sources and its scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from distill.evaluation.comparison import Comparison
from distill.evaluation.verdict import verdict
from distill.learning.serving_check import ServingAgreement
from distill.report.report import render
from distill.report.training_section import loss_curve
from warehouse.inputs import assets

TEMPLATE = "model_card.md.j2"
_LIBRARIES = {"merged": "transformers", "adapter": "peft", "gguf": "gguf"}


@dataclass(frozen=True)
class Form:
    """One form of the student: its folder as seen from the card; a GGUF's file."""

    name: str  # adapter | merged | gguf
    folder: str
    file: str = ""


@dataclass(frozen=True)
class Card:
    """The content of a card; None or empty where not recorded."""

    name: str
    forms: list[Form]
    base: str
    fingerprint: str
    tuner: dict[str, Any]
    source: str
    needs_only_peft: bool
    checks: list[ServingAgreement] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    teacher: str | None = None
    recipes: list[dict[str, Any]] = field(default_factory=list)
    gate: dict[str, Any] = field(default_factory=dict)
    samples: int | None = None
    kept: int | None = None
    objective: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    losses: list[dict[str, float]] = field(default_factory=list)
    trained_weights: int | None = None
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    plan_name: str = ""
    plan_hash: str = ""
    run_id: str = ""
    student_id: str = ""
    git_sha: str | None = None

    @property
    def slug(self) -> str:
        """The name for files and commands."""
        return slug(self.name)

    @property
    def base_model(self) -> str:
        """The base as a hub names it, where one has it."""
        if self.base in assets.names("model"):
            return (assets.entry(self.base).hub or {}).get("repo", self.base)
        return self.base

    @property
    def peft_finds_the_base(self) -> bool:
        """Whether PEFT can load the adapter; it cannot load the base of an asset."""
        return self.needs_only_peft and self.base not in assets.names("model")

    @property
    def base_licence(self) -> str | None:
        """The base's licence, where it is known."""
        return assets.entry(self.base).licence if self.base in assets.names("model") else None

    @property
    def data_licences(self) -> dict[str, str]:
        """Licences of the recipes' data sets, for known names."""
        used = {str(recipe.get("prompts")) for recipe in self.recipes}
        return {name: assets.entry(name).licence for name in assets.names("data") if name in used}

    @property
    def library(self) -> str:
        """The library that loads it."""
        name = next(name for name in _LIBRARIES if any(form.name == name for form in self.forms))
        if name == "adapter" and not self.needs_only_peft:
            return "stillhouse"
        return _LIBRARIES[name]

    @property
    def tags(self) -> list[str]:
        """Tags for hubs."""
        forms = [form.name for form in self.forms if form.name == "gguf"]
        return ["stillhouse", "distillation", str(self.tuner["use"]), *forms]


def render_card(card: Card) -> str:
    """The card as Markdown with the front matter that hubs read; every text in it is escaped."""
    return render(
        TEMPLATE,
        card=card,
        curve=loss_curve(card.losses),
        verdicts=[verdict(comparison) for comparison in card.comparisons],
    )


def slug(name: str) -> str:
    """Turn a name into one for files and commands."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "student"


def public(value: Any) -> Any:
    """A value without the paths of this machine: of an absolute one the last part is left."""
    if isinstance(value, Mapping):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [public(inner) for inner in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return value
