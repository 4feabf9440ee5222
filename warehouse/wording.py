"""Write counts with their nouns, for messages and reports."""

from __future__ import annotations


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
