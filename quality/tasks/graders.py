"""Grade parsed answers against references. Short texts are in `quality.text.normalize`.

Each abstains where nothing says what is right, and never for a strange answer: an answer from
which nothing can be read is wrong, and counted as unread beside it (`answered`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from quality.tasks.benchmark import Grade
from quality.text.normalize import contains, numbers, token_f1
from warehouse.text import words

CHOICE_METRICS = ("accuracy", "answered")
CLASS_METRICS = ("accuracy", "answered")
NUMERIC_METRICS = ("numeric",)
LETTERS = string.ascii_uppercase

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LEADING_ARTICLES = re.compile(r"\b(?:The |the |An |A |The |a |an )")
_MARKS = re.compile(r"[*_`$]+|\\(?:text|boxed|mathrm|textbf)\b")
_STATED = re.compile(
    r"(?i:\b(?:answer|(?:correct|right|best)\s+(?:choice|option|one)))(?i:\s+(?:is|would\s+be))?"
    r"[\s:({\[]*(?i:(?:the\s+)?(?:option|choice|letter)\b[\s:({\[]*)?"
    r"([B-HJ-Z](?![\w'’])|[AI](?![\w'’])(?!\s+(?!because\b|since\b|as\b)[a-z]))"
)  # "the answer is A mammal" names no option
_AT_LINE = re.compile(
    r"(?m)^\W*(?i:(?:option|choice|letter)\s+)?\W*([A-Za-z])"
    r"(?:[.):\]}](?!\w)|,(?!\s*[A-Z]\b)|\W*$)"
)
_WORD = regex.compile(r"[\w\p{M}\u200c\u200d.+/-]*[\w\p{M}\u200c\u200d]")
_NOT_WORKED_OUT = re.compile(r"\d[\s)]*[*×·+÷x][\s($]*[\d.,]*\d\W*$")
_AT_START = re.compile(r"\W*(?i:(?:option|choice|letter)\s+)?([B-HJ-Z])(?=\s)")


def harness_exact_match(answer: str, references: Sequence[str], articles: bool) -> float:
    """Exact match as lm-evaluation-harness (0.4.13) has it for `nq_open` and `triviaqa`.

    The answer loses outer white space (filter `remove_whitespace`); then both lose case and
    punctuation, and with `articles` (nq_open) each article that a space follows. Unlike SQuAD's
    normalisation, inner white space stays, and so do the articles of `triviaqa`.
    """

    def form(text: str) -> str:
        text = _LEADING_ARTICLES.sub("", text) if articles else text
        return text.lower().translate(_PUNCTUATION)

    given_answer = form(answer.strip())
    return float(any(given_answer == form(wanted) for wanted in references))


def grade_harness(references: Sequence[str], answer: str, articles: bool) -> Grade:
    """The harness's exact match, and token F1 and containment in SQuAD's normalisation."""
    if not references:
        return Grade(dict.fromkeys(("exact_match", "f1", "contains")), "no reference answer")
    return Grade(
        {
            "exact_match": harness_exact_match(answer, references, articles),
            "f1": max(token_f1(answer, wanted) for wanted in references),
            "contains": max(contains(answer, wanted) for wanted in references),
        }
    )


def right_letters(choices: Sequence[str], reference: Sequence[str]) -> list[str]:
    """The letters of the right options: those whose text is a reference, else a named letter."""
    lettered = dict(zip(LETTERS, choices, strict=False))
    by_text = [letter for letter, text in lettered.items() if text in reference]
    return by_text or [letter for letter in lettered if letter in reference]


def read_choice(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the option that an answer takes; None where none can be told.

    Read are, in this order: "the answer is B" (the last one said), a letter that begins a line
    ("B", "B.", "(B)", "**B**", "Option B") if all such lines name the same one, a letter that
    begins the answer, and one option's text, alone or as the only one within the answer.
    """
    text = words.fold(_MARKS.sub("", answer)).strip()
    letters = LETTERS[: len(choices)]
    stated: list[str] = [letter for letter in _STATED.findall(text) if letter in letters]
    if stated:
        return stated[-1]
    begun = {letter.upper() for letter in _AT_LINE.findall(text) if letter.upper() in letters}
    if begun:
        return begun.pop() if len(begun) == 1 else None
    first = _AT_START.match(text)
    if first and first[1] in letters:
        return first[1]
    named = _named(answer, choices)
    return letters[named] if named is not None else None


