"""Define contestants, which answer the same held-out items and record what they were shown.

A contestant is someone who speaks (a model on this machine, or one that is asked over an
API) and a context around the question: `base`, `base+knn`, `student:1a2b`. Each answer is a
record whose id hashes benchmark, item, contestant and settings, so what was answered once is
never answered again, in this run or another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from datagen.teacher import Request, Sampling, Teacher
from distill.contestants.context import Context, Sources
from quality.tasks.benchmark import Benchmark, Item
from train.model.base_model import base_fingerprint
from train.model.inference import Generator
from warehouse.catalog import did_you_mean, known_names, name_of
from warehouse.db.store import Store
from warehouse.errors import NotFoundError
from warehouse.records import Answer, Call, Failure, Message, Student, make_id

Advance = Callable[[int], None]

OWN_CONTESTANTS = ("teacher", "base", "student")
"""Who can be named in every plan; besides, `student:ID`, and the endpoints of the plan."""


@dataclass(frozen=True)
class ContestantSpec:
    """A contestant's name in its parts: `who[:student][+context]`."""

    name: str
    who: str
    student: str | None
    context: str | None


def named(name: str, endpoints: Sequence[str] = (), contexts: Sequence[str] = ()) -> ContestantSpec:
    """Read a contestant's name.

    Raises:
        ValueError: nobody goes by that name; says who may be named.
    """
    who, plus, context = name.partition("+")
    who, colon, student = who.partition(":")
    known = [*OWN_CONTESTANTS, *endpoints]
    if who not in known:
        raise ValueError(
            f"unknown contestant '{who}' ({did_you_mean(who, known)}); name an endpoint under "
            "[evaluate.endpoints] to ask another model"
        )
    if colon and (who != "student" or not student):
        raise ValueError(f"'{name}': only an earlier student is named with a colon, student:ID")
    allowed = [*dict.fromkeys([*known_names("context"), *contexts])]
    if plus and context not in allowed:
        raise ValueError(f"'{name}': unknown context ({did_you_mean(context, allowed)})")
    if context == "retrieval" and context not in contexts:
        raise ValueError(
            f"'{name}' needs documents; add {{use = 'retrieval', documents = ['docs/**/*.md']}} "
            "to evaluate.contexts"
        )
    return ContestantSpec(name, who, student or None, context or None)


def find_student_by_id(store: Store, start: str) -> Student:
    """The student whose id begins with `start`.

    Raises:
        NotFoundError: there is none, or several, or its files are gone.
    """
    found = [one for one in store.read(Student) if one.student_id.startswith(start)]
    if len(found) != 1:
        count = "no student's id" if not found else f"{len(found)} students' ids"
        raise NotFoundError(
            f"{count} in {store.path} starts with '{start}'; `distill show students "
            f"--warehouse {store.path}` lists them"
        )
    if not found[0].folder_in(store.home).is_dir():
        raise NotFoundError(
            f"the files of student {start} are gone from {found[0].folder_in(store.home)}"
        )
    return found[0]


