"""Answer questions over long documents by a plan of actions, executed step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel

from datagen.action_plans import (
    Actions,
    PlanStep,
    action_name,
    distinct_steps,
    parse_actions,
    plan_fault,
    plan_model,
)
from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.extraction import PIECE_WORDS, extract_from_document
from datagen.passage_recipe import Context, open_book_messages
from datagen.recipe import Example, Seed, each_once
from datagen.reply_status import status_of
from datagen.spending.pricing import count_prompt_tokens
from datagen.worded_recipe import WordedRecipe
from datagen.wording import Wording
from warehouse.errors import DataError
from warehouse.inputs.documents.read import read_documents
from warehouse.inputs.prompt_sources import read_prompts, row_files
from warehouse.inputs.rows import RowSource, check_columns, find_file, read_rows
from warehouse.records import Message
from warehouse.text.words import locate

_TRIES = 3


class AnswerCheck(BaseModel):
    """Whether an answer is right, and what is wrong with its plan where it is not."""

    is_right: bool
    fault: str


class _Done(NamedTuple):
    """A plan that was executed."""

    steps: list[PlanStep]
    results: dict[str, str]
    answer: str
    status: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Pearl(WordedRecipe):
    """Answers over long documents: actions are mined from questions, composed to a plan and executed.

    The stages are those of PEARL (Sun et al., PEARL: Prompting Large Language Models to Plan and
    Execute Actions Over Long Documents, arXiv 2305.14564, 2023: action mining, plan generation and plan
    execution, with self-correction and self-refinement of plans). The student learns the answer, or the
    plan and its results too.
    """

    version: ClassVar[str] = "1"
    revision: ClassVar[int] = 1  # a plan that repeats a step was invalid, and is executed

    prompts: str | None = None
    """A data set's name, or a file of rows with a question and a document in `passage`."""
    columns: dict[str, str] | None = None
    """Columns of that file by what they are: {prompt = "question", passage = "article"}."""
    holdout: float | None = None
    """Share of the rows' documents kept for evaluation, 0..1. Unset: the data set's own."""
    documents: str | list[str] | None = None
    """In place of prompts: files, folders or globs; each of `questions` is asked of each document."""
    questions: list[str] | None = None
    """Questions to ask of each of `documents`."""
    limit: int | None = None
    """Ask at most this many questions."""
    seed_questions: str | None = None
    """A file of rows with questions from which actions are mined. Unset: the first ones asked."""
    mined_from: int = 8
    """Questions from which actions are mined; 0 leaves it at the actions of the template."""
    max_actions: int = 24
    """At most this many actions, those of the template first, then in the order of the questions."""
    max_steps: int = 6
    """Steps of a plan."""
    corrections: int = 2
    """How often a faulty plan is answered with its fault and asked for again."""
    self_refine: int = 0
    """Rounds after an answer that is not right: by its reference, else in the teacher's own judgement."""
    max_document_tokens: int = 32_000
    """A longer document is not asked about and marked invalid; it is never cut. Counted as UTF-8
    bytes / 4."""
    context: Context = "passage"
    """What the steps are executed on: the whole document ("passage"), or an "extract" of its facts."""
    completion: Literal["answer", "trace"] = "answer"
    """What the student learns to say: the "answer", or the plan with its results and the answer."""

    def __post_init__(self) -> None:
        if (self.documents is None) == (self.prompts is None):
            raise ValueError("give prompts, or documents with questions")
        if (self.documents is None) != (not self.questions):
            raise ValueError("documents and questions go together: each question for each document")
        check_columns(self.columns)
        if self.holdout is not None and not 0 <= self.holdout < 1:
            raise ValueError("holdout is a share from 0 up to, not including, 1")
        if self.holdout and self.prompts is None:
            raise ValueError("holdout is for prompts; keep documents for evaluation in other files")
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit is 1 or more; leave it out to ask every question")
        for name in ("max_actions", "max_steps", "max_document_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more")
        for name in ("mined_from", "corrections", "self_refine"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is 0 or more")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """None for a document that is too long; at most all steps in all rounds."""
        one_round = self.corrections + 1 + self.max_steps + 1
        pieces = self.max_document_tokens // PIECE_WORDS + 1 if self.context == "extract" else 0
        return (0, pieces * _TRIES + (self.self_refine + 1) * (one_round + _TRIES) - _TRIES)

    def row_sources(self) -> list[RowSource]:
        """The file of its rows; nothing where they are a data set's."""
        return [] if self.prompts is None else row_files(self.prompts, self.columns)

    def input_files(self, folder: Path) -> list[Path]:
        """The template and the seed questions."""
        seeds = [find_file(self.seed_questions, folder)] if self.seed_questions else []
        return [*super().input_files(folder), *seeds]

    async def prepare(self, folder: Path, ask: Ask) -> dict[str, Any]:
        """Mine the actions: each seed question by itself, the results in the questions' order."""
        wording = self.wording(folder)
        basic = parse_actions(wording.text("actions"))
        if self.seed_questions:
            every = (row.prompt for row in read_rows(self.seed_questions, folder))
        else:
            every = (value["question"] for value, _ in self._questions(folder))
        questions = list(islice(dict.fromkeys(every), self.mined_from))
        mined = await asyncio.gather(
            *(self._mine(ask, wording, basic, question) for question in questions)
        )
        actions = dict(basic)
        for found in mined:
            for action in found or ():
                actions.setdefault(*action)
        return {
            "actions": dict(islice(actions.items(), self.max_actions)),
            "mined_from": len(questions),
            "not_mined": sum(found is None for found in mined),
        }

    async def _mine(
        self, ask: Ask, wording: Wording, basic: dict[str, str], question: str
    ) -> list[tuple[str, str]] | None:
        """The actions that a question needs; None where no reply has the form asked for."""
        request = wording.messages("mine", question=question, actions=basic)
        try:
            found = await ask.into(Actions, request, tries=_TRIES)
        except Unparsed:
            return None
        named = [
            (action_name(each.name), " ".join(each.description.split())) for each in found.actions
        ]
        return [(name, description) for name, description in named if name and description]

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """A seed for each question with its document."""
        for order, (value, source) in enumerate(islice(self._questions(folder), self.limit)):
            yield Seed(value, source, order)

    def _questions(self, folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
        return each_once(self._all_questions(folder), lambda found: Seed(found[0]).seed_id)

    def _all_questions(self, folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
        if self.documents is not None:
            for document in read_documents(self.document_sources()[0], folder).passages:
                for question in self.questions or ():
                    yield {"question": question, "document": document.text}, document.source
            return
        assert self.prompts is not None
        for row in read_prompts(self.prompts, folder, None, self.holdout, self.columns):
            if not row.passage:
                raise DataError(
                    f"{row.source} has no document; give a column 'passage', or name it in `columns`"
                )
            value = {"question": row.prompt, "document": row.passage}
            yield value | ({"reference": row.reference} if row.reference else {}), row.source

    def why_not_asked(self, seed: Seed) -> str | None:
        """A document that is too long."""
        document = seed.value["document"]
        tokens = count_prompt_tokens([{"role": "user", "content": document}], None)
        if tokens <= self.max_document_tokens:
            return None
        return (
            f"the document has about {tokens:,} tokens, more than max_document_tokens = "
            f"{self.max_document_tokens:,}"
        )

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Plan, execute and answer; once more where the answer is not right and rounds are left."""
        question, document = seed.value["question"], seed.value["document"]
        reference = seed.value.get("reference", [])
        wording = self.wording(ask.folder)
        facts: dict[str, Any] = {}
        shown = open_book_messages(question, document, self.language)

        def bad(text: str, status: str, reason: str | None) -> Example:
            return Example(shown, text, question, reference, document, status, reason, facts)

        if (why := self.why_not_asked(seed)) is not None:
            yield bad("", "invalid", why)
            return
        text = document
        earlier: dict[str, Any] | None = None
        try:
            if self.context == "extract":
                extraction = await extract_from_document(
                    ask, lambda piece: wording.messages("facts", passage=piece), document
                )
                text = facts["extract"] = extraction.text
                facts["pieces_left_out"] = extraction.pieces_left_out
            for number in range(self.self_refine + 1):
                done = await self._run(ask, wording, question, text, earlier)
                facts |= {
                    "plan": [step.model_dump() for step in done.steps],
                    "results": done.results,
                    "answer": done.answer,
                    "rounds": number + 1,
                }
                if done.status != "ok":
                    yield bad(done.answer, done.status, done.reason)
                    return
                if reference:
                    facts["is_right"] = any(locate(done.answer, each) for each in reference)
                is_same_plan = earlier is not None and earlier["steps"] == facts["plan"]
                if number == self.self_refine or is_same_plan:
                    break
                fault = await self._fault_of(ask, wording, question, done, bool(reference), facts)
                if fault is None:
                    break
                earlier = {"steps": facts["plan"], "answer": done.answer, "fault": fault}
        except Unparsed as fault:
            yield bad(fault.raw, fault.status, str(fault))
            return
        if is_copy(done.answer, document, question):  # a whole document holds any reference
            yield bad(done.answer, "invalid", "the answer is the document or the question again")
            return
        said = done.answer
        if self.completion == "trace":
            said = wording.text(
                "trace", steps=facts["plan"], results=done.results, answer=done.answer
            )
        yield Example(shown, said, question, reference, document, facts=facts)

    async def _run(
        self, ask: Ask, wording: Wording, question: str, text: str, earlier: dict[str, Any] | None
    ) -> _Done:
        """One plan and its execution.

        Raises:
            Unparsed: no plan has the form asked for, or all use unknown actions.
        """
        actions: dict[str, str] = ask.prepared["actions"]
        request = wording.messages(
            "plan", question=question, actions=actions, max_steps=self.max_steps, earlier=earlier
        )
        plan: Any = await ask.into(
            plan_model(self.max_steps),
            request,
            tries=self.corrections + 1,
            check=lambda plan: plan_fault(plan, actions),
        )
        common: dict[str, Any] = {"question": question, "is_extract": self.context == "extract"}
        results: dict[str, str] = {}
        steps = distinct_steps(plan.steps)
        for number, step in enumerate(steps, start=1):
            used = {name: told for name, told in results.items() if locate(step.input, name)}
            name = action_name(step.action)
            reply = await ask(
                wording.messages(
                    "step",
                    **common,
                    text=text,
                    action=name,
                    description=actions[name],
                    input=step.input,
                    results=used,
                )
            )
            status, reason = status_of(reply)
            results[step.result.strip()] = reply.text.strip()
            if status != "ok":
                why = f"step {number} ({name}): {reason}"
                return _Done(steps, results, reply.text.strip(), status, why)
        reply = await ask(wording.messages("answer", **common, results=results))
        status, reason = status_of(reply)
        return _Done(steps, results, reply.text.strip(), status, reason)

    async def _fault_of(
        self,
        ask: Ask,
        wording: Wording,
        question: str,
        done: _Done,
        has_reference: bool,
        facts: dict[str, Any],
    ) -> str | None:
        """What the next plan should do better; None where the answer is right."""
        if has_reference:  # the teacher is not told what is right
            return None if facts["is_right"] else wording.text("not_right")
        steps = [step.model_dump() for step in done.steps]
        request: list[Message] = wording.messages(
            "verdict", question=question, steps=steps, results=done.results, answer=done.answer
        )
        try:
            verdict = await ask.into(AnswerCheck, request, tries=_TRIES)
        except Unparsed as fault:  # the answer is none the worse for it
            facts["no_verdict"] = str(fault)
            return None
        facts["verdict"] = verdict.model_dump()
        return None if verdict.is_right else verdict.fault.strip() or wording.text("not_right")
