"""Hold what the curate stage gave: a selection of samples, each with its choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import orjson
import polars as pl

from flows.stages.sample_set import SampleSet
from quality.scoring.scorer import Scorer
from warehouse.canonical_json import canonical
from warehouse.catalog import name_of, options_of
from warehouse.db.score_frames import ScoreMaker, scores_of
from warehouse.db.store import Store
from warehouse.records import Choice, Sample, Score


@dataclass(frozen=True)
class Curated:
    """Samples (edited and redacted) and a choice for each; records are read when they are asked for."""

    sample_set: SampleSet
    choice_rows: pl.DataFrame
    """As `quality.gate.choose.choose` gives them: a row for each sample, in order."""
    selection_id: str
    scorers: list[Scorer] = field(default_factory=list)
    human: list[Score] = field(default_factory=list)
    """The decisions of humans."""
    is_recorded: bool = False
    """Whether the warehouse has these choices already."""

    @cached_property
    def samples(self) -> list[Sample]:
        """All samples."""
        return self.sample_set.all()

    @cached_property
    def choices(self) -> list[Choice]:
        """One for each sample, in order."""
        return [
            Choice(
                selection_id=self.selection_id,
                sample_id=row["sample_id"],
                kept=row["kept"],
                reason=row["reason"],
                reasons=row["reasons"],
                details=orjson.loads(row["details"]) if row["details"] else None,
            )
            for row in self.choice_rows.iter_rows(named=True)
        ]

    @cached_property
    def scores(self) -> list[Score]:
        """Those of the plan's scorers, in their order, and the decisions of humans."""
        return [*self.scores_of(self.sample_set.ids), *self.human]

    def scores_of(self, sample_ids: Sequence[str]) -> list[Score]:
        """Those of the plan's scorers for some samples, in the order of the scorers."""
        found = self.sample_set.store.by_ids(Score, "sample_id", list(sample_ids))
        by_maker: dict[str, list[Score]] = {}
        for score in found:
            by_maker.setdefault(_key(maker_of_score(score)), []).append(score)
        keys = dict.fromkeys(_key(maker_of(scorer)) for scorer in self.scorers)
        return [score for key in keys for score in by_maker.get(key, ())]

    def score_frames(self) -> dict[str, pl.DataFrame]:
        """Columns row and value of the scores of each scorer, by its name, in order."""
        numbered = self.sample_set.numbered()
        frames: dict[str, list[pl.DataFrame]] = {}
        for scorer in self.scorers:
            found = scores_of(self.sample_set.store, maker_of(scorer), numbered)
            frames.setdefault(name_of(scorer), []).append(found.select("row", "value"))
        return {name: pl.concat(several).sort("row") for name, several in frames.items()}

    def decided_here(self) -> tuple[list[Sample], list[Score]]:
        """The samples that humans decided on, in order, and their scores, the decisions included."""
        decided = {score.sample_id for score in self.human}
        ids = [each for each in self.sample_set.ids if each in decided] if decided else []
        here = set(ids)
        human = [score for score in self.human if score.sample_id in here]
        return self.sample_set.of(ids).all(), [*self.scores_of(ids), *human]

    @cached_property
    def kept(self) -> list[Sample]:
        """The samples to train on, in the order of their ids."""
        return self.sample_set.of(sorted(self.kept_ids)).all()

    @property
    def kept_ids(self) -> list[str]:
        """The ids of the samples to train on."""
        return self.choice_rows.filter("kept")["sample_id"].to_list()

    @property
    def kept_count(self) -> int:
        """How many samples there are to train on."""
        return int(self.choice_rows["kept"].sum())

    @property
    def reasons(self) -> Counter[str]:
        """The first reason of each choice, with their numbers."""
        counts = self.choice_rows.group_by("reason", maintain_order=True).len()
        return Counter(dict(counts.iter_rows()))

    def keeping(self, sample_ids: Collection[str]) -> Curated:
        """The same, with those samples kept alone, of the kept ones."""
        wanted = pl.Series(list(sample_ids), dtype=pl.String)
        kept = pl.col("kept") & pl.col("sample_id").is_in(wanted.implode())
        return replace(self, choice_rows=self.choice_rows.with_columns(kept.alias("kept")))


def find_choices(samples: SampleSet, selection_id: str) -> pl.DataFrame | None:
    """The choices that are on record of a selection, as `quality.gate.choose.choose` gives them.

    None where one is missing, or was made before its scores were there.
    """
    found = samples.store.select(
        "SELECT w.sample_id, c.kept, c.reason, c.reasons, c.details FROM choices c "
        "JOIN wanted w ON c.sample_id = w.sample_id WHERE c.selection_id = ? ORDER BY w.row",
        [selection_id],
        wanted=samples.numbered(),
    )
    if found is None or len(found) != len(samples):
        return None
    if found["reasons"].str.contains(": not scored", literal=True).any():
        return None
    return found.with_columns(pl.col("reasons").str.json_decode(pl.List(pl.String)))


def load_selection(
    store: Store, selection_id: str, scorers: Sequence[Scorer], human: Sequence[Score]
) -> Curated | None:
    """A selection as it is on record; None where a choice or a sample of it is gone."""
    found = store.select(
        "SELECT c.sample_id, s.sample_id IS NOT NULL AS is_there FROM choices c "
        "LEFT JOIN samples s ON s.sample_id = c.sample_id "
        "WHERE c.selection_id = ? ORDER BY c.rowid",
        [selection_id],
    )
    if found is None or found.is_empty() or not found["is_there"].all():
        return None
    samples = SampleSet(store, found["sample_id"].to_list())
    choices = find_choices(samples, selection_id)
    if choices is None:
        return None
    return Curated(samples, choices, selection_id, list(scorers), list(human), True)


def maker_of(scorer: Scorer) -> ScoreMaker:
    """What a scorer's scores carry."""
    return ScoreMaker(name_of(scorer), scorer.version, scorer.model, options_of(scorer))


def maker_of_score(score: Score) -> ScoreMaker:
    """Who gave a score."""
    return ScoreMaker(score.scorer, score.version, score.model, score.options)


def _key(maker: ScoreMaker) -> str:
    options: Mapping[str, object] = maker.options
    return canonical([maker.scorer, maker.version, maker.model, dict(options)])