def grade_choice(choices: Sequence[str], reference: Sequence[str], answer: str) -> Grade:
    """Whether the option that is taken is the right one, and whether any could be read."""
    right = right_letters(choices, reference)
    if not right:
        return Grade(dict.fromkeys(CHOICE_METRICS), "no reference among the choices")
    choice = read_choice(answer, choices)
    return _graded(choice, choice if choice in right else right[0])


def read_class(answer: str, classes: Sequence[str]) -> str | None:
    """The class that an answer names: the one it begins with, else the only one within it."""
    text = f"{_words(answer)} "
    begun = [name for name in classes if text.startswith(f"{_words(name)} ")]
    if begun:
        return max(begun, key=len)
    named = _named(answer, classes)
    return classes[named] if named is not None else None


def grade_class(classes: Sequence[str], reference: Sequence[str], answer: str) -> Grade:
    """Whether the class that is named is the right one, and whether any could be read."""
    known = {_words(name): name for name in classes}
    right = [known[_words(text)] for text in reference if _words(text) in known]
    if not right:
        return Grade(dict.fromkeys(CLASS_METRICS), "no reference among the classes")
    label = read_class(answer, classes)
    return _graded(label, label if label in right else right[0])


def grade_numeric(reference: Sequence[str], answer: str) -> Grade:
    """Whether the last number of the answer is that of a reference; a percent sign aside.

    An answer that ends in a sum or a product that it does not work out ("365 * 12") says none.
    """
    wanted = {
        found_numbers[-1].rstrip("%") for text in reference if (found_numbers := numbers(text))
    }
    if not wanted:
        return Grade(dict.fromkeys(NUMERIC_METRICS), "no number in the reference")
    answer_numbers = [] if _NOT_WORKED_OUT.search(answer) else numbers(answer)
    last = answer_numbers[-1].rstrip("%") if answer_numbers else None
    details = {"said": last, "right": sorted(wanted)[0]}
    return Grade({"numeric": float(last in wanted)}, details=details)


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is told; None where there is nothing to divide by."""

    precision: float | None
    """Of the answers that name it, the share that is right. None: it was never named."""
    recall: float | None
    """Of the items whose class it is, the share that is found. None: there are none."""
    f1: float
    n: int
    """Items whose class it is."""


def class_figures(pairs: Sequence[tuple[str | None, str]]) -> dict[str, ClassFigures]:
    """Precision, recall and F1 of each class, from (said, right); said None is found by no class."""
    figures = {}
    for name in sorted({name for pair in pairs for name in pair if name is not None}):
        true_positives = sum(predicted == name == right for predicted, right in pairs)
        named = sum(predicted == name for predicted, _ in pairs)
        n = sum(right == name for _, right in pairs)
        figures[name] = ClassFigures(
            precision=true_positives / named if named else None,
            recall=true_positives / n if n else None,
            f1=2 * true_positives / (named + n),
            n=n,
        )
    return figures


def macro_f1(figures: dict[str, ClassFigures]) -> float | None:
    """The mean of the classes' F1, each class counting the same; None without any."""
    return sum(each.f1 for each in figures.values()) / len(figures) if figures else None


def _graded(predicted: str | None, right: str) -> Grade:
    values: dict[str, float | None] = {
        "accuracy": float(predicted == right),
        "answered": float(predicted is not None),
    }
    return Grade(values, details={"said": predicted, "right": right})


def _named(answer: str, texts: Sequence[str]) -> int | None:
    """Which of the texts is the answer, or the only one in it that no longer one there holds."""
    if answer.strip() in texts:
        return texts.index(answer.strip())
    answer_form = f" {_words(answer)} "
    forms = [f" {_words(text)} " for text in texts]
    matches = {form for form in forms if form.strip() and form in answer_form}
    if answer_form in matches:
        matches = {answer_form}
    longest = [
        form for form in matches if not any(form != other and form in other for other in matches)
    ]
    alone = len(longest) == 1 and forms.count(longest[0]) == 1
    return forms.index(longest[0]) if alone else None


def _words(text: str) -> str:
    found = _WORD.findall(words.caseless(text))
    return " ".join(part for word in found for part in words.tokens(word))
