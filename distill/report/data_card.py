"""Render the card of an exported data set: what is in it, how it was made, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.report.model_card import public
from distill.report.report import render
from warehouse.inputs import assets
from warehouse.secrets import mask

TEMPLATE = "data_card.md.j2"
_MOST_SOURCES = 20
"""Sources that are listed; the others are counted."""


@dataclass(frozen=True)
class DataSplit:
    """A split of the data set."""

    name: str
    file: str
    """As seen from the card."""
    rows: int


@dataclass(frozen=True)
class RecipeShare:
    """What one recipe gave."""

    name: str
    options: list[dict[str, Any]]
    """One for each time that the plan names it."""
    samples: int
    exported: int


@dataclass(frozen=True)
class ScoreSummary:
    """A scorer and its scores of the exported samples."""

    name: str
    version: str
    model: str
    options: dict[str, Any]
    meaning: str
    """What it measures, in a sentence."""
    better: str
    """Which of its values are good: "high", "low" or "neither"."""
    scored: int
    mean: float | None
    low: float | None
    """The 5th percentile."""
    median: float | None
    high: float | None
    """The 95th percentile."""


@dataclass(frozen=True)
class TeacherShare:
    """Calls of one teacher behind the exported samples."""

    name: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None where no price is known."""
    unpriced: int
    """Calls of unknown price."""


@dataclass(frozen=True)
class WholeCost:
    """All calls behind the plan's samples, those of dropped ones included."""

    calls: int
    cost_usd: float | None
    """Of the calls whose price is known; None where none is."""
    unpriced: int
    first: str
    """The day of the first call, and below of the last one."""
    last: str


@dataclass(frozen=True)
class DataCard:
    """The content of a card."""

    name: str
    which: str
    """kept, dropped or all."""
    splits: list[DataSplit]
    columns: list[tuple[str, str]]
    samples: int
    kept: int
    exported: int
    reasons: dict[str, int]
    """First reasons why samples were dropped."""
    recipes: list[RecipeShare]
    sources: dict[str, int]
    """Exported samples by the file or data set that their seeds come from."""
    teachers: list[TeacherShare]
    whole: WholeCost
    sampling: dict[str, Any]
    benchmarks: list[str]
    """Whose items are kept out of the data."""
    gate: dict[str, Any]
    scores: list[ScoreSummary]
    holdout: float
    plan_hash: str
    selection_id: str
    git_sha: str | None
    versions: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    @property
    def data_licences(self) -> dict[str, str]:
        """Licences of the recipes' data sets, for known names."""
        used = {str(value) for recipe in self.recipes for value in _texts(recipe.options)}
        return {name: assets.entry(name).licence for name in assets.names("data") if name in used}

    @property
    def listed_sources(self) -> dict[str, int]:
        """The sources with the most samples."""
        return dict(list(self.sources.items())[:_MOST_SOURCES])

    @property
    def further_sources(self) -> dict[str, int]:
        """The others."""
        return dict(list(self.sources.items())[_MOST_SOURCES:])

    @property
    def user_files(self) -> list[str]:
        """Sources whose licence is not known here."""
        return [name for name in self.sources if name not in self.data_licences]


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def render_data_card(card: DataCard) -> str:
    """The card as Markdown with the front matter that hubs and `datasets` read.

    Every text in it is escaped, and what looks like a key is masked.
    """
    return mask(render(TEMPLATE, card=card))


def public_name(identity: str) -> str:
    """A teacher's name without the address at which it was asked."""
    return str(public(identity.partition("@")[0]))
