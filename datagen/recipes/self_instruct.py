"""Grow instructions from a few that people wrote, and let the teacher answer them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from datagen.ask import Ask, Unparsed
from datagen.phrases import find_phrase, phrases_in
from datagen.recipe import Example, PoolRecipe, Seed
from datagen.reply_status import status_of
from datagen.similarity import SimilarTexts
from datagen.worded_recipe import WordedRecipe
from datagen.wording import Wording
from warehouse.inputs.prompt_sources import row_files
from warehouse.inputs.rows import RowSource, check_columns, read_rows
from warehouse.records import Message
from warehouse.text.words import caseless, count_words, words
from warehouse.wording import format_count

MIN_WORDS, MAX_WORDS = 4, 150
"""Words of an instruction, as in the paper's filter."""
FRUITLESS_ROUNDS = 3
"""So many rounds from which nothing joined the pool, and there are no more."""
TRIES = 3
"""Of a structured reply."""
_SECOND_ITEM = re.compile(r"(?:^|\s)2[.)、]\s*(?!\d)")
_NUMBERING = re.compile(r"^\s*(?:\d{1,2}[.)、]|[-*•])\s*(?!\d)")


class TaskKind(BaseModel):
    """How a task's instances are made."""

    is_classification: bool
    needs_input: bool


