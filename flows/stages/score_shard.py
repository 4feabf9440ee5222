"""Score a shard of samples, and look it up among held-out items: what workers run."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from flows.engines.worker_model import base_for_workers, worker_model
from flows.stages.likelihood import BaseLikelihood
from quality.gate.candidates import rows_of
from quality.gate.decontaminate import HeldOut
from quality.scoring.scorer import Scorer, ScorerContext, Unscored
from warehouse.catalog import build, name_of, table_in
from warehouse.db.frames import UNSTORABLE, frame_of
from warehouse.errors import PlanError, StillhouseError, first_line
from warehouse.records import Message, Sample, Score

SCORED_AT_ONCE = 1024
"""Samples of one shard of a scorer that asks nobody."""


@dataclass(frozen=True)
class SentScorer:
    """A scorer as it goes to a worker, on this machine or another: a class from a user's file cannot
    be pickled, so its code goes along, as it was when the plan was loaded."""

    table: str
    """From which `build` makes it again; JSON."""
    code: tuple[tuple[str, bytes], ...]
    """Name and content of its file, where it is in one."""
    folder: str
    """Where relative paths of its options start: the plan's folder."""
    model: str
    """The name of its model, or "rule"."""
    base: str | None
    """The student's base, whose likelihoods it may use."""


def sent_scorer(scorer: Scorer) -> SentScorer:
    """A scorer as it goes to a worker."""
    with tempfile.TemporaryDirectory() as name:
        table = table_in(scorer, Path(name))
        code = tuple((file.name, file.read_bytes()) for file in Path(name).iterdir())
    reads = scorer.tools.likelihood
    base = base_for_workers(reads.base) if isinstance(reads, BaseLikelihood) else None
    folder = str(scorer.tools.folder.resolve())
    return SentScorer(json.dumps(table), code, folder, scorer.model, base)


@dataclass(frozen=True)
class ScoredShard:
    """What scorers gave a shard of samples."""

    scores: pl.DataFrame
    """As `warehouse.db.frames.frame_of` makes it of scores."""
    failed: list[tuple[str, str, str]]
    """(scorer, sample id, error) of each sample on which a scorer failed."""


def score_here(scorers: Sequence[Scorer], samples: Sequence[Sample]) -> ScoredShard:
    """Every score of a shard."""
    scores: list[Score] = []
    failed: list[tuple[str, str, str]] = []
    for scorer in scorers:
        for result in scorer.score(samples):
            if isinstance(result, Unscored):
                failed.append((name_of(scorer), result.sample.sample_id, result.error))
            else:
                scores.append(result)
    try:
        return ScoredShard(frame_of(Score, scores), failed)
    except UNSTORABLE:  # one that cannot be stored does not cost the others
        frames = [frame_of(Score, [])]
        for score in scores:
            try:
                frames.append(frame_of(Score, [score]))
            except UNSTORABLE as error:
                why = f"its score cannot be stored: {first_line(error)}"
                failed.append((score.scorer, score.sample_id, why))
        return ScoredShard(pl.concat(frames), failed)


def score_in_worker(these: Sequence[SentScorer], samples: Sequence[Sample]) -> ScoredShard:
    """The same, in a worker; models stay in its memory until others are needed.

    Raises:
        PlanError: a scorer reads a file that is not on the worker's machine, or has another model there.
    """
    try:
        if all(sent.model == "rule" for sent in these):
            return score_here([_scorer(sent) for sent in these], samples)
        key = ("scorers", *these)
        with worker_model(key, lambda: [_made(sent) for sent in these]) as scorers:
            return score_here(scorers, samples)
    except (StillhouseError, OSError) as error:
        folder = these[0].folder
        if Path(folder).is_dir() or isinstance(error, OtherModel):
            raise
        raise PlanError(
            f"worker {socket.gethostname()} has no folder {folder}, and a scorer may read files "
            f"from the plan's folder ({error}); have it at the same path there, or set run.engine = "
            '"local"'
        ) from None


def match_shard(held_out: HeldOut, samples: Sequence[Sample]) -> pl.DataFrame:
    """What the gate needs of each sample, with the held-out item that it gives away, if any."""
    return rows_of(samples, held_out.match(samples))


class OtherModel(PlanError):
    """A worker would score with another model than the run's process."""


def _made(sent: SentScorer) -> Scorer:
    with tempfile.TemporaryDirectory() as name:  # the class stays when its file is gone
        for file, code in sent.code:
            (Path(name) / file).write_bytes(code)
        scorer: Scorer = build("scorer", json.loads(sent.table), Path(name))
    tools = ScorerContext(
        folder=Path(sent.folder),
        prompt_messages=_no_warehouse,
        likelihood=BaseLikelihood(sent.base) if sent.base else None,
    )
    scorer = scorer.with_tools(tools)
    if scorer.model != sent.model:  # its scores would be those of another scorer
        raise OtherModel(
            f"scorer '{name_of(scorer)}' has the model '{scorer.model}' on worker "
            f"{socket.gethostname()}, and '{sent.model}' in the run's process; have the same files "
            'there, or set run.engine = "local"'
        )
    return scorer


_scorer = lru_cache(16)(_made)
"""Rules, of which a worker keeps several."""


def _no_warehouse(prompt_ids: Sequence[str]) -> dict[str, list[Message]]:
    raise PlanError(
        "a scorer reads what the teacher was sent, and worker processes have no warehouse; set "
        "reads_prompts = True in its class, so that it stays in the run's process, or run.engine = "
        '"local"'
    )
