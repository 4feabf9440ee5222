"""Say what a selection has that an earlier one had not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from distill.plan.schedule_section import RetrainWhen
from flows.stages.curated import Curated
from warehouse.db.store import Store
from warehouse.wording import format_count

_SOURCES = """
SELECT regexp_replace(p.source, ' line \\d+$', '') AS source, count(*) AS n FROM samples s SEMI JOIN wanted w ON s.sample_id = w.sample_id
JOIN prompts p ON p.prompt_id = s.prompt_id GROUP BY 1 ORDER BY n DESC, source
"""


@dataclass(frozen=True)
class Changes:
    """Samples and kept rows that came or went between two selections."""

    new: pl.DataFrame
    """sample_id of the samples that came."""
    gone: int
    kept_new: int
    kept_gone: int
    kept_before: int

    def __bool__(self) -> bool:
        return bool(len(self.new) or self.gone or self.kept_new or self.kept_gone)

    @property
    def share(self) -> float:
        """Kept rows that came or went, as a share of those that were kept, 0..; 1 where none were."""
        moved = self.kept_new + self.kept_gone
        return moved / self.kept_before if self.kept_before else float(moved > 0)

    def are_enough(self, when: RetrainWhen) -> bool:
        """Whether so much changed that another student is due."""
        return self.kept_new >= when.new_rows or self.share >= when.share

    def as_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "samples_new": len(self.new), "samples_gone": self.gone,
            "kept_new": self.kept_new, "kept_gone": self.kept_gone,
        }  # fmt: skip


def changes_since(curated: Curated, selection_id: str | None) -> Changes:
    """What changed since an earlier selection; all is new where there was none."""
    now = curated.choice_rows.select("sample_id", "kept")
    store = curated.sample_set.store
    before = pl.DataFrame(schema={"sample_id": pl.String, "kept": pl.Boolean})
    if selection_id == curated.selection_id:
        before = now
    elif selection_id is not None:
        query = "SELECT sample_id, kept FROM choices WHERE selection_id = ?"
        found = store.select(query, [selection_id])
        before = before if found is None else found
    kept, kept_before = now.filter("kept"), before.filter("kept")
    return Changes(
        new=now.join(before, on="sample_id", how="anti").select("sample_id"),
        gone=len(before.join(now, on="sample_id", how="anti")),
        kept_new=len(kept.join(kept_before, on="sample_id", how="anti")),
        kept_gone=len(kept_before.join(kept, on="sample_id", how="anti")),
        kept_before=len(kept_before),
    )


def describe_changes(changes: Changes, store: Store, most: int = 3) -> str:
    """One line: samples that came and went, with the files that they came from."""
    parts = []
    if len(changes.new):
        found = store.select(_SOURCES, wanted=changes.new)
        sources = [] if found is None else [f"{n} of {source}" for source, n in found.iter_rows()]
        shown = ", ".join(sources[:most]) + (", ..." if len(sources) > most else "")
        parts.append(
            format_count(len(changes.new), "new sample") + (f" ({shown})" if shown else "")
        )
    if changes.gone:
        parts.append(f"{format_count(changes.gone, 'sample')} gone")
    for number, what in ((changes.kept_new, "more kept"), (changes.kept_gone, "no longer kept")):
        if number:
            parts.append(f"{number} {what}")
    return "; ".join(parts) or "no sample came or went"
