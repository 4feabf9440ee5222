"""Count personal data in the completion by kind, and redact it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from quality.scoring.scorer import Scorer, Verdict
from warehouse.errors import AssetError
from warehouse.records import Sample

ENTITIES = (
    "CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MEDICAL_LICENSE",
    "PHONE_NUMBER", "US_ITIN", "US_SSN",
)  # fmt: skip
# Some of the patterns take time that grows with the square of the text.
_CHUNK, _SHARED = 4_000, 200  # characters; no finding is longer than what neighbours share
_MIN_SCORE = 0.4  # what a telephone number has without a word such as "call" beside it


@dataclass
class Pii(Scorer):
    """Personal data found by the pattern recognisers of Presidio (Microsoft, 2018).

    E-mail addresses, telephone, card and account numbers and the like, by pattern and checksum;
    names and places are not looked for. Details hold kinds and places, never the data itself.
    """

    version: ClassVar[str] = "1"
    scale: ClassVar[tuple[float, float] | None] = (0.0, math.inf)
    higher_is_better: ClassVar[bool | None] = False
    labels: ClassVar[tuple[str, ...]] = ENTITIES

    min_score: float = _MIN_SCORE
    """Least confidence of a finding, 0..1."""
    redact: bool = False
    """Also give the text with each finding replaced by its kind, in details["redacted"]."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score is from 0 to 1, not {self.min_score}")

    @property
    def model(self) -> str:
        """Patterns and checksums."""
        return "presidio patterns"

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """The number of findings in each completion; abstains on empty text."""
        for sample in samples:
            text = sample.completion
            if not text.strip():
                yield Verdict(None, "no completion")
                continue
            spans = findings(text, self.min_score)
            counts = Counter(entity for entity, _, _ in spans)
            details: dict[str, Any] = {
                "labels": {entity: float(counts[entity]) for entity in ENTITIES},
                "found": [{"entity": e, "start": start, "end": end} for e, start, end in spans],
            }
            if self.redact:
                details["redacted"] = _replaced(text, spans)
            why = ", ".join(f"{number} {entity}" for entity, number in sorted(counts.items()))
            yield Verdict(float(len(spans)), why or None, details)


def findings(text: str, min_score: float = _MIN_SCORE) -> list[tuple[str, int, int]]:
    """(entity, start, end) of each finding, in order; where several overlap, the surest."""
    # spaCy takes no lone surrogates; a stand-in of the same length keeps the places.
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    candidates = {
        (-result.score, result.start - result.end, start + result.start, result.entity_type)
        for start, chunk in _chunks(text)
        for result in _analyzer().analyze(
            chunk, language="en", entities=list(ENTITIES), score_threshold=min_score
        )
    }
    kept: list[tuple[str, int, int]] = []
    for _, below, start, entity in sorted(candidates):  # the surest first, of equals the longest
        end = start - below
        if all(end <= other or start >= after for _, other, after in kept):
            kept.append((entity, start, end))
    return sorted(kept, key=lambda finding: finding[1])


def redact(text: str, min_score: float = _MIN_SCORE) -> str:
    """The text with each finding replaced by its kind: <EMAIL_ADDRESS>."""
    return _replaced(text, findings(text, min_score))


def _replaced(text: str, spans: Sequence[tuple[str, int, int]]) -> str:
    parts, done = [], 0
    for entity, start, end in spans:
        parts += [text[done:start], f"<{entity}>"]
        done = end
    return "".join([*parts, text[done:]])


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """Overlapping stretches and where they start, cut at white space where there is some."""
    start = 0
    while len(text) - start > _CHUNK:
        stop = max(text.rfind(" ", start + _CHUNK - _SHARED, start + _CHUNK), 0) or start + _CHUNK
        yield start, text[start:stop]
        begin = text.find(" ", stop - _SHARED, stop - 1)
        start = begin if begin >= 0 else stop - _SHARED
    yield start, text[start:]


@cache
def _analyzer() -> Any:
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer import predefined_recognizers as known
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        raise AssetError("scorer 'pii' needs Presidio; pip install 'stillhouse[pii]'") from None

    # Presidio checks domains with tldextract's default, which downloads the list of suffixes;
    # this one reads the list that lies inside the package.
    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Email(known.EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text).fqdn)

    engine: Any = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}  # words only, so that no model is downloaded
    recognizers = [
        Email(name="EmailRecognizer"), known.CreditCardRecognizer(), known.CryptoRecognizer(),
        known.IbanRecognizer(), known.IpRecognizer(), known.MedicalLicenseRecognizer(),
        known.PhoneRecognizer(), known.UsItinRecognizer(), known.UsSsnRecognizer(),
    ]  # fmt: skip
    registry = RecognizerRegistry(recognizers=recognizers, supported_languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
