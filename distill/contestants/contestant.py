"""Define contestants, which answer the same held-out items and record what they were shown.

A contestant is a model (on this machine, or behind an API) and a context around the question:
`base`, `base+knn`, `student:1a2b`. The id of an answer hashes benchmark, item, contestant and
settings, so an item is answered once, in this run or another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from datagen.teacher import Request, Sampling, Teacher
from distill.contestants.context import Context, Sources
from quality.tasks.benchmark import Benchmark, Grade, Item
from train.model.base_model import base_fingerprint
from train.model.inference import Generator
from warehouse.catalog import did_you_mean, known_names, name_of
from warehouse.db.store import Store
from warehouse.errors import NotFoundError
from warehouse.records import Answer, Call, Failure, Message, Student, make_id

Advance = Callable[[int], None]

OWN_CONTESTANTS = ("teacher", "base", "student")
"""Names that every plan may use, besides `student:ID`, controls and the plan's own endpoints."""
CONTROLS = ("control:copy", "control:majority")
"""Contestants without a model, which a student has to beat; see `distill.contestants.controls`."""


def is_control(name: str) -> bool:
    """Whether a contestant is a script without a model."""
    return name in CONTROLS


@dataclass(frozen=True)
class ContestantSpec:
    """A contestant's name in its parts: `who[:student][+context]`; a control is a whole name."""

    name: str
    who: str
    student: str | None
    context: str | None


def parse_contestant(
    name: str, endpoints: Sequence[str] = (), contexts: Sequence[str] = ()
) -> ContestantSpec:
    """Parse a contestant's name.

    Raises:
        ValueError: the contestant is unknown; the message lists the allowed names.
    """
    model_name, plus_sign, context = name.partition("+")
    if model_name.startswith("control:"):
        if not is_control(name):
            hint = "a control sees no context" if plus_sign else did_you_mean(name, CONTROLS)
            raise ValueError(f"unknown control '{name}' ({hint})")
        return ContestantSpec(name, name, None, None)
    model_name, colon, student = model_name.partition(":")
    known = [*OWN_CONTESTANTS, *endpoints]
    if model_name not in known:
        raise ValueError(
            f"unknown contestant '{model_name}' ({did_you_mean(model_name, known)}); name an endpoint under "
            "[evaluate.endpoints] to ask another model"
        )
    if colon and (model_name != "student" or not student):
        raise ValueError(f"'{name}': only an earlier student takes a colon, student:ID")
    allowed = [*dict.fromkeys([*known_names("context"), *contexts])]
    if plus_sign and context not in allowed:
        raise ValueError(f"'{name}': unknown context ({did_you_mean(context, allowed)})")
    if context == "retrieval" and context not in contexts:
        raise ValueError(
            f"'{name}' needs documents; add {{use = 'retrieval', documents = ['docs/**/*.md']}} "
            "to evaluate.contexts"
        )
    return ContestantSpec(name, model_name, student or None, context or None)


def find_student_by_id(store: Store, start: str) -> Student:
    """The student whose id begins with `start`.

    Raises:
        NotFoundError: there is none, or several, or its files are gone.
    """
    matches = [student for student in store.read(Student) if student.student_id.startswith(start)]
    if len(matches) != 1:
        count = "no student's id" if not matches else f"{len(matches)} students' ids"
        raise NotFoundError(
            f"{count} in {store.path} starts with '{start}'; `distill show students "
            f"--warehouse {store.path}` lists them"
        )
    if not matches[0].folder_in(store.home).is_dir():
        raise NotFoundError(
            f"the files of student {start} are gone from {matches[0].folder_in(store.home)}"
        )
    return matches[0]


