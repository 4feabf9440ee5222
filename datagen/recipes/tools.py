"""Build tool calls in one or several steps, validated against the tools' JSON schemas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from datagen.ask import Ask, Unparsed
from datagen.copies import is_copy
from datagen.given_rows import GivenRows
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.tool_schemas import (
    MOST_CALLS,
    Tool,
    as_text,
    call_key,
    parse_tools,
    read_results,
    read_step,
    read_tools,
    step_schema,
)
from datagen.worded_recipe import WordedRecipe
from datagen.wording import Wording
from warehouse.errors import DataError
from warehouse.inputs.prompt_sources import PromptSources
from warehouse.inputs.refusal_phrases import declines
from warehouse.inputs.rows import RowSource, find_file
from warehouse.records import Message
from warehouse.tool_calls import ToolCall, call_message, result_messages, write_calls

Difficulty = Literal["one", "parallel", "chain"]


class Task(BaseModel):
    """What a user asks for."""

    task: str


class _Invalid(Exception):
    """The dialogue cannot be learned from."""

    def __init__(self, status: str, reason: str, raw: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.raw = status, reason, raw


@dataclass
class _Dialogue:
    """A dialogue so far, as the student sees it and as the teacher is shown it."""

    task: str
    student: list[Message]
    teacher: list[Message]
    results: list[dict[str, str]] = field(default_factory=list)
    made: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Tools(WordedRecipe, GivenRows):
    """Requests, the calls of tools that they need, and the answer; one example for each turn.

    The teacher plays the assistant and, where no results were recorded, the tools. Tasks are given or
    written from the tools' descriptions, as in Toolformer's successors ToolAlpaca (Tang et al., 2023,
    section 3: simulated tools) and Gorilla (Patil et al., 2023); calls are checked by their form as in
    APIGen (Liu et al., 2024, section 3.2), and tasks that no tool fits teach when not to call.
    """

    version: ClassVar[str] = "1"
    revision: ClassVar[int] = 1  # a turn with the same call twice was invalid, and makes it once
    has_tools: ClassVar[bool] = True

    tools: str | list[dict[str, Any]]
    """A JSON file with a list of tools, or the list: OpenAI's function tools with JSON schemas."""
    prompts: PromptSources | None = None  # type: ignore[assignment]
    """Given tasks: a file, "hf:org/name", or several with weights. Unset: the teacher writes them."""
    tasks: int = 100
    """Tasks that the teacher writes, where none are given."""
    tools_shown: int = 4
    """Tools of a written task, drawn anew for each; the student sees these alone."""
    difficulties: list[Difficulty] = field(default_factory=lambda: ["one", "parallel", "chain"])
    """What written tasks take: one call, several at once, or some after the results of others."""
    no_tool: float = 0.1
    """Share of written tasks, 0..1, that none of the tools fits; a call is then invalid."""
    results: str | None = None
    """A file of recorded results, rows of name, arguments and result; a call in it is not simulated."""
    simulate: bool = True
    """Whether the teacher plays the tools where no result was recorded; if not, the task is invalid."""
    max_steps: int = 4
    """Most turns of the assistant, the answer included."""
    tries: int = 3
    """Replies of a turn until it is given up; an invalid one is answered with its fault."""
    instruction: str | None = None
    """A system message for the teacher and the student."""

    def __post_init__(self) -> None:
        if not isinstance(self.tools, str):
            parse_tools(self.tools, "tools")
        if self.prompts is not None:
            super().__post_init__()
        elif (self.columns, self.split, self.holdout, self.limit) != (None,) * 4:
            raise ValueError(
                "columns, split, holdout and limit are of given tasks; name `prompts`, or set `tasks`"
            )
        for name in ("tasks", "tools_shown", "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more")
        if self.max_steps < 2:
            raise ValueError("max_steps is 2 or more: a call, and the answer after its result")
        if not self.difficulties:
            raise ValueError('difficulties names one or more of "one", "parallel", "chain"')
        if not 0 <= self.no_tool <= 1:
            raise ValueError("no_tool is a share from 0 to 1")
        if not self.simulate and self.results is None:
            raise ValueError("simulate = false needs `results`, a file of recorded results")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """From an answer at once to calls, each with its result, in every step but the last."""
        written = 0 if self.prompts is not None else 1
        simulated = MOST_CALLS * (self.max_steps - 1) if self.simulate else 0
        return (1 + written, self.tries * (written + self.max_steps + simulated))

    def input_files(self, folder: Path) -> list[Path]:
        """The template, the tools and the recorded results."""
        named = [name for name in (self.tools, self.results) if isinstance(name, str)]
        return [*super().input_files(folder), *(find_file(name, folder) for name in named)]

    def row_sources(self) -> list[RowSource]:
        """The files of given tasks."""
        return [] if self.prompts is None else super().row_sources()

    def student_tools(self, folder: Path) -> list[dict[str, Any]]:
        """All of the tools."""
        return [tool.schema for tool in read_tools(self.tools, folder)]

    async def prepare(self, folder: Path, ask: Ask) -> dict[str, Any]:
        """Read the tools and the recorded results.

        Raises:
            DataError: a file is missing or malformed, or no call can have a result.
        """
        tools = read_tools(self.tools, folder)
        results = read_results(self.results, folder) if self.results else {}
        names = {tool.name for tool in tools}
        if not self.simulate and names.isdisjoint(json.loads(key)[0] for key in results):
            raise DataError(
                f"{self.results} has no result of any tool ({', '.join(sorted(names))}), and with "
                "simulate = false no other call has one; correct the names, or leave simulate out"
            )
        return {"tools": [tool.schema for tool in tools], "results": results}

    def seeds(self, folder: Path, prepared: dict[str, Any]) -> Iterator[Seed]:
        """One for each given task, or for each task to write."""
        if self.prompts is not None:
            yield from super().seeds(folder, prepared)
            return
        for number in range(self.tasks):
            is_none = int((number + 1) * self.no_tool) > int(number * self.no_tool)
            yield Seed({"task": number, **({"no_tool": True} if is_none else {})}, "", number)

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Play the dialogue, then yield its turns; where a turn is invalid, that one alone."""
        wording = self.wording(ask.folder)
        tools = [Tool(schema) for schema in ask.prepared["tools"]]
        facts: dict[str, Any] = {}
        turns: list[tuple[list[Message], str, list[ToolCall], str]] = []
        try:
            if "messages" in seed.value:
                asked = seed.value["messages"]
            else:
                drawn = sorted(seed.random.sample(range(len(tools)), min(self.tools_shown, len(tools))))  # fmt: skip
                tools = [tools[number] for number in drawn]
                difficulty = seed.random.choice(self.difficulties)
                facts["difficulty"] = "none" if "no_tool" in seed.value else difficulty
                asked = await self._write_task(seed, ask, wording, tools, facts)
            facts["tools"] = [tool.schema for tool in tools]
            async for turn in self._play(asked, ask, wording, tools, facts):
                turns.append(turn)
        except Unparsed as fault:
            yield Example([], fault.raw, status=fault.status, reason=str(fault), facts=facts)
            return
        except _Invalid as fault:
            yield Example([], fault.raw, status=fault.status, reason=fault.reason, facts=facts)
            return
        for step, (messages, completion, calls, call_id) in enumerate(turns, start=1):
            told = {**facts, "step": step, "steps": len(turns)}
            if calls:
                told["tool_calls"] = calls
            question = asked[-1]["content"]
            yield Example(messages, completion, question, facts=told, call_id=call_id)

    async def _write_task(
        self, seed: Seed, ask: Ask, wording: Wording, tools: list[Tool], facts: dict[str, Any]
    ) -> list[Message]:
        askers = [line.strip() for line in wording.text("askers").splitlines() if line.strip()]
        facts["asker"] = seed.random.choice(askers)
        request = wording.messages(
            "task",
            tools=[tool.shown() for tool in tools],
            difficulty=facts["difficulty"],
            asker=facts["asker"],
        )
        # Greedy decoding would give the same task; a drawn one differs for each number.
        draw = seed.value["task"] if ask.sampling.temperature else 0
        task: Task = await ask.into(Task, request, tries=self.tries, draw=draw, check=_blank)
        return [{"role": "user", "content": task.task.strip()}]

    async def _play(
        self,
        asked: list[Message],
        ask: Ask,
        wording: Wording,
        tools: list[Tool],
        facts: dict[str, Any],
    ) -> AsyncIterator[tuple[list[Message], str, list[ToolCall], str]]:
        """The assistant's turns: (messages before, completion, its calls, the teacher's call).

        Raises:
            _Invalid, Unparsed: a turn, or the result of a call, cannot be used.
        """
        dialogue = self._begin(asked, wording, tools)
        schema = step_schema(tools)
        needs = facts.get("difficulty")
        for _ in range(self.max_steps):
            calls, answer = await ask.into_json(
                schema,
                dialogue.teacher,
                name="turn",
                tries=self.tries,
                validate=partial(_read_turn, tools=tools, made=dialogue.made),
            )
            call_id = ask.calls[-1].call_id
            before = list(dialogue.student)
            if not calls:
                self._check_answer(answer, needs, bool(dialogue.made))
                if is_copy(answer, dialogue.task):
                    raise _Invalid("invalid", "the answer is the request again", answer)
                yield before, answer, [], call_id
                return
            text = write_calls(calls)
            if needs == "none":
                raise _Invalid("invalid", "a tool was called, and none fits the task", text)
            yield before, text, calls, call_id
            results = [await self._result(call, ask, wording, tools, dialogue) for call in calls]
            message = call_message(calls, before)
            dialogue.student += [message, *result_messages(message, results)]
            step = as_text({"calls": calls, "answer": ""})
            told = dialogue.results[-len(calls) :]
            dialogue.teacher += [
                {"role": "assistant", "content": step},
                {"role": "user", "content": wording.text("results", results=told)},
            ]
        raise _Invalid("invalid", f"no answer in max_steps = {self.max_steps} turns", text)

    def _begin(self, asked: list[Message], wording: Wording, tools: list[Tool]) -> _Dialogue:
        own = [self.instruction] if self.instruction else []
        system = [*own, *(m["content"] for m in asked if m["role"] == "system")]
        rest = [message for message in asked if message["role"] != "system"]
        instruction = "\n\n".join(system)
        shown = wording.text(
            "system", tools=[tool.shown() for tool in tools], instruction=instruction
        )
        head = [{"role": "system", "content": instruction}] if system else []
        return _Dialogue(
            task=rest[-1]["content"],
            student=[*head, *rest],
            teacher=[{"role": "system", "content": shown}, *rest],
        )

    @staticmethod
    def _check_answer(answer: str, needs: str | None, has_called: bool) -> None:
        if needs == "none":
            return  # to say that it cannot be done is right here
        if needs is not None and not has_called:
            raise _Invalid("invalid", "the task needs a tool, and none was called", answer)
        if declines(answer):
            raise _Invalid("refused", "the teacher declined to answer", answer)

    async def _result(
        self, call: ToolCall, ask: Ask, wording: Wording, tools: list[Tool], dialogue: _Dialogue
    ) -> str:
        """The result of a call: the recorded one, or the teacher's as the tool."""
        key = call_key(call)
        tool = next(tool for tool in tools if tool.name == call["name"])
        result: str | None = ask.prepared["results"].get(key)
        if result is None:
            if not self.simulate:
                reason = f"no result is recorded for this call of {tool.name}"
                raise _Invalid("invalid", reason, write_calls([call]))
            result = await self._simulated(call, ask, wording, tool, dialogue)
        dialogue.made.add(key)
        arguments = as_text(call["arguments"])
        dialogue.results.append({"name": tool.name, "arguments": arguments, "text": result})
        return result

    async def _simulated(
        self, call: ToolCall, ask: Ask, wording: Wording, tool: Tool, dialogue: _Dialogue
    ) -> str:
        request = wording.messages(
            "simulate",
            tool=tool.shown(),
            task=dialogue.task,
            arguments=as_text(call["arguments"]),
            results=dialogue.results,
            has_schema=tool.returned is not None,
        )
        if tool.returned is not None:
            value = await ask.into_json(tool.returned, request, name="result", tries=self.tries)
            return as_text(value)
        reply = await ask(request)
        status, reason = status_of(reply)
        if status != "ok":
            raise _Invalid(status, f"the result of {tool.name}: {reason}", reply.text.strip())
        return reply.text.strip()


def _blank(task: Task) -> str | None:
    return None if task.task.strip() else "the task is empty"


def _read_turn(value: Any, tools: list[Tool], made: set[str]) -> tuple[list[ToolCall], str]:
    calls, answer = read_step(value, tools)
    for call in calls:
        if call_key(call) in made:
            raise ValueError(f"that call of {call['name']} was made before; use its result")
    return calls, answer
