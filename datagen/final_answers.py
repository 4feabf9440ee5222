"""Find the final answer of a reasoned reply, and compare it with what is right or with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import regex

from warehouse.text.commitment import marked_parts, strip_marks
from warehouse.text.lettered import read_choice, right_letters
from warehouse.text.normalize import answer_tokens, exact_match, same_value
from warehouse.text.numeric_answers import read_quantity
from warehouse.text.quantities import Quantity, quantities, readable, same
from warehouse.text.words import count_words, fold

Check = Literal["reference", "numeric", "choice"]

_HASHES = regex.compile(r"####[ \t]*(\S[^\n]*)")
_SIGNS = r"[\s>#*_`\-]*"
_WORDS_BEFORE = r"(?:\p{L}{1,12}[ \t]?){0,2}?"
_IS = r"(?:\p{L}{1,5}[ \t*_`]*)?"  # "The answer is: 7", "答案是：7"


def final_answer(text: str, marker: str) -> str | None:
    r"""What a reply announces as its answer, folded and without Markdown; None where nothing is.

    Read are, in this order: what follows the last marker that begins a line or a sentence ("Answer:
    7", "**Final answer:** 7", "答案：7"), up to the end of that line; the last \boxed{} or <answer>;
    the last line after `####`.

    Args:
        text: The reply.
        marker: What was agreed on to stand before the answer, such as "Answer:".
    """
    text = fold(text)
    stem = regex.escape(fold(marker).strip().rstrip(":").rstrip())
    announced = list(
        regex.finditer(
            rf"(?:^|(?<=[.!?。！？।]\s*)){_SIGNS}{_WORDS_BEFORE}{stem}[ \t*_`]*{_IS}:{_SIGNS}([^\n]*)",
            text,
            regex.IGNORECASE | regex.MULTILINE,
        )
    )
    found = [announced[-1][1]] if announced else []
    found += marked_parts(text)[:1]
    found += [match[1] for match in _HASHES.finditer(text)][-1:]
    cleaned = (_without_box(part) for part in found)
    return next((part for part in cleaned if answer_tokens(part)), None)


def fault_of(
    answer: str, check: Check, references: Sequence[str], choices: Sequence[str] = ()
) -> str | None:
    """Why a final answer is not right; None where it is.

    Args:
        answer: The final answer.
        check: "reference" compares words and values, "numeric" quantities alone (3/4 is 0.75, 1,000
            is 1000, units are left out), "choice" the options that are taken.
        references: Right answers, one of which is enough.
        choices: The options of a question of choice.
    """
    if check == "choice":
        letter = read_choice(answer, choices)
        if letter is None:
            return "no option can be read from the answer"
        is_right = letter in right_letters(choices, references)
        return None if is_right else "the answer is a wrong option"
    if check == "numeric":
        given = read_quantity(answer)
        if given is None:
            return "the answer holds no number"
        if given.kind == "unsolved":
            return "the answer is a calculation that is not worked out"
        wanted = [found for text in references if (found := read_quantity(text))]
        is_right = any(same(given, quantity) for quantity in wanted)
        return None if is_right else "the answer is another number than the reference"
    is_right = any(same_answer(answer, reference) for reference in references)
    return None if is_right else "the answer is not the reference"


def missing_for(check: Check, references: Sequence[str], choices: Sequence[str]) -> str | None:
    """Why nothing can be checked for a row; None where it can."""
    if check == "choice" and not choices:
        return "the row has no choices to check against"
    if check == "choice" and not right_letters(choices, references):
        return "no reference of the row is among its choices"
    if not references:
        return "the row has no reference to check against"
    if check == "numeric" and not any(map(read_quantity, references)):
        return "the row's reference holds no number"
    return None


def same_answer(one: str, other: str) -> bool:
    """Whether two short answers say the same: the same words, or the same value."""
    if exact_match(one, other) or same_value(one, other):
        return True
    quantities_of_both = [_bare_quantity(text) for text in (one, other)]
    first, second = quantities_of_both
    return first is not None and second is not None and same(first, second)


def count_answers(answers: Sequence[str | None], choices: Sequence[str] = ()) -> list[str | None]:
    """Each answer in one form for all that say the same: an option's letter, else the first of them."""
    forms: list[str] = []
    counted: list[str | None] = []
    for answer in answers:
        if answer is not None and choices:
            answer = read_choice(answer, choices)
        if answer is not None:
            known = next((form for form in forms if same_answer(form, answer)), None)
            if known is None:
                forms.append(answer)
            answer = known or answer
        counted.append(answer)
    return counted


def _bare_quantity(text: str) -> Quantity | None:
    """The quantity of a text that is one quantity and at most a unit: "3/4", "12 km"."""
    plain = readable(strip_marks(text))
    found = quantities(plain)
    if len(found) != 1 or found[0].kind == "unsolved":
        return None
    rest = f"{plain[: found[0].start]} {plain[found[0].end :]}"
    return found[0] if count_words(regex.sub(r"[^\p{L}\s]", "", rest)) <= 1 else None


def _without_box(part: str) -> str:
    boxed = marked_parts(part)
    return strip_marks(boxed[0] if boxed else part).strip()
