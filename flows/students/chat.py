"""Chat with a student in the terminal, or line by line through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datagen.tool_schemas import read_tools
from distill.plan.plan import load_plan
from distill.report.report import printable
from flows.runtime.progress import say
from flows.students.find import find_student
from train.model.chat import Chat
from train.model.inference import Generator
from train.model.student import TUNER_FILE
from train.model.tool_template import INSTEAD, tokenizer_tools_fault
from warehouse.errors import ModelError, UsageError

HELP = "/reset starts again, /system TEXT sets a system message and starts again, /exit leaves"
TOOLS_HELP = "/result TEXT gives a call of a tool its result"


def chat(
    plan_path: str | None,
    overrides: Sequence[str] = (),
    student: str | None = None,
    warehouse: str | None = None,
    base: bool = False,
    compare: bool = False,
    system: str | None = None,
    max_new_tokens: int = 256,
    tools: str | None = None,
    without_tools: bool = False,
) -> None:
    """Load the models, then answer until the input ends.

    Args:
        plan_path: A plan; its own student is meant.
        overrides: The plan's overrides.
        student: Another student: the start of its id, or a folder of a student or of a model.
        warehouse: Where ids are looked up.
        base: The untuned base in the student's place.
        compare: The student and its base, one after the other.
        system: A system message.
        max_new_tokens: Longest answer in tokens.
        tools: A JSON file with tools that may be called; left out, those of the plan's recipes.
        without_tools: Give no tools, also not those of the plan.

    Raises:
        UsageError: what was named does not go together.
        ModelError: `tools` is given, and the chat template does not know tools.
    """
    if tools is not None and without_tools:
        raise UsageError("--tools and --no-tools exclude each other; give one of them")
    schemas: list[dict[str, Any]] = []
    if tools is not None:
        schemas = [tool.schema for tool in read_tools(tools, Path())]
    elif plan_path and not without_tools:
        schemas = _tools_of_plan(plan_path, overrides)
    places = _places(plan_path, overrides, student, warehouse, base, compare)
    chats = {
        name: Chat(Generator(where, learned), max_new_tokens, system)
        for name, (where, learned) in places.items()
    }
    if schemas:
        _give_tools(chats, schemas, is_wanted=tools is not None)
    has_tools = any(chat.tools for chat in chats.values())
    commands = f"{HELP}, {TOOLS_HELP}" if has_tools else HELP
    terminal = sys.stdin.isatty()
    if terminal:
        say(f"{' and '.join(chats)}, greedy; {commands}")
    for line in _lines(terminal):
        if not line.startswith("/"):
            _answer(chats, line, terminal)
        elif line.startswith("/result ") and has_tools:
            _answer(chats, line.removeprefix("/result ").strip(), terminal, is_result=True)
        elif line == "/exit":
            return
        elif line == "/reset":
            _reset(chats, None)
        elif line.startswith("/system "):
            _reset(chats, line.removeprefix("/system ").strip())
        else:
            say(commands if line == "/help" else f"no command '{line}'; {commands}")


def _places(
    plan_path: str | None,
    overrides: Sequence[str],
    student: str | None,
    warehouse: str | None,
    base: bool,
    compare: bool,
) -> dict[str, tuple[str, Path | None]]:
    """The models to chat with by name: a base and, for a student, its folder."""
    if base and plan_path and student is None and not compare:  # there need be no student yet
        return {"base": (load_plan(plan_path, overrides).training.base, None)}
    if student is not None and _is_model(Path(student)):
        if base or compare:
            raise UsageError(f"{student} is a whole model, without a base")
        return {"model": (student, None)}
    trained = find_student(plan_path, overrides, student, warehouse)
    both: dict[str, tuple[str, Path | None]] = {
        "student": (trained.base, trained.path),
        "base": (trained.base, None),
    }
    if compare:
        return both
    return {"base": both["base"]} if base else {"student": both["student"]}


def _tools_of_plan(plan_path: str, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The tools of all recipes of a plan, each name once."""
    plan = load_plan(plan_path, overrides)
    schemas: dict[str, dict[str, Any]] = {}
    for recipe in plan.datagen.recipe:
        for schema in recipe.student_tools(plan.folder):
            schemas.setdefault(schema["function"]["name"], schema)
    return list(schemas.values())


def _give_tools(chats: dict[str, Chat], schemas: list[dict[str, Any]], is_wanted: bool) -> None:
    """Give the tools to all models whose chat template knows tools.

    Raises:
        ModelError: it does not, and the tools are wanted: they are no default.
    """
    for chat in chats.values():
        fault = tokenizer_tools_fault(chat.generator.tokenizer)
        if fault is None:
            chat.tools = schemas
        elif is_wanted:
            raise ModelError(f"the chat template {fault}; {INSTEAD}")
        else:
            say(f"note: no tools are given, since the chat template {fault}")
            return
    if not is_wanted:
        names = ", ".join(schema["function"]["name"] for schema in schemas)
        say(f"note: the plan's tools are given ({names}); --no-tools leaves them out")


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (folder / TUNER_FILE).is_file()


def _lines(terminal: bool) -> Iterator[str]:
    """What the user says, line by line, until the input ends or Ctrl-C at the prompt."""
    if terminal:
        with suppress(ImportError):  # not on every system
            import readline  # noqa: F401 (gives `input` its history)
    while True:
        try:
            line = input("> ") if terminal else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not terminal and not line:
            return
        if line.strip():
            yield line.strip()


def _answer(chats: dict[str, Chat], line: str, terminal: bool, is_result: bool = False) -> None:
    """Print each one's answer to a message, or to a tool's result; Ctrl-C cuts it off."""
    if is_result and len(chats) > 1:  # one may have called a tool, and the other not
        chats = {name: chat for name, chat in chats.items() if chat.open_calls} or chats
    for name, chat in chats.items():
        if len(chats) > 1:
            print(f"{name}: ", end="")
        try:
            if is_result:
                chat.give_result(line, _print_piece)
            else:
                chat.say(line, _print_piece)
        except ModelError as error:
            if not terminal:
                raise
            say(str(error))
        except KeyboardInterrupt:
            print()
            if not terminal:
                raise
            return
        print(flush=True)


def _print_piece(piece: str) -> None:
    print(printable(piece), end="", flush=True)


def _reset(chats: dict[str, Chat], system: str | None) -> None:
    for chat in chats.values():
        chat.reset(system)
