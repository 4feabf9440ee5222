"""Define the records: frozen dataclasses whose ids are content hashes.

The DDL is rendered from these classes (`warehouse.db.schema`), so a column exists in one
place. `KEY` names the columns that identify a row; inserting a row whose key exists
changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from warehouse.canonical_json import canonical_bytes

Message = dict[str, Any]
"""One chat message: `role` and `content`."""


def make_id(*parts: Any) -> str:
    """128-bit content hash of JSON-able parts, as 32 hex digits; dict order does not matter."""
    return hashlib.sha256(canonical_bytes(parts)).hexdigest()[:32]


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


class Record:
    """Base of all records."""

    TABLE: ClassVar[str]
    KEY: ClassVar[tuple[str, ...]]


def inside(path: str | Path, home: Path) -> str:
    """A path as records keep it: from the project's folder on, so that a project can be moved.

    What does not lie in the project, such as the name of an asset, stays as it is.
    """
    full = Path(path).absolute()
    return (
        full.relative_to(home).as_posix()
        if full.is_relative_to(home) and full.exists()
        else str(path)
    )


@dataclass(frozen=True)
class Run(Record):
    """One execution of a plan. The only record that changes: its state moves on."""

    PATHS: ClassVar[tuple[str, ...]] = ("student_path", "report_path")  # keys of the summary
    TABLE: ClassVar[str] = "runs"
    KEY: ClassVar[tuple[str, ...]] = ("run_id",)

    run_id: str
    plan_name: str
    plan_hash: str
    plan: dict[str, Any]
    state: str  # running | completed | failed | stopped | killed
    git_sha: str | None
    versions: dict[str, str]
    summary: dict[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=now)
    finished_at: datetime | None = None

    def located(self, home: Path) -> Run:
        """The same run with the paths of its summary as they can be opened."""
        paths = {key: str(home / self.summary[key]) for key in self.PATHS if self.summary.get(key)}
        return replace(self, summary={**self.summary, **paths})


@dataclass(frozen=True)
class Prompt(Record):
    """What the teacher is asked, and what the student will see in its place.

    `messages` go to the teacher (context, worked examples, question);
    `student_messages` are the same question as the student gets it.
    """

    TABLE: ClassVar[str] = "prompts"
    KEY: ClassVar[tuple[str, ...]] = ("prompt_id",)

    prompt_id: str
    recipe: str
    recipe_options: dict[str, Any]
    messages: list[Message]
    student_messages: list[Message]
    question: str
    reference: list[str]
    passage: str | None
    source: str
    seed: int | None

    @classmethod
    def of(
        cls,
        *,
        recipe: str,
        messages: Sequence[Message],
        question: str,
        recipe_options: Mapping[str, Any] | None = None,
        student_messages: Sequence[Message] | None = None,
        reference: Sequence[str] = (),
        passage: str | None = None,
        source: str = "",
        seed: int | None = None,
        row: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a prompt; its id is the hash of recipe, options, both message lists and seed.

        Without `student_messages` the student gets the same messages as the teacher. `row` are
        further columns of the user's row, such as an id; they are kept as `row` in
        `recipe_options`, and are no part of the id.
        """
        options, teacher_messages = dict(recipe_options or {}), list(messages)
        student = teacher_messages if student_messages is None else list(student_messages)
        return cls(
            prompt_id=make_id("prompt", recipe, options, teacher_messages, student, seed),
            recipe=recipe,
            recipe_options={**options, "row": dict(row)} if row else options,
            messages=teacher_messages,
            student_messages=student,
            question=question,
            reference=list(reference),
            passage=passage,
            source=source,
            seed=seed,
        )


@dataclass(frozen=True)
class Call(Record):
    """One paid-for reply of a teacher.

    `call_id` hashes teacher identity, messages and sampling without `max_tokens`
    (`datagen.teacher.Request.call_id`). A longer limit for a truncated reply adds a
    second row, so the cost of both stays known.
    """

    TABLE: ClassVar[str] = "calls"
    KEY: ClassVar[tuple[str, ...]] = ("call_id", "max_tokens")

    call_id: str
    max_tokens: int
    teacher: str
    sampling: dict[str, Any]
    text: str
    finish_reason: str  # stop | length | content_filter | ...
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None  # None: the price is not known
    raw: dict[str, Any]
    run_id: str
    created_at: datetime = field(default_factory=now)
    tries: int = 1  # requests sent until this reply came
    reasoning: str | None = None  # the teacher's thinking, apart from its answer
    logprobs: dict[str, Any] | None = None  # {"tokens": [...], "logprobs": [...], "top": [...]}
    stage: str | None = None  # generate | curate | evaluate; None in calls of older versions
    messages: list[Message] | None = None  # what was asked; None in calls of older versions


