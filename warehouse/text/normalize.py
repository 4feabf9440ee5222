"""Compare short answers: exact match, token F1, containment, and numbers and dates by value.

The normalisation is that of SQuAD (Rajpurkar et al., 2016, section 4.3 and the official
evaluation script): lower case, no punctuation, no articles, single spaces. It takes 1.5 for
15 and "fifty" for another thing than 50, so numbers and dates are also read (in English).
What it leaves open beyond ASCII is `warehouse.text.words`: compatibility forms are folded and
punctuation is Unicode's; scripts without spaces are compared by characters or words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from warehouse.text import words

_DENIALS = frozenset(("not", "no", "never", "under", "over", "below", "above"))
_ELIDED = re.compile(r"(?i)(?<!\w)(?:[cdjlmnst]|qu)'(?=\w)")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def answer_tokens(text: str) -> list[str]:
    """The tokens that short answers are compared by: no case, punctuation or articles."""
    plain = words.strip_punctuation(words.caseless(text))
    return words.tokens(_ARTICLES.sub(" ", plain))


def normalise_answer(text: str) -> str:
    """The tokens of a short answer with single spaces between them."""
    return " ".join(answer_tokens(text))


def exact_match(answer: str, reference: str) -> float:
    """1.0 if both are the same after normalisation, else 0.0."""
    return float(answer_tokens(answer) == answer_tokens(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, 0..1."""
    given, wanted = answer_tokens(answer), answer_tokens(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def contains(answer: str, reference: str) -> float:
    """1.0 if the reference stands in the answer as whole words, else 0.0."""
    return float(words.contains_tokens(answer_tokens(answer), answer_tokens(reference)))


def contains_answer(answer: str, reference: str) -> float:
    """`contains`, also where the words are elided before it: "c'est l'oxygène" has "oxygène"."""
    answer, reference = words.fold(answer), words.fold(reference)
    return max(
        contains(answer, reference), contains(_ELIDED.sub(" ", answer), _ELIDED.sub(" ", reference))
    )


_SPELLED = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|hundred|thousand|million|billion|trillion|fourth|fifth|sixth|seventh|eighth|ninth|tenth"
    "|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth"
    "|nineteenth|twentieth|thirtieth|fortieth|fiftieth|sixtieth|seventieth|eightieth|ninetieth"
    "|hundredth|thousandth|millionth"
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(
    r"""
    (?P<minus>(?<!\w)[-−]|\b(?:minus|negative)\s)?
    (?:(?<!\w)(?:
        (?P<digits>
            (?:\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
        (?:[eE](?P<e>[-+]?\d{1,4})(?!\w)
          |\s?[×x*·]\s?10(?:\^|\*\*)(?P<power>[-−+]?\d{1,4}))?
        (?:\s?-?(?P<scale>hundred|thousand|million|billion|trillion)\b)?
        (?:(?:st|nd|rd|th)\b)?
      | (?P<spelled>(?:SPELLED)(?:[\s-]{1,3}(?:(?:and|point)\s{1,3})?(?:SPELLED)\b){0,11}
            (?:-(?:first|second|third))?(?!\w))
    ))
    (?P<percent>\s?(?:%|per\s?cent\b|pct\b))?
    """.replace("SPELLED", _SPELLED),
    re.IGNORECASE | re.VERBOSE,
)
_SPELLED_WORDS = frozenset(_SPELLED.split("|"))
_LETTERS = re.compile("[a-z]+")
_DIGIT = re.compile(r"\d")
_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴-⁹]+")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN_DIGITS = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
_DIGITS = 28  # what Decimal keeps by default; a longer row of digits is a name, not a number


def numbers(text: str) -> list[str]:
    """The numbers in a text, in order and in one form: "1,000" and "one thousand" are "1000".

    Reads digits, English number words (text2num), decimals, scientific notation, scales
    ("1.5 million") and percentages ("50 %" and "fifty percent" are "50%"). An ordinal is its
    number. "one" within a text, "first", "second" and "third" are mostly no numbers: not read.
    """
    text = _readable(text)
    return [value for _, _, values in _numbers(text) for value in values]


