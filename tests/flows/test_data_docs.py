"""The page on data sets: its commands are run in order, and print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.support.cli import distill

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
VARYING = (
    (re.compile(r"\b\d{8}-\d{6}-[\w-]+"), "RUN"),
    (re.compile(r'(plan[ _]hash"?:? +"?)[0-9a-f]{32}'), r"\1PLAN"),
    (re.compile(r'(selection_id": ")[0-9a-f]{32}'), r"\1SELECTION"),
)


def test_the_commands_of_the_page_print_what_it_shows(tmp_path):
    shown = 0
    for kind, title, text in BLOCK.findall(PAGE.read_text()):
        if title:
            (tmp_path / title).write_text(text)
        if kind != "console":
            continue
        for part in text.split("$ ")[1:]:
            command, _, expected = part.partition("\n")
            assert said(tmp_path, shlex.split(command)) == expected.strip(), command
            shown += 1
    assert shown >= 10


def said(folder, words):
    """What a command prints: its errors only where it fails."""
    if words[0] == "tail":
        return (folder / words[-1]).read_text().splitlines()[-1]
    assert words[0] == "distill"
    done = distill(folder, *words[1:])
    text = done.stderr if done.returncode else done.stdout
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text.strip()
