"""Define the scorer interface: one verdict per sample; None where it abstains, with the reason."""

from __future__ import annotations

import copy
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from quality.text.languages import foreign
from warehouse.catalog import name_of, options_of
from warehouse.errors import Outcome, PlanError, StillhouseError
from warehouse.part_origins import fault_in
from warehouse.records import Message, Sample, Score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What a scorer asks a language model."""

    messages: list[Message]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    response_format: dict[str, Any] | None = None


class AskModel(Protocol):
    """Client for a language model; replies are cached and never requested twice."""

    @property
    def name(self) -> str:
        """The identity of who answers; part of every score that rests on it."""
        ...

    def __call__(self, questions: Sequence[Question]) -> list[str | None]:
        """The replies in the order of the questions; None for one that failed.

        Raises:
            BudgetReached: what was asked before it is kept.
        """
        ...


class Likelihood(Protocol):
    """A causal language model that reads rather than writes."""

    @property
    def name(self) -> str:
        """The identity of the model."""
        ...

    def __call__(self, rows: Sequence[tuple[list[Message], str]]) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each completion after its messages."""
        ...


def _no_messages(prompt_ids: Sequence[str]) -> dict[str, list[Message]]:
    return {}


@dataclass(frozen=True)
class ScorerContext:
    """What a scorer may use beyond the samples; passed in by the flows, since other rooms own it."""

    teacher: AskModel | None = None
    """The plan's teacher."""
    judge: AskModel | None = None
    """The model that judges; the teacher where the plan names no other."""
    prompt_messages: Callable[[Sequence[str]], Mapping[str, list[Message]]] = _no_messages
    """Prompt ids -> the messages that the teacher was sent."""
    likelihood: Likelihood | None = None
    """The student's base model."""
    folder: Path = field(default=Path("."))
    """Where relative paths of the plan start."""


@dataclass(frozen=True)
class Verdict:
    """A scorer's result for one sample; `value` is None where it abstains, with the reason in `why`.

    `details` is what the value rests on, JSON-able. `details["labels"]`, where there is one,
    maps names to numbers: the gate can hold bounds on them (`toxicity.insult_max`).
    """

    value: float | None
    why: str | None = None
    details: dict[str, Any] | None = None
    failed: bool = False
    """Whether a reply it needs is missing: a failure to be retried, no score."""


@dataclass(frozen=True)
class Unscored:
    """A sample that a scorer failed on: neither a score nor an abstention."""

    sample: Sample
    error: str


class Scorer(ABC):
    """One file in quality/scorers; dataclass fields are its options."""

    version: ClassVar[str]
    higher_is_better: ClassVar[bool | None] = True  # None: neither end of its values is better
    labels: ClassVar[tuple[str, ...]] = ()  # names in details["labels"] that a gate may bound
    languages: ClassVar[tuple[str, ...]] = ()  # ISO 639 codes that its rules are for; (): any
    needs: ClassVar[str] = ""  # "passage" | "reference": without it, it abstains on every sample
    asks: ClassVar[str] = ""  # "teacher" | "judge": whom it asks, at a cost
    reads_prompts: ClassVar[bool] = (
        False  # whether it uses `tools.prompt_messages`: no worker has them
    )
    judges_answers: ClassVar[bool] = False  # whether its good end says that an answer is right
    scale: ClassVar[tuple[float, float] | None] = None  # of values and labels; None: not known
    tools = ScorerContext()

    def foreign_language(self, sample: Sample, languages: Sequence[str] = ()) -> str | None:
        """The language of a completion, if it is surely none of these (left out: `languages`).

        A short one is judged by its script and its question; see `quality.text.languages`.
        """
        asked = sample.question or str(sample.messages[-1]["content"])
        return foreign(sample.completion, languages or self.languages, beside=asked)

    def with_tools(self, tools: ScorerContext) -> Self:
        """A copy of the scorer with these tools; its cached properties are computed again where
        relative paths start in another folder."""
        scorer = copy.copy(self)
        object.__setattr__(scorer, "tools", tools)  # a scorer may be a frozen dataclass
        if tools.folder != self.tools.folder:
            for name in list(vars(scorer)):
                if isinstance(getattr(type(self), name, None), cached_property):
                    del vars(scorer)[name]
        return scorer

    @property
    def model(self) -> str:
        """The name of the model that scores, or "rule". Part of every score's identity."""
        return "rule"

    @property
    def redacts(self) -> bool:
        """Whether it may give details["redacted"], a text that takes the place of the completion."""
        return False

    @property
    def note(self) -> str | None:
        """What a reader of the report should know, such as a model that stood in for another."""
        return None

    def check(self) -> None:  # noqa: B027  (most need nothing)
        """Check that what it needs is available; for `distill check`.

        Raises:
            StillhouseError: in one line, what is missing.
        """

    def calls_per_sample(self) -> int:
        """Minimum number of requests for one sample; for `distill check`."""
        return 1 if self.asks else 0

    @abstractmethod
    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One verdict per sample, in order. A batch that raises is tried again one by one."""

    def score(self, samples: Sequence[Sample]) -> Iterator[Score | Unscored]:
        """One score per sample, in order; one that the scorer fails on does not cost the others.

        Raises:
            StillhouseError: the scorer cannot work at all (a missing model, a spent budget).
        """
        try:
            verdicts = list(self.score_batch(samples))
        except (StillhouseError, Outcome):
            raise
        except Exception as error:
            if len(samples) == 1:
                message = fault_in(type(self), error)
                log.warning("%s of %s failed: %s", name_of(self), samples[0].sample_id, message)
                yield Unscored(samples[0], message)
                return
            for sample in samples:
                yield from self.score([sample])
            return
        name, model, options = name_of(self), self.model, options_of(self)
        for sample, verdict in zip(samples, verdicts, strict=True):
            if verdict.failed:
                yield Unscored(sample, verdict.why or "no verdict")
                continue
            value, why = verdict.value, verdict.why
            if value is not None and not math.isfinite(value):
                value, why = None, why or f"no number: {verdict.value}"
            yield Score(
                score_id=Score.id_of(sample.sample_id, name, self.version, model, options),
                sample_id=sample.sample_id,
                scorer=name,
                version=self.version,
                model=model,
                options=options,
                value=value,
                why=why,
                details=verdict.details,
            )

    def score_id(self, sample: Sample) -> str:
        """The id this scorer's score of a sample has; known before scoring."""
        return Score.id_of(
            sample.sample_id, name_of(self), self.version, self.model, options_of(self)
        )


def need(tool: Any, scorer: Scorer, what: str) -> Any:
    """A tool that a scorer requires.

    Raises:
        PlanError: it was not handed in.
    """
    if tool is None:
        raise PlanError(f"scorer '{name_of(scorer)}' needs {what}")
    return tool