@dataclass(frozen=True)
class Sample(Record):
    """A training example parsed from one reply: prompt messages, completion, status."""

    TABLE: ClassVar[str] = "samples"
    KEY: ClassVar[tuple[str, ...]] = ("sample_id",)

    sample_id: str
    prompt_id: str
    call_ids: list[str]
    recipe: str
    recipe_version: str
    messages: list[Message]  # what the student sees
    completion: str  # what it should say
    question: str
    reference: list[str]
    passage: str | None
    status: str  # ok | refused | truncated | invalid
    status_reason: str | None
    facts: dict[str, Any] | None = None  # what else a recipe says of it: a plan, a persona, ...

    @classmethod
    def of(
        cls,
        prompt: Prompt,
        *,
        call_ids: Sequence[str],
        recipe_version: str,
        completion: str,
        status: str,
        status_reason: str | None = None,
        messages: Sequence[Message] | None = None,
        question: str | None = None,
        reference: Sequence[str] | None = None,
        passage: str | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Self:
        """Make a sample; its id is the hash of prompt, calls, recipe version and completion.

        Messages, question, reference and passage are those of the prompt where they are left out.
        Other messages are part of the id, since one seed may give several samples.
        """
        made_of: list[Any] = [prompt.prompt_id, sorted(call_ids), recipe_version, completion]
        shown = prompt.student_messages if messages is None else list(messages)
        if shown != prompt.student_messages:
            made_of.append(shown)
        return cls(
            sample_id=make_id("sample", *made_of),
            prompt_id=prompt.prompt_id,
            call_ids=list(call_ids),
            recipe=prompt.recipe,
            recipe_version=recipe_version,
            messages=shown,
            completion=completion,
            question=question or prompt.question or _last_text(shown),
            reference=prompt.reference if reference is None else list(reference),
            passage=prompt.passage if passage is None else passage,
            status=status,
            status_reason=status_reason,
            facts=facts,
        )


def _last_text(messages: Sequence[Message]) -> str:
    """The text of the last message that has one."""
    texts = (message.get("content") for message in reversed(messages))
    return next((text for text in texts if isinstance(text, str)), "")


@dataclass(frozen=True)
class SampleList(Record):
    """The samples of a plan in their order, as long as nothing that decides them changes.

    One for each plan; a newer one takes its place. It spares reading every reply anew.
    """

    TABLE: ClassVar[str] = "sample_lists"
    KEY: ClassVar[tuple[str, ...]] = ("list_id",)

    list_id: str
    state: str  # identifies the calls of the warehouse at that time
    facts: dict[str, Any]  # {"calls": ..., "recipes": [...]}: counts for the run's summary


@dataclass(frozen=True)
class ListedSample(Record):
    """A sample of a `SampleList`. In rows of their own, since a million ids are too much for one value."""

    TABLE: ClassVar[str] = "listed_samples"
    KEY: ClassVar[tuple[str, ...]] = ("list_id", "place")

    list_id: str
    place: int
    sample_id: str


@dataclass(frozen=True)
class GateInput(Record):
    """Something that the gate reads of a plan's samples and that no bound changes; see
    `flows.stages.gate_inputs`. A newer one takes its place."""

    TABLE: ClassVar[str] = "gate_inputs"
    KEY: ClassVar[tuple[str, ...]] = ("input_id",)

    input_id: str
    state: str  # identifies what it was made of
    content: dict[str, Any]


@dataclass(frozen=True)
class SeedRun(Record):
    """A finished seed of a recipe with several calls: those it made, in their order.

    A recipe that asks otherwise when it runs again has a hidden input; see `datagen.engine`.
    """

    TABLE: ClassVar[str] = "seed_runs"
    KEY: ClassVar[tuple[str, ...]] = ("seed_run_id",)

    seed_run_id: str
    recipe: str
    recipe_version: str
    prompt_id: str
    call_ids: list[str]
    run_id: str


@dataclass(frozen=True)
class Round(Record):
    """A finished round of a recipe that draws its seeds from what was made before.

    Seeds that had no reply then stay out of the pool for good, so that later rounds stay as they are.
    """

    TABLE: ClassVar[str] = "rounds"
    KEY: ClassVar[tuple[str, ...]] = ("round_id",)

    round_id: str
    recipe: str
    number: int
    seeds: int
    missing: list[str]  # prompt ids of seeds without a reply
    run_id: str


@dataclass(frozen=True)
class Score(Record):
    """One scorer's score of one sample; `value` is None where it abstained, with the reason in `why`."""

    TABLE: ClassVar[str] = "scores"
    KEY: ClassVar[tuple[str, ...]] = ("score_id",)

    score_id: str
    sample_id: str
    scorer: str  # its name in the plan
    version: str
    model: str  # what really scored: a model's name, or "rule"
    options: dict[str, Any]
    value: float | None
    why: str | None
    details: dict[str, Any] | None = None  # {"labels": {name: number}, ...}: what it rests on

    @staticmethod
    def id_of(
        sample_id: str, scorer: str, version: str, model: str, options: Mapping[str, Any]
    ) -> str:
        """The id a score of this sample by this scorer would have."""
        return make_id("score", sample_id, scorer, version, model, dict(options))


@dataclass(frozen=True)
class AuditScore(Score):
    """A score of a labelled sample, on which a scorer is measured; never one of the user's."""

    TABLE: ClassVar[str] = "audit_scores"


@dataclass(frozen=True)
class Choice(Record):
    """Kept or not, and why. `reason` is the first reason, `reasons` are all of them."""

    TABLE: ClassVar[str] = "choices"
    KEY: ClassVar[tuple[str, ...]] = ("selection_id", "sample_id")

    selection_id: str
    sample_id: str
    kept: bool
    reason: str
    reasons: list[str]
    details: dict[str, Any] | None = None  # the held-out item or the duplicate that was met


@dataclass(frozen=True)
class Measurement(Record):
    """How good a scorer was on labelled data: `quality.audit.roc` makes the figures."""

    TABLE: ClassVar[str] = "measurements"
    KEY: ClassVar[tuple[str, ...]] = ("measurement_id",)

    measurement_id: str
    scorer: str
    version: str
    model: str
    options: dict[str, Any]
    dataset: str
    rows: int
    figures: dict[str, Any]
    note: str | None
    created_at: datetime = field(default_factory=now)

    @staticmethod
    def id_of(
        scorer: str, version: str, model: str, options: Mapping[str, Any], dataset: str, rows: int
    ) -> str:
        """The id that this scorer's measurement on these rows would have."""
        return make_id("measurement", scorer, version, model, dict(options), dataset, rows)


@dataclass(frozen=True)
class Student(Record):
    """A trained student: where it is, how it was made, what the trainer saw."""

    TABLE: ClassVar[str] = "students"
    KEY: ClassVar[tuple[str, ...]] = ("student_id",)

    student_id: str
    base: str
    tuner: dict[str, Any]
    objective: dict[str, Any]
    selection_id: str
    config: dict[str, Any]
    seed: int
    path: str  # its folder, from the folder of the warehouse on
    losses: list[dict[str, float]]  # {"step": ..., "loss": ..., "learning_rate": ...}
    audit: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    run_id: str
    created_at: datetime = field(default_factory=now)

    def folder_in(self, home: Path) -> Path:
        """Its folder in the project whose warehouse lies in `home`."""
        return home / self.path

    def base_in(self, home: Path) -> str:
        """Its base as it can be loaded: a folder of the project, or the name it was given."""
        folder = home / self.base
        return str(folder) if folder.is_dir() else self.base


@dataclass(frozen=True)
class Promotion(Record):
    """A student that became the current one of its plan. Append-only: the newest one counts."""

    TABLE: ClassVar[str] = "promotions"
    KEY: ClassVar[tuple[str, ...]] = ("promotion_id",)

    promotion_id: str
    plan_name: str
    student_id: str
    before: str | None  # the student that it took the place of
    how: str  # ship: it met the plan's [ship]; rollback: a person went back to it
    run_id: str | None  # the run that measured it
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Answer(Record):
    """A contestant's answer to one held-out item, and its grades (None: abstained)."""

    TABLE: ClassVar[str] = "answers"
    KEY: ClassVar[tuple[str, ...]] = ("answer_id",)

    answer_id: str
    benchmark: str
    benchmark_version: str
    item_id: str
    contestant: str  # teacher | base | student ...
    contestant_id: str  # content identity: model and settings
    settings: dict[str, Any]
    text: str
    grades: dict[str, float | None]  # {"exact_match": 1.0, "f1": ..., "contains": ...}
    abstained: str | None  # why no grade was given
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None
    run_id: str
    details: dict[str, Any] | None = (
        None  # {"confidence": 0..1, "batch": ANSWER_ID, "said": "B", ...}
    )

    @staticmethod
    def id_of(
        benchmark: str,
        version: str,
        item_id: str,
        contestant_id: str,
        settings: Mapping[str, Any],
    ) -> str:
        """The id an answer to this item under these settings would have."""
        return make_id("answer", benchmark, version, item_id, contestant_id, dict(settings))


@dataclass(frozen=True)
class RunAnswer(Record):
    """An answer that a contestant has in a run; it may be from an earlier run."""

    TABLE: ClassVar[str] = "run_answers"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "contestant", "answer_id")

    run_id: str
    benchmark: str
    contestant: str
    answer_id: str


@dataclass(frozen=True)
class Failure(Record):
    """Something that did not work. Append-only; never a score of 0.0."""

    TABLE: ClassVar[str] = "failures"
    KEY: ClassVar[tuple[str, ...]] = ()

    run_id: str
    stage: str  # generate | curate | train | evaluate
    subject: str  # the id of what failed: call, sample, answer
    error: str
    permanent: bool
    created_at: datetime = field(default_factory=now)


RECORDS: tuple[type[Record], ...] = (
    Run, Prompt, Call, Sample, SampleList, ListedSample, GateInput, SeedRun, Round, Score, AuditScore, Choice, Measurement, Student, Promotion,
    Answer, RunAnswer, Failure,
)  # fmt: skip
