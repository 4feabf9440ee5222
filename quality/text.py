"""Comparing short answers: exact match, token F1, containment.

The normalisation is that of SQuAD (Rajpurkar et al., 2016, section 4.3 and the official
evaluation script): lower case, no punctuation, no articles, single spaces.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise_answer(text: str) -> str:
    """Lower case, punctuation and articles removed, white space folded."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """1.0 if both are the same after normalisation, else 0.0."""
    return float(normalise_answer(answer) == normalise_answer(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, 0..1."""
    said, wanted = normalise_answer(answer).split(), normalise_answer(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def contains(answer: str, reference: str) -> float:
    """1.0 if the reference stands in the answer as whole words, else 0.0."""
    wanted = normalise_answer(reference)
    return float(bool(wanted) and f" {wanted} " in f" {normalise_answer(answer)} ")
