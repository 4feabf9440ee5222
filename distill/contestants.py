"""Contestants: teacher, base and student answer the same held-out items.

Each answer is a record whose id hashes benchmark, item, contestant and settings, so
what was answered once is never answered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from datagen.recipe import Recipe
from datagen.teacher import Request, Sampling, Teacher
from quality.benchmark import Benchmark, Item
from train.student import Reader, base_fingerprint
from warehouse.catalog import name_of
from warehouse.records import Answer, Call, Failure, make_id

Advance = Callable[[int], None]


class Contestant(Protocol):
    """Someone who answers items. `settings` is all that could change what they say."""

    @property
    def name(self) -> str:
        """teacher, base or student."""
        ...

    @property
    def contestant_id(self) -> str:
        """Content identity: the model, not its name."""
        ...

    @property
    def protocol(self) -> str:
        """One line for the report: what this contestant sees."""
        ...

    def settings(self, item: Item) -> dict[str, Any]:
        """What, beside the item, decides the answer."""
        ...

    def answer(self, items: Sequence[Item], advance: Advance) -> Iterator[Answer | Failure]:
        """One answer or failure per item."""
        ...


@dataclass
class Contest:
    """One benchmark under one protocol."""

    benchmark: Benchmark
    run_id: str

    def answer_id(self, contestant: Contestant, item: Item) -> str:
        """The id of this contestant's answer to this item; known before asking."""
        return Answer.id_of(
            name_of(self.benchmark),
            self.benchmark.version,
            item.item_id,
            contestant.contestant_id,
            contestant.settings(item),
        )

    def graded(
        self,
        contestant: Contestant,
        item: Item,
        text: str,
        *,
        finish_reason: str,
        prompt_tokens: int,
        completion_tokens: int,
        latency_s: float,
        cost_usd: float | None,
    ) -> Answer:
        """Grade a text and make the record."""
        grade = self.benchmark.grade(item, text)
        return Answer(
            answer_id=self.answer_id(contestant, item),
            benchmark=name_of(self.benchmark),
            benchmark_version=self.benchmark.version,
            item_id=item.item_id,
            contestant=contestant.name,
            contestant_id=contestant.contestant_id,
            settings=contestant.settings(item),
            text=text,
            grades=grade.values,
            abstained=grade.abstained,
            finish_reason=finish_reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            latency_s=latency_s,
            cost_usd=cost_usd,
            run_id=self.run_id,
        )


Ask = Callable[[Sequence[Request]], tuple[Mapping[str, Call], Mapping[str, Failure]]]
"""Requests -> the calls that answer them and the failures of this time, both by call id."""


@dataclass
class TeacherContestant:
    """The teacher, shown each item as its recipe shows a prompt. Its replies are paid calls."""

    contest: Contest
    teacher: Teacher
    recipe: Recipe
    folder: Path
    max_new_tokens: int
    ask: Ask
    name: str = "teacher"

    @property
    def contestant_id(self) -> str:
        """The teacher's identity."""
        return make_id("teacher", self.teacher.identity)

    @property
    def protocol(self) -> str:
        """What the teacher sees."""
        return (
            f"teacher: {getattr(self.teacher, 'model', name_of(self.teacher))} "
            f"({name_of(self.teacher)}), asked as recipe '{name_of(self.recipe)}' asks it "
            "(its instruction and worked examples, then passage and question), greedy"
        )

    def settings(self, item: Item) -> dict[str, Any]:
        """The call that the answer comes from."""
        return {"call_id": self.request(item).call_id, "max_new_tokens": self.max_new_tokens}

    def answer(self, items: Sequence[Item], advance: Advance) -> Iterator[Answer | Failure]:
        """Ask what is not paid for yet, then grade; an item that failed before gives nothing."""
        requests = {item.item_id: self.request(item) for item in items}
        calls, failures = self.ask(list(requests.values()))
        for item in items:
            call_id = requests[item.item_id].call_id
            if call_id in failures:
                yield failures[call_id]
            elif call_id in calls:
                call = calls[call_id]
                yield self.contest.graded(
                    self,
                    item,
                    call.text,
                    finish_reason=call.finish_reason,
                    prompt_tokens=call.prompt_tokens,
                    completion_tokens=call.completion_tokens,
                    latency_s=call.latency_s,
                    cost_usd=call.cost_usd,
                )

    def request(self, item: Item) -> Request:
        """What the teacher is asked for an item."""
        sampling = Sampling(temperature=0.0, max_tokens=self.max_new_tokens)
        return Request.of(
            self.teacher.identity, self.recipe.ask(item.row, self.folder).messages, sampling
        )


@dataclass
class LocalContestant:
    """A local model, with or without an adapter: the base or the student."""

    contest: Contest
    name: str
    base: str
    max_new_tokens: int
    batch_size: int | None
    adapter: Path | None = None
    student_id: str | None = None
    _reader: list[Reader] = field(default_factory=list, repr=False)

    @cached_property
    def contestant_id(self) -> str:
        """Fingerprint of the base's weights and the student's id."""
        return make_id("local", base_fingerprint(self.base), self.student_id)

    @property
    def protocol(self) -> str:
        """What this model sees."""
        what = "the base with the adapter of this run" if self.adapter else "the untuned base"
        return (
            f"{self.name}: {what} ({self.base}), asked passage and question with no instruction "
            "and no worked example, greedy"
        )

    def settings(self, item: Item) -> dict[str, Any]:
        """The exact messages and the length limit."""
        return {"messages": make_id(item.messages), "max_new_tokens": self.max_new_tokens}

    def answer(self, items: Sequence[Item], advance: Advance) -> Iterator[Answer | Failure]:
        """Answer greedily in batches; the model is loaded on the first call."""
        if not self._reader:
            self._reader.append(Reader(self.base, self.adapter))
        conversations = [item.messages for item in items]
        for said in self._reader[0].answer(conversations, self.max_new_tokens, self.batch_size):
            advance(1)
            yield self.contest.graded(
                self,
                items[said.index],
                said.text,
                finish_reason=said.finish_reason,
                prompt_tokens=said.prompt_tokens,
                completion_tokens=said.completion_tokens,
                latency_s=said.latency_s,
                cost_usd=0.0,
            )
