"""Define the gate's options: bounds, limits and duplicates. `[quality] gate` and `duplicates`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from warehouse.catalog import PlanScope, class_named, known_names

Group = Literal["recipe", "question", "completion"]


class GatePolicy(BaseModel):
    """`[quality] gate`: bounds `<scorer>_min` and `<scorer>_max`, and these.

    A bound on one of a scorer's labels stands in a table of the scorer's name:
    `toxicity.insult_max = 0.3`. Bounds in `recipe.<name>` go before the general ones.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    thresholds: dict[str, float] = Field(default_factory=dict)
    recipe: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Bounds for the samples of one recipe, by its name."""
    keep_abstained: bool | list[str] = False
    """Keep a sample although a scorer with a bound abstained: any scorer, or those named."""
    keep_truncated: bool = False
    """Keep a sample whose reply was cut off; `[datagen] on_length = "keep"` sets it."""
    max_words: int | None = Field(default=None, ge=1)
    """Longest completion in words."""
    top_k: int | None = Field(default=None, ge=1)
    """Keep at most so many: the best by `rank_by`, evenly by `balance_by`, or the most `diverse`."""
    rank_by: str | None = None
    """The scorer whose good end is kept first."""
    balance_by: Group | None = None
    """Take evenly over recipes, questions or completions (labels)."""
    diverse: bool = False
    """Take what covers the questions best (farthest first)."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, data: Any, info: ValidationInfo) -> Any:
        """Bounds stand beside the other keys in the plan."""
        if not isinstance(data, dict):
            return data
        own = set(cls.model_fields) - {"thresholds"}
        others = {key: value for key, value in data.items() if key in own}
        bounds, unknown = _bounds({k: v for k, v in data.items() if k not in own}, info.context)
        if bounds:
            others["thresholds"] = bounds
        if isinstance(others.get("recipe"), dict):
            others["recipe"] = {
                name: _all_bounds(f"recipe.{name}", table, info.context)
                for name, table in others["recipe"].items()
            }
        return {**others, **unknown}

    @model_validator(mode="after")
    def _sensible(self, info: ValidationInfo) -> GatePolicy:
        for name in (None, *self.recipe):
            for key, bound in self.bounds(name).items():
                if not math.isfinite(bound):
                    raise ValueError(f"{key} = {bound} is no bound; give a number")
        ways = [bool(self.rank_by), bool(self.balance_by), self.diverse]
        if self.top_k is not None and not any(ways):
            raise ValueError("top_k needs rank_by (a scorer), balance_by or diverse = true")
        if self.top_k is None and (any(ways)):
            raise ValueError("rank_by, balance_by and diverse choose among samples; give top_k")
        if self.diverse and (self.rank_by or self.balance_by):
            raise ValueError("diverse goes without rank_by and balance_by")
        for name in filter(None, [self.rank_by, *listed(self.keep_abstained)]):
            if name not in (known := known_names("scorer", info.context)):
                raise ValueError(f"no scorer '{name}'; known: {', '.join(known)}")
        unknown = set(self.recipe) - set(known_names("recipe", info.context))
        if unknown:
            raise ValueError(f"recipe: no recipe '{min(unknown)}'")
        return self

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        others = {name: getattr(self, name) for name in type(self).model_fields}
        bounds = _nested(others.pop("thresholds"))
        others["recipe"] = {name: _nested(table) for name, table in self.recipe.items()}
        return {**bounds, **others}

    def keeps_abstained(self, scorer: str) -> bool:
        """Whether a sample may be kept that this scorer abstained on."""
        names = self.keep_abstained
        return names if isinstance(names, bool) else scorer in names

    @property
    def fit_statuses(self) -> tuple[str, ...]:
        """Statuses of samples that may be kept."""
        return ("ok", "truncated") if self.keep_truncated else ("ok",)

    def bounds(self, recipe: str | None = None) -> dict[str, float]:
        """The bounds that hold for a recipe's samples: `grounded_min`, `toxicity.insult_max`."""
        return self.thresholds | self.recipe.get(recipe or "", {})

    @classmethod
    def allowed_keys(cls, scope: PlanScope | None = None) -> list[str]:
        """Every key the table may have."""
        scorers = known_names("scorer", scope)
        ends = [f"{name}_{end}" for name in scorers for end in ("min", "max")]
        return sorted([*ends, *(set(cls.model_fields) - {"thresholds"})])


class Duplicates(BaseModel):
    """`[quality] duplicates`: what counts as having said it before, question and completion."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    near: float | None = Field(default=0.9, gt=0, le=1)
    """Least Jaccard similarity of the texts' shingles; equal texts are always dropped."""
    semantic: float | None = Field(default=None, gt=0, le=1)
    """Least cosine of their embeddings; unset: not looked at."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The sentence-transformers model of `semantic`: a hub id or a folder."""


def listed(value: bool | list[str]) -> list[str]:
    return value if isinstance(value, list) else []


def _bounds(
    values: Mapping[str, Any], scope: PlanScope | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(flat bounds, what is none): `x_min = 1` and `x = {label_max = 1}`."""
    bounds: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    scorers = known_names("scorer", scope)
    for key, value in values.items():
        if isinstance(value, dict) and key in scorers:
            labels = class_named("scorer", key, scope).labels
            for label, bound in value.items():
                known = label.rpartition("_")[0] in labels and label.endswith(("_min", "_max"))
                where = bounds if known else unknown
                where[f"{key}.{label}"] = bound
        elif key.endswith(("_min", "_max")) and key.rpartition("_")[0] in scorers:
            bounds[key] = value
        else:
            unknown[key] = value
    return bounds, unknown


def _all_bounds(where: str, table: Any, scope: PlanScope | None) -> Any:
    if not isinstance(table, dict):
        return table
    bounds, unknown = _bounds(table, scope)
    if unknown:
        raise ValueError(f"{where}.{min(unknown)} is no bound; bounds are <scorer>_min and _max")
    return bounds


def _nested(bounds: Mapping[str, float]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key, bound in bounds.items():
        scorer, dot, label = key.partition(".")
        if dot:
            tables.setdefault(scorer, {})[label] = bound
        else:
            tables[key] = bound
    return tables
