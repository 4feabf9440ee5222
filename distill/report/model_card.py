"""Render the model card of an exported student: what it is, its sources and its scores."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from distill.evaluation.comparison import Comparison
from distill.evaluation.controls import whole_verdict
from distill.learning.serving_check import ServingAgreement
from distill.report.report import render
from distill.report.training_section import loss_curve
from train.model.base_model import PublicBase
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
class TrainedForm:
    """One row of the training, as the tokenizer was given it."""

    prompt: str
    """The rendered prompt, up to where the answer begins."""
    completion: str
    """What the student learned to say then, with the token that ends it."""
    passage: str | None = None
    """The passage of this row; None where it has none."""
    question: str = ""

    @property
    def sees_passage(self) -> bool:
        """Whether the passage is in the prompt."""
        return bool(self.passage) and str(self.passage) in self.prompt

    @property
    def pattern(self) -> str:
        """The prompt with its passage and question left open; empty where they are not in it."""
        text = self.prompt
        if self.passage and self.sees_passage:
            text = text.replace(self.passage, "{passage}", 1)
        if self.question and self.question in text:
            text = text.replace(self.question, "{question}", 1)
        return text if text != self.prompt else ""


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
    public: PublicBase | None = None
    trained_form: TrainedForm | None = None
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
        return self.public.repo if self.public else self.base

    @property
    def loading(self) -> str:
        """The arguments with which transformers loads the base."""
        public = self.public or PublicBase(self.base)
        place = public.repo if public.on_hub else f"PATH/TO/{public.repo}"
        options = {"revision": public.revision, "gguf_file": public.gguf_file}
        given = {key: value for key, value in options.items() if value}
        if public.gguf_file:
            given["dtype"] = "float32"  # what the student was trained on
        words = [json.dumps(place), *(f"{key}={json.dumps(given[key])}" for key in given)]
        return words[0] if len(words) == 1 else "".join(f"\n    {word}," for word in words) + "\n"

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
        verdicts=[whole_verdict(comparison) for comparison in card.comparisons],
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