@dataclass(frozen=True)
class Generation:
    """A model's reply to one conversation."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None
    confidence: float | None
    """Geometric mean of the probabilities of its tokens, 0..1; None where unknown."""
    abstained: str | None = None
    """Why there is no answer to grade; None where there is one."""
    batch: int | None = None
    """Position of the first conversation that was answered in the same batch, whose time all of
    them share equally; None where each was answered by itself."""


class Model(Protocol):
    """A model that answers conversations greedily."""

    @property
    def contestant_id(self) -> str:
        """Hash of the model's content, not of its name."""
        ...

    @property
    def description(self) -> str:
        """Description of the model for the report."""
        ...

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """Settings that determine the answer to a conversation."""
        ...

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """Yield (position, reply or failure); conversations that failed for good may be left out."""
        ...

    def close(self) -> None:
        """Free the memory; the model loads again at the next request."""
        ...


@dataclass
class Contestant:
    """A named pair of model and context, for the items of one benchmark."""

    name: str
    model: Model
    context: Context
    sources: Sources
    benchmark: Benchmark
    run_id: str
    max_new_tokens: int

    @property
    def protocol(self) -> str:
        """One line for the report: the model and what it is shown."""
        line = f"{self.name}: {self.model.description}; sees {self.context.description()}"
        return line if is_control(self.name) else f"{line}; greedy"

    def questions(self, items: Sequence[Item]) -> dict[str, tuple[Item, list[Message]]]:
        """Answer id -> item and messages."""
        questions = {}
        conversations = self.context.build_messages(items, self.sources) if items else []
        for item, messages in zip(items, conversations, strict=True):
            answer_id = Answer.id_of(
                self.benchmark.label,
                self.benchmark.version,
                item.item_id,
                self.model.contestant_id,
                self.model.settings(messages, self.longest),
            )
            questions[answer_id] = (item, messages)
        return questions

    @property
    def longest(self) -> int:
        """Longest answer in tokens: the smaller of the plan's and the benchmark's limit."""
        own = self.benchmark.max_new_tokens
        return self.max_new_tokens if own is None else min(own, self.max_new_tokens)

    def answer(
        self, questions: Mapping[str, tuple[Item, list[Message]]], advance: Advance
    ) -> list[Answer | Failure]:
        """An answer or a failure for each of the `questions`, graded together."""
        ids, item_messages = list(questions), list(questions.values())
        generations: dict[int, Generation] = {}
        failures: list[Failure] = []
        conversations = [messages for _, messages in item_messages]
        for position, generation in self.model.answer(conversations, self.longest, advance):
            if isinstance(generation, Failure):
                failures.append(generation)
            else:
                generations[position] = generation
        items = [item_messages[position][0] for position in generations]
        grades = self.benchmark.grade_all(
            items, [generation.text for generation in generations.values()]
        )
        answers = []
        for (position, generation), grade in zip(generations.items(), grades, strict=True):
            item, messages = item_messages[position]
            if generation.abstained:
                grade = Grade(dict.fromkeys(self.benchmark.metrics), generation.abstained)
            details = dict(grade.details or {})
            if generation.confidence is not None:
                details["confidence"] = generation.confidence
            if generation.batch is not None:
                details["batch"] = ids[generation.batch]
            answers.append(
                Answer(
                    answer_id=ids[position],
                    benchmark=self.benchmark.label,
                    benchmark_version=self.benchmark.version,
                    item_id=item.item_id,
                    contestant=self.name,
                    contestant_id=self.model.contestant_id,
                    settings=self.model.settings(messages, self.longest),
                    text=generation.text,
                    grades=grade.values,
                    abstained=grade.abstained,
                    finish_reason=generation.finish_reason,
                    prompt_tokens=generation.prompt_tokens,
                    completion_tokens=generation.completion_tokens,
                    latency_s=generation.latency_s,
                    cost_usd=generation.cost_usd,
                    run_id=self.run_id,
                    details=details or None,
                )
            )
        return [*answers, *failures]


Ask = Callable[[Sequence[Request]], tuple[Mapping[str, Call], Mapping[str, Failure]]]
"""Requests -> calls that answer them and failures of this run, both by call id."""


