"""Write counts with their nouns and hints for unknown words, for messages and reports."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def format_count(number: int, noun: str, plural: str = "") -> str:
    """A count with its noun in the singular or plural: `1 prompt`, `1,200 prompts`.

    Args:
        number: The count.
        noun: The noun in the singular; its last word takes the ending.
        plural: The plural where it is irregular: `format_count(2, "reply")` finds `replies`,
            `format_count(2, "child", "children")` has to be told.
    """
    if number == 1:
        return f"1 {noun}"
    ending = noun[-2:]
    if not plural and ending[-1] == "y" and ending[0] not in "aeiou":
        plural = f"{noun[:-1]}ies"
    elif not plural:
        plural = f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
    return f"{number:,} {plural}"


def be(number: int) -> str:
    """The verb for a count: `1 item is`, `2 items are`."""
    return "is" if number == 1 else "are"


def did_you_mean(word: str, allowed: Sequence[str]) -> str:
    """A hint for an unknown word: the nearest allowed one, else the list of them all."""
    near = get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
