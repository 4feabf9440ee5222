"""Read which of several lettered options a free answer takes."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

import regex

from warehouse.text import words
from warehouse.text.commitment import (
    Mention,
    Stance,
    grouped,
    is_announced,
    marked_parts,
    prepare,
    strip_marks,
)
from warehouse.text.named import settled_name

LETTERS = string.ascii_uppercase

_LETTER = regex.compile(
    r"(?<![\p{Latin}\p{M}\p{N}_]|\p{L}['-]|\p{Latin}\.)[A-Za-z]"
    r"(?![\p{Latin}\p{M}\p{N}_+#]|['-]\p{L})"
)
_INITIAL = regex.compile(r"\.\p{Latin}")  # "U.S.", "A.I."
_GOES_ON = regex.compile(
    r"""\s+(?!(?:is|isn't|was|wasn't|are|aren't|cannot|can't|can\s(?:not|be)|does|doesn't|has|would|wouldn't|must
      |should|may|might|seems|looks|fits|says|because|since|as|and|or|but|nor|not|being|which|due|too|also
      |instead|for|if|while|ist|sind|scheidet|und|oder|weil|denn|als|wie|kann|passt|nicht|auch|wäre|est|et|ou|car|mais
      |parce|n'est|sont|ne|es|y|o|no|porque|son|pero|sino|también|que|sería)(?!\p{L}))[\p{Ll}]""",
    regex.VERBOSE,
)  # "A mammal", "I choose": a word of the sentence, no option
_LONE = regex.compile(
    r"[^\w\n]*(?i:(?:option|choice|letter|la|el|le|die)\s+)?[^\w\n]*([A-Za-z])[^\w\n]*"
)
_BEFORE_FIRST = regex.compile(
    r"\W*(?i:(?:option|choice|letter|opción|antwort|réponse|la|el|le|die|选项|選択肢|विकल्प)\s*)?\W*"
)
_LAST_SENTENCE = regex.compile(r"[.!?。！？]\s+[(\"'\[]?([A-Z])[)\"'\]]?[.!。]?\s*$")
_LABEL = regex.compile(
    r"(?i)(?:(?:option|choice|letter|answer|opción|antwort|réponse)\s+|选项|選択肢|विकल्प\s+)$"
)
_ENDED = regex.compile(
    r"\s*(?:$|[.,;:!?。，；！)\]}\"'」』】\n]|(?:because|since|weil|car|porque|है|です|だ|。))"
)
_CLOSED = regex.compile(
    r"[.):\]}](?!\p{Latin}|\p{N})|,(?!\s*[A-Z](?!\p{L}))|\s*(?:$|\n)|(?=[\u3000-\u9fff])"
)


def read_choice(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the option that an answer takes; None where none can be told.

    Read are, in this order: what stands in <answer> tags or a box; the letter that an answer
    commits itself to ("the answer is B", "C is right"), the last one where there are several; a
    letter that begins a line ("B", "B.", "(B)", "Option B") if all such lines name the same one; a
    letter that begins the answer; and one option's text, announced or alone. A letter that is
    rejected ("A is wrong", "not A") is none of these, and two in one breath ("A and B") are none.
    """
    text = prepare(answer)
    for part in [*marked_parts(text), text]:
        if taken := _taken_letters(strip_marks(part).strip(), choices):
            return taken.pop() if len(taken) == 1 else None
    named = settled_name(answer, choices)
    return LETTERS[named] if named is not None and named < len(LETTERS) else None


def right_letters(choices: Sequence[str], reference: Sequence[str]) -> list[str]:
    """The letters of the right options: those whose text is a reference, else a named letter."""
    lettered = dict(zip(LETTERS, choices, strict=False))
    by_text = [letter for letter, text in lettered.items() if text in reference]
    return by_text or [letter for letter in lettered if letter in reference]


def _taken_letters(text: str, choices: Sequence[str]) -> set[str]:
    """The letters that a text takes at once: one, several if it is of two minds, or none."""
    letters = LETTERS[: len(choices)]
    if (lone := _LONE.fullmatch(text)) and lone[1].upper() in letters:
        return {lone[1].upper()}
    groups = [
        (values, stance, place)
        for values, stance, place in grouped(text, list(_mentions(text, choices)))
        if stance is not Stance.REJECTED
    ]
    lone_lines = [line for line in text.splitlines() if _LONE.fullmatch(line)]
    last_line = text.rpartition("\n")[2]
    if [last_line] == lone_lines and (letter := _LONE.fullmatch(last_line)[1].upper()) in letters:
        return {letter}
    last_sentence = _LAST_SENTENCE.search(text)
    if last_sentence and groups and groups[-1][2].start == last_sentence.start(1):
        return set(groups[-1][0])
    committed = [values for values, stance, _ in groups if stance is Stance.COMMITTED]
    if committed:
        return set(committed[-1])
    at_line = [
        values
        for values, _, place in groups
        if _begins(text[: place.start].rpartition("\n")[2]) and _CLOSED.match(text, place.end)
    ]
    if at_line:
        return set().union(*at_line)
    return next((set(values) for values, _, place in groups if _begins(text[: place.start])), set())


def _mentions(text: str, choices: Sequence[str]) -> Iterator[Mention]:
    """Where letters of options stand; no words ("A mammal"), and small ones only with a sign of it."""
    options = {
        letter: words.fold(choice).strip() for letter, choice in zip(LETTERS, choices, strict=False)
    }
    for match in _LETTER.finditer(text):
        start, end = match.span()
        option = options.get(match[0].upper())
        if option is None:
            continue
        own_text = regex.compile(
            r"[\s).:\]-]{0,4}" + regex.escape(option) + r"(?![\p{L}\p{N}])", regex.I
        )
        own = own_text.match(text, end) if option else None
        before, around = (
            text[max(0, start - 24) : start],
            text[start - 1 : start] + text[end : end + 1],
        )
        is_labelled = _LABEL.search(before) is not None
        is_word = match[0] in "aAI" and _GOES_ON.match(text, end) is not None
        if match[0].islower():
            is_enclosed = around in ("()", "[]") or (
                around[-1:] == ")" and not before.strip(" \n")[-1:].isalnum()
            )
            is_said = (is_announced(text, start) and _ENDED.match(text, end)) or (
                is_labelled and not is_word
            )
            is_option = is_enclosed or is_said
        else:
            is_option = is_labelled or own is not None or not (is_word or _INITIAL.match(text, end))
        if is_option:
            yield Mention(start, end, match[0].upper(), own.end() if own else end)


def _begins(before: str) -> bool:
    """Whether nothing but signs, and a word like "option", stands before."""
    return _BEFORE_FIRST.fullmatch(before) is not None