@dataclass(frozen=True)
class Generation:
    """What was said to one conversation."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None
    confidence: float | None
    """Geometric mean of the probabilities of its tokens, 0..1; None where it is not known."""


class Model(Protocol):
    """Someone who answers conversations greedily."""

    @property
    def contestant_id(self) -> str:
        """Content identity: the model, not its name."""
        ...

    @property
    def description(self) -> str:
        """Who this is, for the report."""
        ...

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """What decides the answer to a conversation."""
        ...

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """(position, what was said or why nothing was); one that failed before may be left out."""
        ...

    def close(self) -> None:
        """Let go of what is held in memory; it is there again when asked again."""
        ...


@dataclass
class Contestant:
    """A model in a context, under a name, before the items of one benchmark."""

    name: str
    model: Model
    context: Context
    sources: Sources
    benchmark: Benchmark
    run_id: str
    max_new_tokens: int

    @property
    def protocol(self) -> str:
        """One line for the report: who this is and what it sees."""
        return f"{self.name}: {self.model.description}; sees {self.context.description()}; greedy"

    def questions(self, items: Sequence[Item]) -> dict[str, tuple[Item, list[Message]]]:
        """By the id that the answer will have: the item and all that is asked."""
        found = {}
        asked = self.context.build_messages(items, self.sources) if items else []
        for item, messages in zip(items, asked, strict=True):
            answer_id = Answer.id_of(
                self.benchmark.label,
                self.benchmark.version,
                item.item_id,
                self.model.contestant_id,
                self.model.settings(messages, self.longest),
            )
            found[answer_id] = (item, messages)
        return found

    @property
    def longest(self) -> int:
        """Longest answer in tokens: the plan's limit, or the benchmark's own where it is smaller."""
        own = self.benchmark.max_new_tokens
        return self.max_new_tokens if own is None else min(own, self.max_new_tokens)

    def answer(
        self, asked: Mapping[str, tuple[Item, list[Message]]], advance: Advance
    ) -> list[Answer | Failure]:
        """An answer or a failure for each of the `questions`, graded together."""
        ids, pairs = list(asked), list(asked.values())
        said: dict[int, Generation] = {}
        failed: list[Failure] = []
        conversations = [messages for _, messages in pairs]
        for place, one in self.model.answer(conversations, self.longest, advance):
            if isinstance(one, Failure):
                failed.append(one)
            else:
                said[place] = one
        items = [pairs[place][0] for place in said]
        grades = self.benchmark.grade_all(items, [one.text for one in said.values()])
        answers = []
        for (place, one), grade in zip(said.items(), grades, strict=True):
            item, messages = pairs[place]
            details = dict(grade.details or {})
            if one.confidence is not None:
                details["confidence"] = one.confidence
            answers.append(
                Answer(
                    answer_id=ids[place],
                    benchmark=self.benchmark.label,
                    benchmark_version=self.benchmark.version,
                    item_id=item.item_id,
                    contestant=self.name,
                    contestant_id=self.model.contestant_id,
                    settings=self.model.settings(messages, self.longest),
                    text=one.text,
                    grades=grade.values,
                    abstained=grade.abstained,
                    finish_reason=one.finish_reason,
                    prompt_tokens=one.prompt_tokens,
                    completion_tokens=one.completion_tokens,
                    latency_s=one.latency_s,
                    cost_usd=one.cost_usd,
                    run_id=self.run_id,
                    details=details or None,
                )
            )
        return [*answers, *failed]


Ask = Callable[[Sequence[Request]], tuple[Mapping[str, Call], Mapping[str, Failure]]]
"""Requests -> the calls that answer them and the failures of this time, both by call id."""


@dataclass
class EndpointModel:
    """A model that is asked as a teacher is: its replies are calls, paid for once."""

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
        """Ask what is not paid for yet; what failed for good before gives nothing."""
        requests = [self._request(messages, max_new_tokens) for messages in conversations]
        calls, failures = self.ask(requests)
        for place, request in enumerate(requests):
            if request.call_id in failures:
                yield place, failures[request.call_id]
            elif request.call_id in calls:
                call = calls[request.call_id]
                yield (
                    place,
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
        """Close the teacher: a model that is served on this machine leaves the memory."""
        self.teacher.close()

    def _request(self, messages: list[Message], max_new_tokens: int) -> Request:
        sampling = Sampling(
            temperature=0.0, max_tokens=max_new_tokens, top_logprobs=self.top_logprobs
        )
        return Request.of(self.teacher.identity, messages, sampling)


@dataclass
class Local:
    """A model in this process, with or without what a student learned; loaded when first asked."""

    base: str
    batch_size: int | None
    description: str
    run_id: str
    student: Path | None = None
    student_id: str | None = None
    _reader: list[Generator] = field(default_factory=list, repr=False)

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
        """Answer greedily in batches; what the model's context cannot hold is a failure."""
        if not self._reader:
            self._reader.append(Generator(self.base, self.student))
        reader = self._reader[0]
        too_long = reader.too_long(conversations, max_new_tokens)
        for place, why in too_long.items():
            subject = make_id(self.contestant_id, conversations[place])
            yield place, Failure(self.run_id, "evaluate", subject, why, permanent=True)
        fit = [place for place in range(len(conversations)) if place not in too_long]
        asked = [conversations[place] for place in fit]
        advance(len(too_long))
        for said in reader.answer(asked, max_new_tokens, self.batch_size, scored=True):
            advance(1)
            yield (
                fit[said.index],
                Generation(
                    text=said.text,
                    finish_reason=said.finish_reason,
                    prompt_tokens=said.prompt_tokens,
                    completion_tokens=said.completion_tokens,
                    latency_s=said.latency_s,
                    cost_usd=0.0,
                    confidence=_confidence(said.logprobs),
                ),
            )

    def close(self) -> None:
        """Let the model go; it is loaded again when asked again."""
        self._reader.clear()


def _confidence(logprobs: Sequence[float] | None) -> float | None:
    """exp of the mean log-probability of an answer's tokens."""
    import math

    if not logprobs:
        return None
    return min(1.0, math.exp(sum(logprobs) / len(logprobs)))