def spelled_as_digits(text: str) -> str:
    """The text with its English number words in digits: "forty-two eggs" as "42 eggs"."""
    pieces, place = [], 0
    for start, end, values in _numbers(text):
        if not any(char.isdigit() for char in text[start:end]):
            pieces += [text[place:start], " ".join(values)]
            place = end
    return "".join([*pieces, text[place:]])


_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    "|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_DATE = re.compile(
    rf"""(?<![\w/.])(?:
    (?P<iso>\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}})(?:T\d\d:\d\d(?::[\d.]+)?Z?)?
    |(?P<slashed>\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{4}})
    |(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s|-)(?:of\s)?(?P<month>{_MONTHS})\b\.?
        (?:,?(?:\s|-)(?P<year>\d{{4}}))?
    |(?P<month2>{_MONTHS})\b\.?(?:\s(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?!\d))?
        (?:,?\s(?P<year2>\d{{4}}))?
    )(?![\w/])(?![.,-]\d)""",
    re.IGNORECASE | re.VERBOSE,
)


def dates(text: str) -> list[str]:
    """The dates in a text, in order, as ISO 8601: 1999-03-03, 1999-03, or --03-03 without year.

    Read are year-month-day, days and years beside an English month's name, and 31/12/1999.
    A month or a number alone is no date, nor is 3/4/1999: it is two days in two countries.
    """
    return [value for _, _, value in _dates(text)]


def canonical(text: str) -> str:
    """The text with its numbers and dates in one form, so that equal ones are equal texts."""
    text = _readable(text)
    pieces, end_of_last = [], 0
    for start, end, date in [*_dates(text), (len(text), len(text), "")]:
        gap, place = text[end_of_last:start], 0
        for begin, stop, values in _numbers(gap):
            pieces += [gap[place:begin], " ".join(values)]
            place = stop
        pieces += [gap[place:], date]
        end_of_last = end
    return "".join(pieces)


def same_value(answer: str, reference: str) -> bool:
    """Whether both say the same number or date, in whatever form.

    Either the rest of the texts is the same too ("fifty percent", "50 %"), or one of them is
    the bare value and the other has one word more, its unit ("47", "forty-seven years").
    """
    read = [dates(text) or numbers(text) for text in (answer, reference)]
    if not read[0] or read[0] != read[1]:
        return False
    answer_words, reference_words = (_value_words(text) for text in (answer, reference))
    if answer_words == reference_words:
        return True
    short, long = sorted((answer_words, reference_words), key=len)
    return (
        len(read[0]) == 1
        and len(short) == 1
        and len(long) == 2
        and short[0] in long
        and not _DENIALS.intersection(long)
    )


def differ_in_number(answer: str, reference: str) -> bool:
    """Whether both have numbers, but not the same ones; a percent sign aside."""
    answer_numbers, reference_numbers = (
        sorted(n.rstrip("%") for n in numbers(text)) for text in (answer, reference)
    )
    return bool(answer_numbers and reference_numbers) and answer_numbers != reference_numbers


def _value_words(text: str) -> list[str]:
    """Words, and whole values, in lower case and without articles."""
    found = re.findall(r"(?<!\w)-{0,2}\d[\d.E+-]*%?|[^\W_]+", canonical(text).lower())
    return [word.rstrip(".") for word in found if not _ARTICLES.fullmatch(word)]


def without_dates(text: str) -> str:
    """The text with a space in the place of each date."""
    pieces, end_of_last = [], 0
    for start, end, _ in _dates(text):
        pieces += [text[end_of_last:start], " "]
        end_of_last = end
    return "".join([*pieces, text[end_of_last:]])