@dataclass
class EndpointModel:
    """A model behind a teacher's interface: replies are cached calls, paid for once."""

    teacher: Teacher
    ask: Ask
    top_logprobs: int | None = None

    @property
    def contestant_id(self) -> str:
        """The teacher's identity."""
        return make_id("teacher", self.teacher.identity)

    @property
    def description(self) -> str:
        """Model and kind."""
        kind = name_of(self.teacher)
        return f"{getattr(self.teacher, 'model', kind)} ({kind})"

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """The call that the answer comes from."""
        call_id = self._request(messages, max_new_tokens).call_id
        return {"call_id": call_id, "max_new_tokens": max_new_tokens}

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """Request only what is not cached; permanent failures of earlier runs are skipped."""
        requests = [self._request(messages, max_new_tokens) for messages in conversations]
        calls, failures = self.ask(requests)
        for position, request in enumerate(requests):
            if request.call_id in failures:
                yield position, failures[request.call_id]
            elif request.call_id in calls:
                call = calls[request.call_id]
                yield (
                    position,
                    Generation(
                        text=call.text,
                        finish_reason=call.finish_reason,
                        prompt_tokens=call.prompt_tokens,
                        completion_tokens=call.completion_tokens,
                        latency_s=call.latency_s,
                        cost_usd=call.cost_usd,
                        confidence=_confidence((call.logprobs or {}).get("logprobs")),
                    ),
                )

    def close(self) -> None:
        """Close the teacher; a local server frees its memory."""
        self.teacher.close()

    def _request(self, messages: list[Message], max_new_tokens: int) -> Request:
        sampling = Sampling(
            temperature=0.0, max_tokens=max_new_tokens, top_logprobs=self.top_logprobs
        )
        return Request.of(self.teacher.identity, messages, sampling)


@dataclass
class Local:
    """A base or student in this process, loaded at the first request."""

    base: str
    batch_size: int | None
    description: str
    run_id: str
    student: Path | None = None
    student_id: str | None = None
    _generator: list[Generator] = field(default_factory=list, repr=False)

    @cached_property
    def contestant_id(self) -> str:
        """Fingerprint of the base's weights and the student's id."""
        return make_id("local", base_fingerprint(self.base), self.student_id)

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """The exact messages and the length limit."""
        return {"messages": make_id(messages), "max_new_tokens": max_new_tokens}

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """Answer greedily in batches; a conversation that exceeds the context is a failure."""
        if not self._generator:
            self._generator.append(Generator(self.base, self.student))
        generator = self._generator[0]
        too_long = generator.too_long(conversations, max_new_tokens)
        for position, reason in too_long.items():
            subject = make_id(self.contestant_id, conversations[position])
            yield position, Failure(self.run_id, "evaluate", subject, reason, permanent=True)
        fitting = [position for position in range(len(conversations)) if position not in too_long]
        fitting_conversations = [conversations[position] for position in fitting]
        advance(len(too_long))
        for generated in generator.answer(
            fitting_conversations, max_new_tokens, self.batch_size, scored=True
        ):
            advance(1)
            yield (
                fitting[generated.index],
                Generation(
                    text=generated.text,
                    finish_reason=generated.finish_reason,
                    prompt_tokens=generated.prompt_tokens,
                    completion_tokens=generated.completion_tokens,
                    latency_s=generated.latency_s,
                    cost_usd=0.0,
                    confidence=_confidence(generated.logprobs),
                    batch=fitting[generated.batch],
                ),
            )

    def close(self) -> None:
        """Free the model; it loads again at the next request."""
        self._generator.clear()


def _confidence(logprobs: Sequence[float] | None) -> float | None:
    """exp of the mean log-probability of an answer's tokens."""
    import math

    if not logprobs:
        return None
    return min(1.0, math.exp(sum(logprobs) / len(logprobs)))
