"""Score a shard of samples, and look it up among held-out items: what workers run."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quality.gate.decontaminate import HeldOut, Match
from quality.scoring.scorer import Scorer, ScorerContext, Unscored
from warehouse.catalog import build, table_in
from warehouse.errors import PlanError, StillhouseError
from warehouse.records import Message, Sample, Score


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


def sent_scorer(scorer: Scorer) -> SentScorer:
    """A scorer as it goes to a worker."""
    with tempfile.TemporaryDirectory() as name:
        table = table_in(scorer, Path(name))
        code = tuple((file.name, file.read_bytes()) for file in Path(name).iterdir())
    return SentScorer(json.dumps(table), code, str(scorer.tools.folder.resolve()))


def score_here(scorer: Scorer, samples: Sequence[Sample]) -> list[Score | Unscored]:
    """Every score of a shard."""
    return list(scorer.score(samples))


def score_in_worker(sent: SentScorer, samples: Sequence[Sample]) -> list[Score | Unscored]:
    """The same, in a worker.

    Raises:
        PlanError: the scorer reads a file that is not on the worker's machine.
    """
    try:
        return score_here(_scorer(sent), samples)
    except (StillhouseError, OSError) as error:
        if Path(sent.folder).is_dir():
            raise
        raise PlanError(
            f"worker {socket.gethostname()} has no folder {sent.folder}, and a scorer may read files "
            f"from the plan's folder ({error}); have it at the same path there, or set run.engine = "
            '"local"'
        ) from None


def match_shard(held_out: HeldOut, samples: Sequence[Sample]) -> list[Match | None]:
    """The held-out item that each sample gives away, if any."""
    return [held_out.match(sample) for sample in samples]


@lru_cache(16)
def _scorer(sent: SentScorer) -> Scorer:
    with tempfile.TemporaryDirectory() as name:  # the class stays when its file is gone
        for file, code in sent.code:
            (Path(name) / file).write_bytes(code)
        scorer: Scorer = build("scorer", json.loads(sent.table), Path(name))
    tools = ScorerContext(folder=Path(sent.folder), prompt_messages=_no_warehouse)
    return scorer.with_tools(tools)


def _no_warehouse(prompt_ids: Sequence[str]) -> dict[str, list[Message]]:
    raise PlanError(
        "a scorer reads what the teacher was sent, and worker processes have no warehouse; set "
        'run.engine = "local", or give the scorer a `model` of its own, so that it stays in the '
        "run's process"
    )