@dataclass(frozen=True, kw_only=True)
class SelfInstruct(WordedRecipe, PoolRecipe):
    """Seed tasks -> new instructions in rounds, each with its input and the teacher's answer.

    Self-Instruct (Wang et al. 2022, section 2): a call shows eight instructions of the pool, six
    that people wrote and two that were made, and asks for others. A new one joins the pool only if
    its ROUGE-L with every member is below 0.7. A task of classification is answered output first:
    labels, then an input for each, since inputs made first mostly have one label. Any other one gets
    an input where it needs one, then the answer.
    """

    version: ClassVar[str] = "1"

    seed_tasks: str
    """A file of tasks that people wrote: `prompt` is the instruction, `reference` an answer."""
    columns: dict[str, str] | None = None
    """Columns of the file by what they are: {prompt = "task"}."""
    round_size: int = 8
    """Calls for new instructions between two looks at the pool."""
    instructions_per_call: int = 4
    """New instructions that a call asks for, at most."""
    human_shown: int = 6
    """Seed tasks that a call shows; more where too few were made."""
    made_shown: int = 2
    """Instructions made in earlier rounds that a call shows."""
    max_similarity: float = 0.7
    """An instruction whose ROUGE-L with one of the pool is not below this does not join, 0..1."""
    max_labels: int = 4
    """Labels of a classification task, at most; each gives an example."""
    target: int | None = None
    """Stop once so many examples are ok; this or `max_calls` must be given."""

    def __post_init__(self) -> None:
        check_columns(self.columns)
        for name in ("round_size", "instructions_per_call", "human_shown"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more")
        if self.made_shown < 0:
            raise ValueError("made_shown is 0 or more")
        if not 0 < self.max_similarity <= 1:
            raise ValueError("max_similarity is above 0 and at most 1")
        if self.max_labels < 2:
            raise ValueError("max_labels is 2 or more: one label is no choice")
        if self.target is None and self.max_calls is None:
            raise ValueError("a pool may grow for ever; give target (examples) or max_calls")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """No instruction is fit, or each is a classification task and each reply needs all tries."""
        each = 2 * TRIES + self.max_labels
        return (1, TRIES + self.instructions_per_call * each)

    def row_sources(self) -> list[RowSource]:
        """The file of seed tasks."""
        return row_files(self.seed_tasks, self.columns)

    def input_files(self, folder: Path) -> list[Path]:
        """The seed tasks decide what joins the pool, and so all later rounds."""
        return [*super().input_files(folder), folder / self.seed_tasks]

    def begin(self, folder: Path) -> Sequence[Example]:
        """The seed tasks, each instruction once."""
        tasks: dict[str, Example] = {}
        for row in read_rows(self.seed_tasks, folder, columns=self.columns):
            answer = row.reference[0] if row.reference else ""
            task = Example(row.messages, answer, facts={"instruction": row.prompt.strip()})
            tasks.setdefault(row.prompt.strip(), task)
        return list(tasks.values())

    def next_round(self, number: int, pool: Sequence[Example]) -> Sequence[Seed]:
        """Calls that each show other tasks; none after several rounds without a new member."""
        made_in = [example.facts["round"] for example in pool if "round" in example.facts]
        if number - max(made_in, default=-1) > FRUITLESS_ROUNDS:
            return []
        human = _instructions(example for example in pool if "round" not in example.facts)
        made = _instructions(example for example in pool if "round" in example.facts)
        seeds = []
        for place in range(self.round_size):
            draw = Seed({"round": number, "place": place}).random
            shown = draw.sample(made, min(self.made_shown, len(made)))
            wanted = self.human_shown + self.made_shown - len(shown)
            shown += draw.sample(human, min(wanted, len(human)))
            draw.shuffle(shown)
            seeds.append(Seed({"round": number, "place": place, "shown": shown}, self.seed_tasks))
        return seeds

    def why_no_more(self, number: int, pool: Sequence[Example]) -> str:
        """The rounds without a new member."""
        return (
            f"nothing joined the pool in {format_count(FRUITLESS_ROUNDS, 'round')} in a row; give more "
            "seed tasks, a stronger teacher or a higher max_similarity"
        )

    def admit(self, made: Example, pool: Sequence[Example]) -> str | None:
        """Whether the instruction is new; the further labels of a task join with its first one."""
        if pool and made.facts["task"] == pool[-1].facts.get("task"):
            return None
        self._pool_texts.update([example.facts["instruction"] for example in pool])
        if self._pool_texts.most_similar(made.facts["instruction"]):
            return (
                f"the pool has a similar instruction (ROUGE-L of {self.max_similarity:g} or more)"
            )
        return None

    @cached_property
    def _pool_texts(self) -> SimilarTexts:
        """Remembers what it computed of the pool, and follows from the pool alone."""
        return SimilarTexts(self.max_similarity)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Ask for new instructions, then for the instances of each that is fit."""
        wording = self.wording(ask.folder)
        try:
            written = await ask.into_json(
                _list_schema("instructions", 1, self.instructions_per_call),
                wording.messages(
                    "instructions", shown=seed.value["shown"], number=self.instructions_per_call
                ),
                name="instructions",
                tries=TRIES,
            )
        except Unparsed as fault:
            yield Example([], fault.raw, status=fault.status, reason=str(fault))
            return
        near = SimilarTexts(self.max_similarity)
        near.update(seed.value["shown"])
        excluded = phrases_in(wording, "excluded")
        for number, text in enumerate(written["instructions"]):
            instruction = " ".join(_NUMBERING.sub("", text).split())
            facts = {
                "instruction": instruction,
                "round": seed.value["round"],
                "task": f"{seed.value['round']}.{seed.value['place']}.{number}",
            }
            if why := self._fault(instruction, excluded, near):
                yield Example(_user(instruction), "", status="invalid", reason=why, facts=facts)
                continue
            near.add(instruction)
            async for example in self._instances(instruction, facts, wording, ask):
                yield example

    def _fault(self, instruction: str, excluded: Sequence[str], near: SimilarTexts) -> str | None:
        """Why an instruction is not fit, as far as one call can tell."""
        length = count_words(instruction)
        if length < MIN_WORDS:
            return f"the instruction has fewer than {MIN_WORDS} words"
        if length > MAX_WORDS:
            return f"the instruction has more than {MAX_WORDS} words"
        if _SECOND_ITEM.search(instruction):
            return "the instruction is a list of several"
        if phrase := find_phrase(instruction, excluded):
            return f"the instruction asks for more than text ('{phrase}')"
        if near.most_similar(instruction):
            return (
                f"the call shows a similar instruction (ROUGE-L of {self.max_similarity:g} or more)"
            )
        return None

    async def _instances(
        self, instruction: str, facts: dict[str, Any], wording: Wording, ask: Ask
    ) -> AsyncIterator[Example]:
        """The examples of one instruction."""
        try:
            kind = await ask.into(
                TaskKind, wording.messages("kind", instruction=instruction), tries=TRIES
            )
            labels: list[str] = []
            if kind.is_classification:
                found = await ask.into_json(
                    _list_schema("labels", 2, self.max_labels),
                    wording.messages("labels", instruction=instruction, number=self.max_labels),
                    name="labels",
                    tries=TRIES,
                    check=_check_labels,
                )
                labels = [label.strip() for label in found["labels"]]
        except Unparsed as fault:
            yield Example(
                _user(instruction), fault.raw, status=fault.status, reason=str(fault), facts=facts
            )
            return
        if labels:
            facts = {**facts, "kind": "classification", "labels": labels}
            for label in labels:
                messages = wording.messages("labelled_input", instruction=instruction, label=label)
                reply = await ask(messages)
                status, reason = status_of(reply)
                task = wording.messages("task", instruction=instruction, input=reply.text.strip())
                yield Example(task, label, status=status, reason=reason, facts=facts)
            return
        facts = {**facts, "kind": "generation"}
        given = ""
        if kind.needs_input:
            reply = await ask(wording.messages("input", instruction=instruction))
            given = reply.text.strip()
            status, reason = status_of(reply)
            if status != "ok":
                why = f"no input: {reason}"
                yield Example(_user(instruction), given, status=status, reason=why, facts=facts)
                return
        task = wording.messages("task", instruction=instruction, input=given)
        reply = await ask(task)
        status, reason = status_of(reply)
        yield Example(task, reply.text.strip(), status=status, reason=reason, facts=facts)


def _instructions(examples: Any) -> list[str]:
    """The instructions of examples, each once, in their order."""
    return list(dict.fromkeys(example.facts["instruction"] for example in examples))


def _list_schema(name: str, least: int, most: int) -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}, "minItems": least, "maxItems": most}
    return {
        "type": "object",
        "properties": {name: texts},
        "required": [name],
        "additionalProperties": False,
    }


def _check_labels(found: dict[str, list[str]]) -> str | None:
    labels = [" ".join(words(caseless(label))) for label in found["labels"]]
    if not all(labels) or len(set(labels)) < len(labels):
        return "labels: each is a text of its own, with a word in it"
    return None


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]