def _readable(text: str) -> str:
    """The text as the patterns below read it: powers with ^, no full-width signs, "1969 年"."""
    if text.isascii():
        return text
    text = words.space_scripts(text.translate(_FULL_WIDTH))
    return _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_PLAIN_DIGITS), text)


def _numbers(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, canonical values) of each number; a row of number words may hold several."""
    if not (_DIGIT.search(text) or _may_spell_numbers(text)):
        return  # the pattern takes ten times as long to find nothing
    for match in _NUMBER.finditer(text):
        percent = "%" if match["percent"] else ""
        if match["spelled"]:
            lone = match["spelled"].lower() == "one" and not percent
            if lone and re.search(r"\w", text[: match.start()][-80:] + text[match.end() :][:80]):
                continue
            read = [_value(each) for each in _NUMBER.finditer(_in_digits(match["spelled"].lower()))]
            if not read:
                continue
        else:
            read = [_value(match, signed=False)]
        if match["minus"] and read[0] != "0":
            read[0] = "-" + read[0]
        read[-1] += percent
        yield match.start(), match.end(), read


def _may_spell_numbers(text: str) -> bool:
    """Whether a number word stands among its letters, in any case and however they are joined."""
    plain = text.casefold().replace("ı", "i").replace("\u0307", "")  # as IGNORECASE folds them
    return not _SPELLED_WORDS.isdisjoint(_LETTERS.findall(plain))


def _value(match: re.Match[str], signed: bool = True) -> str:
    digits = re.sub(r"[,\s]", "", match["digits"] or "")
    if not digits or len(digits) > _DIGITS:
        return digits
    power = int((match["e"] or match["power"] or "0").replace("−", "-"))
    power += _SCALES[match["scale"].lower()] if match["scale"] else 0
    value = Decimal(digits).scaleb(power).normalize()
    if signed and match["minus"]:
        value = -value
    return format(value, "f") if -_DIGITS < value.adjusted() < _DIGITS else str(value)


@lru_cache(maxsize=4096)
def _in_digits(spelled: str) -> str:
    """A row of at most a dozen number words in digits: text2num takes quadratic time on long ones."""
    from text_to_num import alpha2digit  # type: ignore[import-untyped]

    digits: str = alpha2digit(" ".join(spelled.split()), "en", 0)
    year = re.fullmatch(r"(1\d|20) (\d\d)", digits)  # nineteen ninety-nine
    return year[1] + year[2] if year else digits


def _dates(text: str) -> Iterator[tuple[int, int, str]]:
    if not _DIGIT.search(text):
        return
    for match in _DATE.finditer(text):
        value = _date(match)
        if value:
            yield match.start(), match.end(), value


def _date(match: re.Match[str]) -> str | None:
    from dateutil import parser  # type: ignore[import-untyped]

    numeric = match["iso"] or match["slashed"]
    if numeric:
        first, second, last = (int(part) for part in re.split("[-/.]", numeric))
        if match["slashed"] and first <= 12 and second <= 12 and first != second:
            return None
        day_first = first > 12
        year, month, day = (
            (first, second, last)
            if match["iso"]
            else (last, second, first)
            if day_first
            else (last, first, second)
        )
        iso = f"{year:04}-{month:02}-{day:02}"
        known = (True, True)
    else:
        name = match["month"] or match["month2"]
        given_day, given_year = match["day"] or match["day2"], match["year"] or match["year2"]
        if not (given_day or given_year):
            return None
        iso = f"{given_day or 1} {name} {given_year or 2000}"
        known = (bool(given_day), bool(given_year))
    try:
        read: datetime = parser.parse(iso, default=datetime(2000, 1, 1))
    except (parser.ParserError, OverflowError):
        return None  # 31 February
    has_day, has_year = known
    if not has_year:
        return f"--{read:%m-%d}"
    return f"{read.year:04}-{read:%m-%d}" if has_day else f"{read.year:04}-{read:%m}"
