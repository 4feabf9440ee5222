"""Grade parsed answers against references. Short texts are in `warehouse.text.normalize`.

Each abstains where nothing says what is right, and never for a strange answer: an answer from
which nothing can be read is wrong, and counted as unread beside it (`answered`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from quality.tasks.benchmark import Grade
from warehouse.text.lettered import read_choice, right_letters
from warehouse.text.named import name_tokens, read_class
from warehouse.text.normalize import contains_answer, token_f1
from warehouse.text.numeric_answers import read_quantity
from warehouse.text.quantities import Quantity, same

CHOICE_METRICS = ("accuracy", "answered")
CLASS_METRICS = ("accuracy", "answered")
NUMERIC_METRICS = ("numeric",)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LEADING_ARTICLES = re.compile(r"\b(?:The |the |An |A |The |a |an )")


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
            "contains": max(contains_answer(answer, wanted) for wanted in references),
        }
    )


def grade_choice(choices: Sequence[str], reference: Sequence[str], answer: str) -> Grade:
    """Whether the option that is taken is the right one, and whether any could be read."""
    right = right_letters(choices, reference)
    if not right:
        return Grade(dict.fromkeys(CHOICE_METRICS), "no reference among the choices")
    choice = read_choice(answer, choices)
    return _graded(choice, choice if choice in right else right[0])


def grade_class(classes: Sequence[str], reference: Sequence[str], answer: str) -> Grade:
    """Whether the class that is named is the right one, and whether any could be read."""
    known = {_form(name): name for name in classes}
    right = [known[_form(text)] for text in reference if _form(text) in known]
    if not right:
        return Grade(dict.fromkeys(CLASS_METRICS), "no reference among the classes")
    label = read_class(answer, classes)
    return _graded(label, label if label in right else right[0])


def grade_numeric(reference: Sequence[str], answer: str) -> Grade:
    """Whether the quantity that the answer gives has the value of a reference: 3/4 is 0.75.

    An answer that ends in a sum or a product that it does not work out ("365 * 12") gives none.
    """
    wanted = [quantity for text in reference if (quantity := _solved(text))]
    if not wanted:
        return Grade(dict.fromkeys(NUMERIC_METRICS), "no number in the reference")
    given = _solved(answer)
    is_right = given is not None and any(same(given, quantity) for quantity in wanted)
    details = {"said": str(given) if given else None, "right": str(wanted[0])}
    return Grade({"numeric": float(is_right)}, details=details)


def _solved(text: str) -> Quantity | None:
    quantity = read_quantity(text)
    return None if quantity is None or quantity.kind == "unsolved" else quantity


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


def _form(text: str) -> str:
    return " ".join(name_tokens(text))
