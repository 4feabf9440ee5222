"""Compare the samples that a tick brought with those before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distill.evaluation.drift import Drift, drifts_of
from distill.plan.schedule_section import DriftSection
from flows.stages.curated import Curated, maker_of
from warehouse.catalog import name_of
from warehouse.db.score_frames import scores_of
from warehouse.wording import format_count

_COLUMNS = """
SELECT w.row, s.status, length(s.completion) AS length, c.usd FROM wanted w
JOIN samples s ON s.sample_id = w.sample_id LEFT JOIN (
  SELECT u.sample_id, sum(k.cost_usd) AS usd FROM (
    SELECT s.sample_id, unnest(from_json(s.call_ids, '["VARCHAR"]')) AS call_id
    FROM samples s SEMI JOIN wanted w ON s.sample_id = w.sample_id
  ) u JOIN calls k ON k.call_id = u.call_id GROUP BY u.sample_id
) c ON c.sample_id = s.sample_id ORDER BY w.row
"""


def check_drift(
    curated: Curated,
    baseline: pl.DataFrame,
    bounds: DriftSection,
    only: pl.DataFrame | None = None,
) -> tuple[list[Drift], int]:
    """Compare the samples that are not in a baseline with those that are.

    Args:
        curated: The present selection.
        baseline: sample_id of the samples before.
        bounds: How far the new ones may be from them.
        only: sample_id of the new samples that are looked at; left out, all.

    Returns:
        One comparison for each feature, and the number of new samples; no comparison where there are
        fewer than `bounds.least` of them, or of those before.
    """
    ids = curated.choice_rows["sample_id"]
    is_old = ids.is_in(baseline["sample_id"].implode()).to_numpy()
    is_new = ~is_old
    if only is not None:
        is_new &= ids.is_in(only["sample_id"].implode()).to_numpy()
    new = int(is_new.sum())
    if min(new, int(is_old.sum())) < bounds.least:
        return [], new
    values = _features(curated)
    before = {name: column[is_old & present] for name, (column, present) in values.items()}
    now = {name: column[is_new & present] for name, (column, present) in values.items()}
    return drifts_of(before, now, bounds.psi, bounds.share, bounds.least), new


def _features(curated: Curated) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Feature -> a value for each sample, and which have one."""
    store, samples = curated.sample_set.store, curated.sample_set.numbered()
    found = store.select(_COLUMNS, wanted=samples)
    if found is None:
        return {}
    everywhere = np.ones(len(samples), dtype=bool)
    reasons = curated.choice_rows["reason"]
    features: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]] = {
        "refused": ((found["status"] == "refused").to_numpy(), everywhere),
        "unusable": (found["status"].is_in(["truncated", "invalid"]).to_numpy(), everywhere),
        "duplicate": (reasons.str.contains("duplicate", literal=True).to_numpy(), everywhere),
        "kept": (curated.choice_rows["kept"].to_numpy(), everywhere),
        "length": (found["length"].cast(pl.Float64).to_numpy(), everywhere),
    }
    if found["usd"].sum():
        features["cost"] = _with_gaps(found["usd"])
    for scorer in curated.scorers:
        scores = scores_of(store, maker_of(scorer), samples).select("row", "value")
        column = samples.join(scores, on="row", how="left", maintain_order="left")["value"]
        features[name_of(scorer)] = _with_gaps(column)
    return features


def _with_gaps(column: pl.Series) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    present = column.is_not_null().to_numpy()
    return column.cast(pl.Float64).fill_null(0.0).to_numpy(), present


def describe_drift(drifts: list[Drift], new: int) -> str:
    """One line on what has drifted; empty where nothing has."""
    beyond = sorted((drift for drift in drifts if drift.beyond), key=lambda drift: drift.p)
    if not beyond:
        return ""
    return f"{format_count(new, 'new sample')}: {'; '.join(drift.phrase for drift in beyond)}"
