"""Count personal data in the completion by kind, and redact it."""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from quality.scoring.scorer import Scorer, Verdict
from quality.text.languages import no_rules
from warehouse.errors import AssetError
from warehouse.records import Sample

ENTITIES = (
    "CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MEDICAL_LICENSE",
    "PHONE_NUMBER", "US_ITIN", "US_SSN", "UK_NINO", "GB_NHS", "DE_TAX_ID", "CN_RESIDENT_ID",
    "FR_NIR", "ES_NIF", "ES_NIE", "IN_AADHAAR", "IN_PAN",
)  # fmt: skip
REGIONS = {
    "AT": "de", "AU": "en", "BR": "pt", "CA": "en fr", "CH": "de fr it", "CN": "zh", "DE": "de",
    "ES": "es", "FR": "fr", "GB": "en", "IE": "en", "IL": "he", "IN": "hi en", "IT": "it",
    "JP": "ja", "KR": "ko", "MX": "es", "NL": "nl", "PL": "pl", "PT": "pt", "RU": "ru",
    "TW": "zh", "UA": "uk", "US": "en es",
}  # fmt: skip
"""Region (ISO 3166) -> its languages. Telephone numbers are known of all, national ids of some."""
_DEFAULT_REGIONS = ("US", "GB", "DE", "CN", "FR", "ES", "IN")
_EDGES = r"(?<![\dA-Za-z])(?:{})(?![\dA-Za-z])"
_NATIONAL_IDS = {  # region -> (kind, module of python-stdnum that checks its digits, form)
    "GB": [("GB_NHS", "gb.nhs", r"\d{3}[- ]\d{3}[- ]\d{4}")],
    "DE": [("DE_TAX_ID", "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}")],
    "CN": [("CN_RESIDENT_ID", "cn.ric", r"\d{17}[\dXx]")],
    "FR": [("FR_NIR", "fr.nir", r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}")],
    "ES": [
        ("ES_NIF", "es.dni", r"\d{8}-?[A-Z]"),
        ("ES_NIE", "es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
    ],
    "IN": [
        ("IN_AADHAAR", "in_.aadhaar", r"\d{4}[ -]?\d{4}[ -]?\d{4}"),
        ("IN_PAN", "in_.pan", r"[A-Z]{5}\d{4}[A-Z]"),
    ],
}
# Some of the patterns take time that grows with the square of the text.
_CHUNK, _SHARED = 4_000, 200  # characters; no finding is longer than what neighbours share
_MIN_SCORE = 0.4  # what a telephone number has without a word such as "call" beside it


def _languages(regions: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code for region in regions for code in REGIONS[region].split()))


def _looked_for(regions: Sequence[str]) -> list[str]:
    """The kinds that are looked for: those of no region, and those of these."""
    elsewhere = {kind for region in REGIONS if region not in regions for kind in _ids_of(region)}
    return [entity for entity in ENTITIES if entity not in elsewhere]


def _ids_of(region: str) -> list[str]:
    others = {"US": ["US_ITIN", "US_SSN"], "GB": ["UK_NINO"]}
    return [*others.get(region, []), *(kind for kind, _, _ in _NATIONAL_IDS.get(region, []))]


@dataclass
class Pii(Scorer):
    """Personal data found by the pattern recognisers of Presidio (Microsoft, 2018).

    E-mail addresses, telephone, card and account numbers and the like, by pattern and checksum;
    national ids by their check digits (python-stdnum). Names and places are not looked for.
    Details hold kinds and places, never the data itself. It abstains where it finds nothing in a
    text whose language is spoken in none of its regions.
    """

    version: ClassVar[str] = "3"
    scale: ClassVar[tuple[float, float] | None] = (0.0, math.inf)
    languages: ClassVar[tuple[str, ...]] = _languages(_DEFAULT_REGIONS)
    higher_is_better: ClassVar[bool | None] = False
    labels: ClassVar[tuple[str, ...]] = ENTITIES

    min_score: float = _MIN_SCORE
    """Least confidence of a finding, 0..1."""
    redact: bool = False
    """Also give the text with each finding replaced by its kind, in details["redacted"]."""
    regions: list[str] = field(default_factory=lambda: list(_DEFAULT_REGIONS))
    """Whose telephone numbers and national ids are looked for (ISO 3166): US, GB, DE, CN ..."""

    def __post_init__(self) -> None:
        if unknown := [region for region in self.regions if region not in REGIONS]:
            raise ValueError(f"unknown region {unknown[0]!r}; allowed: {', '.join(REGIONS)}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score is from 0 to 1, not {self.min_score}")

    @property
    def model(self) -> str:
        """Patterns and checksums."""
        return "presidio patterns"

    @property
    def redacts(self) -> bool:
        """If it is asked to."""
        return self.redact

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """The number of findings in each completion; abstains on empty text."""
        for sample in samples:
            text = sample.completion
            if not text.strip():
                yield Verdict(None, "no completion")
                continue
            spans = findings(text, self.min_score, self.regions)
            languages = _languages(self.regions)
            if not spans and (language := self.foreign_language(sample, languages)):
                yield Verdict(None, f"{no_rules(language, languages)}: add a region to `regions`")
                continue
            counts = Counter(entity for entity, _, _ in spans)
            details: dict[str, Any] = {
                "labels": {entity: float(counts[entity]) for entity in _looked_for(self.regions)},
                "found": [{"entity": e, "start": start, "end": end} for e, start, end in spans],
            }
            if self.redact:
                details["redacted"] = _replaced(text, spans)
            why = ", ".join(f"{number} {entity}" for entity, number in sorted(counts.items()))
            yield Verdict(float(len(spans)), why or None, details)


def findings(
    text: str, min_score: float = _MIN_SCORE, regions: Sequence[str] = _DEFAULT_REGIONS
) -> list[tuple[str, int, int]]:
    """(entity, start, end) of each finding, in order; where several overlap, the surest."""
    # spaCy takes no lone surrogates; a stand-in of the same length keeps the places.
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    candidates = {
        (-result.score, result.start - result.end, start + result.start, result.entity_type)
        for start, chunk in _chunks(text)
        for result in _analyzer(tuple(regions)).analyze(
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
def _analyzer(regions: tuple[str, ...]) -> Any:
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
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

    class NationalId(PatternRecognizer):  # type: ignore[misc]
        def __init__(self, entity: str, module: str, form: str) -> None:
            self._check = importlib.import_module(f"stdnum.{module}")
            pattern = Pattern(entity, _EDGES.format(form), 0.1)
            super().__init__(supported_entity=entity, name=entity, patterns=[pattern])

        def validate_result(self, pattern_text: str) -> bool:
            return bool(self._check.is_valid(pattern_text))

    by_region = {"US": [known.UsItinRecognizer(), known.UsSsnRecognizer()]}
    by_region["GB"] = [known.UkNinoRecognizer()]
    national = [
        recognizer
        for region in regions
        for recognizer in [
            *by_region.get(region, []),
            *(NationalId(*row) for row in _NATIONAL_IDS.get(region, [])),
        ]
    ]
    engine: Any = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}  # words only, so that no model is downloaded
    recognizers = [
        Email(name="EmailRecognizer"), known.CreditCardRecognizer(), known.CryptoRecognizer(),
        known.IbanRecognizer(), known.IpRecognizer(), known.MedicalLicenseRecognizer(),
        known.PhoneRecognizer(supported_regions=regions), *national,
    ]  # fmt: skip
    registry = RecognizerRegistry(recognizers=recognizers, supported_languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
