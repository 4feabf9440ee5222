"""Chat with a student in the terminal, or line by line through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from distill.plan.plan import load_plan
from distill.report.report import printable
from flows.runtime.progress import say
from flows.students.find import find_student
from train.model.chat import Chat
from train.model.inference import Generator
from train.model.student import TUNER_FILE
from warehouse.errors import ModelError, UsageError

HELP = "/reset starts again, /system TEXT sets a system message and starts again, /exit leaves"


def chat(
    plan_path: str | None,
    overrides: Sequence[str] = (),
    student: str | None = None,
    warehouse: str | None = None,
    base: bool = False,
    compare: bool = False,
    system: str | None = None,
    max_new_tokens: int = 256,
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
    """
    places = _places(plan_path, overrides, student, warehouse, base, compare)
    chats = {
        name: Chat(Generator(where, learned), max_new_tokens, system)
        for name, (where, learned) in places.items()
    }
    terminal = sys.stdin.isatty()
    if terminal:
        say(f"{' and '.join(chats)}, greedy; {HELP}")
    for line in _lines(terminal):
        if not line.startswith("/"):
            _answer(chats, line, terminal)
        elif line == "/exit":
            return
        elif line == "/reset":
            _reset(chats, None)
        elif line.startswith("/system "):
            _reset(chats, line.removeprefix("/system ").strip())
        else:
            say(HELP if line == "/help" else f"no command '{line}'; {HELP}")


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


def _answer(chats: dict[str, Chat], line: str, terminal: bool) -> None:
    """Print each one's answer; Ctrl-C cuts it off."""
    for name, chat in chats.items():
        if len(chats) > 1:
            print(f"{name}: ", end="")
        try:
            chat.say(line, lambda piece: print(printable(piece), end="", flush=True))
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


def _reset(chats: dict[str, Chat], system: str | None) -> None:
    for chat in chats.values():
        chat.reset(system)
