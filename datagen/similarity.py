"""Measure how similar texts are by ROUGE-L, and find the most similar one of a growing pool.

ROUGE-L (Lin 2004, section 3) is the F1 of the longest common subsequence of two token lists:
2 LCS / (m + n). That is rapidfuzz's normalised Indel similarity, 1 - (m + n - 2 LCS) / (m + n).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import Indel

from warehouse.text.words import caseless, words

EXACT_UP_TO = 20_000
"""Texts that a new one is compared with one by one; beyond that MinHash names candidates."""
_PERMUTATIONS = 120  # many divisors: bands of any height
_RECALL = 0.99  # of the texts whose similarity is just the threshold
_SEED = 42
_SURROGATES = range(0xD800, 0xE000)  # code points that are no characters


def rouge_tokens(text: str) -> list[str]:
    """The words of a text without differences of case; in unspaced scripts its characters."""
    return words(caseless(text))


def rouge_l(left: str, right: str) -> float:
    """ROUGE-L of two texts, 0..1; two texts without a word are unlike."""
    a, b = rouge_tokens(left), rouge_tokens(right)
    return Indel.normalized_similarity(a, b) if a and b else 0.0


class SimilarTexts:
    """The texts of a pool, and which of them is most like a new one.

    Every word is a character here, so that a comparison takes well under a microsecond. Above
    `exact_up_to` texts MinHash (Broder 1997) names candidates by their words, and ROUGE-L decides.
    Of two texts with ROUGE-L s at least s / (2 - s) of all words are shared (the Jaccard similarity
    of their bags of words), and the bands find 99% of such pairs.

    Args:
        threshold: Least similarity that counts, 0 < threshold <= 1.
        exact_up_to: Texts that are compared one by one.
    """

    def __init__(self, threshold: float, exact_up_to: int = EXACT_UP_TO) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold is a similarity above 0, at most 1, not {threshold}")
        self.threshold, self.exact_up_to = threshold, exact_up_to
        self._codes: dict[str, str] = {}
        self._clear()

    def _clear(self) -> None:
        self.texts: list[str] = []
        self._coded: list[str] = []
        self._lsh: Any = None
        self._in_lsh = 0

    def update(self, texts: Sequence[str]) -> None:
        """Hold these texts; those that were held already, in the same order, cost nothing."""
        known = len(self.texts)
        if known > len(texts) or any(a != b for a, b in zip(self.texts, texts, strict=False)):
            self._clear()
            known = 0
        for text in texts[known:]:
            self.add(text)

    def add(self, text: str) -> None:
        """Hold one more text."""
        self.texts.append(text)
        self._coded.append("".join(map(self._code, rouge_tokens(text))))

    def most_similar(self, text: str) -> tuple[float, str] | None:
        """(similarity, text) of the most similar one, the first of equals; None below the threshold."""
        coded = "".join(map(self._code, rouge_tokens(text)))
        if not coded:
            return None
        pool: Sequence[str] | dict[int, str] = self._coded
        if len(self.texts) > self.exact_up_to:
            pool = {number: self._coded[number] for number in self._candidates(coded)}
        scorer, least = Indel.normalized_similarity, self.threshold
        found = process.extractOne(coded, pool, scorer=scorer, score_cutoff=least)
        return (found[1], self.texts[found[2]]) if found else None

    def _code(self, word: str) -> str:
        """The character that stands for a word."""
        code = self._codes.get(word)
        if code is None:
            number = len(self._codes) + 1
            if number >= _SURROGATES.start:
                number += len(_SURROGATES)
            code = self._codes[word] = chr(number)
        return code

    def _candidates(self, coded: str) -> list[int]:
        if self._lsh is None:
            from rensa import RMinHashLSH

            bands = _PERMUTATIONS // _rows_per_band(self.threshold / (2 - self.threshold))
            self._lsh = RMinHashLSH(self.threshold, _PERMUTATIONS, bands)
        for number in range(self._in_lsh, len(self._coded)):
            self._lsh.insert(number, _sketch(self._coded[number]))
        self._in_lsh = len(self._coded)
        return sorted(self._lsh.query(_sketch(coded)))


def _sketch(coded: str) -> Any:
    """MinHash of a bag of words: the second "the" of a text is another element than the first."""
    from rensa import RMinHash

    seen: Counter[str] = Counter()
    elements = []
    for word in coded:
        elements.append(f"{word}{seen[word]}")
        seen[word] += 1
    sketch = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    sketch.update(elements)
    return sketch


def _rows_per_band(jaccard: float) -> int:
    """The highest bands, and so the fewest candidates, that find a pair this alike."""
    heights = [n for n in range(_PERMUTATIONS, 0, -1) if _PERMUTATIONS % n == 0]
    for rows in heights:
        if 1 - (1 - jaccard**rows) ** (_PERMUTATIONS // rows) >= _RECALL:
            return rows
    return 1
