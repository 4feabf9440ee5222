"""Read quantities (numbers, fractions, powers, times, ranges) from a text, and compare them by value.

`warehouse.text.normalize.numbers` lists every number of a text, for texts that are compared with one
another. Here a quantity is read whole: 3/4 is one value, and so are 2^3, 10:30 and 5-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import regex

from warehouse.text import words
from warehouse.text.normalize import spelled_as_digits

Value = Fraction | float
"""Exact where it can be; a float where a root or pi is in it."""

_MAX_DIGITS = 60  # a longer row of digits is a name, not a number
_MAX_EXPONENT = 100
_FLAGS = regex.IGNORECASE | regex.VERBOSE

_VULGAR = {
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅐": "1/7",
    "⅑": "1/9", "⅒": "1/10", "↉": "0/3",
}  # fmt: skip
_LATEX = (
    (r"(?<=\d)(?=\\[dtc]?frac)", " "),
    (r"\\[dtc]?frac\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]*?)\s*\}", r"\1/\2"),
    (r"\\[dtc]?frac\s*(\d)\s*(\d)", r"\1/\2"),
    (r"\\sqrt\s*(?:\{\s*([^{}]*?)\s*\}|(\d))", r"√\1\2"),
    (r"\{([,.])\}", r"\1"),
    (r"(?<=\d)\\[,;:! ](?=\d{3}(?!\d))", ","),
    (r"\\[,;:! ]|\\(?:left|right|quad|displaystyle)\b|~", " "),
    (r"\^\s*\{\s*([-+]?\d+)\s*\}", r"^\1"),
    (r"\^\s*\{?\s*\\circ\s*\}?|°", ""),
    (r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r" \1"),
    (r"(?<=\d)\*\*(?=\d)", "^"), (r"\\times\b", "×"), (r"\\cdot\b", "·"), (r"\\div\b", "÷"), (r"\\approx\b", "≈"), (r"\\pi\b", "π"),
    (r"\\([%$€])", r"\1"), (r"\$\$", "$"), (r"[*_]{2}|`", " "), (r"\\[()\[\]]", " "),
)  # fmt: skip
_LATEX_RULES = [(regex.compile(pattern), form) for pattern, form in _LATEX]
_SUPERSCRIPT = regex.compile("[⁻⁺]?[⁰¹²³⁴-⁹]+")
_PLAIN_DIGITS = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
_SCALES = {
    "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "billions": 9, "trillion": 12, "k": 3, "tausend": 3,
    "millionen": 6, "milliarde": 9, "milliarden": 9, "mille": 3, "millions": 6, "milliard": 9,
    "milliards": 9, "mil": 3, "millón": 6, "millones": 6, "万": 4, "萬": 4, "億": 8, "亿": 8, "千": 3,
    "百": 2, "百万": 6, "千万": 7, "हज़ार": 3, "हजार": 3, "लाख": 5, "करोड़": 7,
}  # fmt: skip
_POINTS_MEAN_THOUSANDS = regex.compile(
    r"(?i)\b(?:der|die|das|ist|sind|und|es|ein|eine|insgesamt|antwort|euro|etwa|le|la|les|est|sont|il|elle"
    r"|réponse|environ|el|los|las|son|hay|en|respuesta|unos|unas|total\sde|metros|mètres|personas)\b"
)
_POINTS_ARE_DECIMAL = regex.compile(
    r"(?i)\b(?:the|is|are|answer|about|of|and|it)\b|[\p{Han}\p{Kana}\p{Devanagari}]"
)

_NUMERAL = r"""(?:
      \d{1,3}(?:\.\d{3}){2,}(?:,\d+)?(?![\d.]\d)|\d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)
     |\d{1,3}(?:'\d{3})+(?:\.\d+)?(?!\d)
     |\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?(?![\d])
     |\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?(?!\d)
     |\d+(?:\.\d+|,\d+(?!,?\d))?|\.\d+)"""
_SIGN = r"(?:(?<![\p{Latin}\p{N})\]]|\d\s)[-+](?=[\d.$€£¥₹√π])|(?<==\s?)[-+]\s|\b(?:minus|negative|moins|menos)\s+|负数?|負の?|マイナス|ऋण\s+)"
_SCALE = (
    r"(?:hundred|thousand|[mb]illions?|trillion|(?-i:k)|tausend|millionen|milliarden?|mille|milliards?|mil"
    r"|millón|millones|हज़ार|हजार|लाख|करोड़)(?![\p{L}\p{M}])|百万|千万|[万萬億亿百]|千(?![克米瓦卡])"
)
_QUANTITY = regex.compile(
    rf"""
    (?<![\p{{Latin}}\p{{M}}\p{{N}}_^]|\p{{N}}\.|\d/|[\p{{L}})]\^[-+]?)
    (?P<sign>{_SIGN})?(?P<currency>[$€£¥₹]\s?)?(?P<sign2>(?<=[$€£¥₹]\s?)[-+])?
    (?:
      (?P<hours>\d{{1,2}})(?::(?P<minutes>\d\d)(?::(?P<seconds>\d\d))?(?![\d:])|\s?[点點時时]\s?(?P<minutes2>\d{{1,2}})\s?分?|h(?P<minutes3>\d\d)(?!\d))
        (?:\s?(?P<half>[ap])\.?m\b\.?)?
     |(?P<left>\d+)\s?:\s?(?P<right>\d+)(?![\d:])
     |(?P<whole>\d+)(?:\s+|-|\s+(?:and|und|et|y)\s+)(?P<top2>\d{{1,4}})\s?[/⁄]\s?(?P<bottom2>\d{{1,4}})(?![\d/])
     |(?P<top>{_NUMERAL})\s?[/⁄]\s?(?P<bottom>{_NUMERAL})(?!\s?[\d/])
     |(?P<base>{_NUMERAL})\s?(?:\^|\*\*)\s?\(?(?P<exponent>[-+]?\d{{1,4}}(?:/[1-9]\d?)?)\)?
     |(?P<digits>{_NUMERAL})
        (?:e(?P<e>[-+]?\d{{1,4}})(?!\p{{L}})|\s?[×x*·]\s?10\s?(?:\^|\*\*)\s?\(?(?P<power>[-+]?\d{{1,4}})\)?)?
        (?:\s?-?(?P<scale>{_SCALE}))?
     |(?P<root>(?=[√π]))
    )
    (?:\s?\*?√\s?\(?(?P<under>\d+(?:\.\d+)?)\)?)?(?P<pi>\s?π)?
    (?P<percent>\s?(?:%|per\s?cent\b|pct\b|prozent\b|pour\s?cent\b|por\s?ciento\b|パーセント|प्रतिशत))?
    """,
    _FLAGS,
)  # √ and π multiply what stands before them
_HAN_DIGITS = {char: number for number, char in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
    "兩": 2,
}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN = regex.compile(
    r"(?<!\p{Han})(?:[零〇一二两兩三四五六七八九十百千万亿億]{2,16}|[二三四五六七八九十])(?!\p{Han})|[一二三四五六七八九十]{1,4}分之[一二三四五六七八九十]{1,4}"
)
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PARTS = ("half", "third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_FRACTION_WORDS = regex.compile(
    rf"(?i)\b(a|{'|'.join(_COUNTS)})[\s-](halves|fourth|{'|'.join(_PARTS)})s?\b"
)
_RANGE = regex.compile(
    r"^\s?(?:-|~|to|bis|à|a|至|到|から|से)\s?$|^\s(?:to|bis|à|a|से|-)\s$|^\s(?:and|und|et|y)\s$"
)
_BETWEEN = regex.compile(r"(?i)\b(?:between|zwischen|entre)\s+$")
_OPERATOR = regex.compile(r"^[\s)\]}]*(=|≈|\+|-|\*|×|x|·|÷|/)[\s($\[]*$")


@dataclass(frozen=True)
class Quantity:
    """What one place of a text says, as a value that can be compared."""

    kind: Literal["number", "time", "ratio", "range", "unsolved"]
    """"unsolved" is a sum or product that is not worked out."""
    values: tuple[Value, ...]
    start: int
    end: int
    percent: bool = False
    other: Value | None = None
    """A second reading: 1.000 is one, or a thousand."""

    def __str__(self) -> str:
        signs = {"time": ":", "ratio": ":", "range": "-"}
        if self.kind == "time":
            return ":".join(f"{int(value):02}" for value in self.values)
        return signs.get(self.kind, " ").join(map(_format, self.values)) + "%" * self.percent


def same(a: Quantity, b: Quantity) -> bool:
    """Whether both say the same; 50 % is the same as 50, and as 0.5."""
    if "unsolved" in (a.kind, b.kind) or a.kind != b.kind or len(a.values) != len(b.values):
        return False
    if a.kind == "number":
        return any(_equal(x, y) for x in _readings(a, b.percent) for y in _readings(b, a.percent))
    return all(map(_equal, a.values, b.values))


def readable(text: str) -> str:
    """The text as quantities are read from it: LaTeX, digits, fractions and spelled numbers plain."""
    text = words.fold(text)
    for sign, plain in _VULGAR.items():
        text = text.replace(sign, f" {plain}")
    text = "".join(str(d) if (d := _digit(char)) is not None else char for char in text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_PLAIN_DIGITS), text)
    for pattern, form in _LATEX_RULES:
        text = pattern.sub(form, text)
    text = _HAN.sub(lambda match: _han(match[0]), text)
    text = _FRACTION_WORDS.sub(lambda match: _fraction_words(*match.groups()), text)
    return spelled_as_digits(text)


def quantities(text: str) -> list[Quantity]:
    """The quantities of a `readable` text in order; an equation is what it comes to."""
    return [_worked_out(chain) for chain in _chains(text, _ranges(text, list(_single(text))))]


def _single(text: str) -> Iterator[Quantity]:
    for match in _QUANTITY.finditer(text):
        found = _quantity(match, text)
        if found is not None:
            yield found


def _quantity(match: regex.Match[str], text: str) -> Quantity | None:
    start, end = match.span()
    negative = any(
        sign and sign.strip() not in ("", "+") for sign in (match["sign"], match["sign2"])
    )
    if match["hours"]:
        minutes = match["minutes"] or match["minutes2"] or match["minutes3"]
        hours = (
            int(match["hours"]) % 12 + 12 * (match["half"] in "pP")
            if match["half"]
            else int(match["hours"])
        )
        if hours <= 24 and int(minutes) < 60:
            seconds = int(match["seconds"] or 0)
            parts = (hours, int(minutes), *([seconds] if seconds else []))
            return Quantity("time", tuple(map(Fraction, parts)), start, end)
        return Quantity("ratio", (Fraction(hours), Fraction(minutes)), start, end)
    if match["left"]:
        if max(len(match["left"]), len(match["right"])) > _MAX_DIGITS:
            return None
        return Quantity("ratio", (Fraction(match["left"]), Fraction(match["right"])), start, end)
    value, other = _value(match, text)
    if value is None:
        return None
    for sign, factor in (("under", _root(match["under"])), ("pi", math.pi)):
        if match[sign]:
            value, other = _float(value) * factor, None
    if negative:
        value, other = -value, None if other is None else -other
    return Quantity("number", (value,), start, end, bool(match["percent"]), other)


def _value(match: regex.Match[str], text: str) -> tuple[Value | None, Value | None]:
    if match["root"] is not None:
        return (Fraction(1) if match["under"] or match["pi"] else None), None
    if match["whole"]:
        whole, top, bottom = (_plain(match[name]) for name in ("whole", "top2", "bottom2"))
        return (None if whole is None or not top or not bottom else whole + top / bottom), None
    if match["top"]:
        top, bottom = (_numeral(match[name], text)[0] for name in ("top", "bottom"))
        return (top / bottom if top is not None and bottom else None), None
    if match["base"]:
        base, _ = _numeral(match["base"], text)
        return (None if base is None else _power(base, match["exponent"])), None
    value, other = _numeral(match["digits"], text)
    power = int(match["e"] or match["power"] or 0) + _SCALES.get((match["scale"] or "").lower(), 0)
    if value is None or abs(power) > _MAX_EXPONENT:
        return None, None
    factor = Fraction(10) ** power
    return value * factor, None if other is None else other * factor


def _numeral(numeral: str, text: str) -> tuple[Fraction | None, Fraction | None]:
    """The value of a row of digits, and a second one where points and commas leave it open."""
    compact = regex.sub(r"[\s']", "", numeral)
    if regex.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|\d{1,3}(?:\.\d{3})+,\d+", compact):
        return _plain(compact.replace(".", "").replace(",", ".")), None
    if regex.fullmatch(r"\d+(?:,\d{2,3})*,\d{3}\.\d+|\d{1,3}(?:,\d{2,3})+,\d{3}", compact):
        return _plain(compact.replace(",", "")), None
    if regex.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", compact):
        thousands, decimal = (_plain(regex.sub("[.,]", sign, compact)) for sign in ("", "."))
        foreign = _POINTS_MEAN_THOUSANDS.search(text) and not _POINTS_ARE_DECIMAL.search(text)
        if "," in compact:
            return (decimal, thousands) if foreign else (thousands, None)
        if foreign:
            return thousands, None
        return decimal, None if _POINTS_ARE_DECIMAL.search(text) else thousands
    return _plain(compact.replace(",", ".")), None


def _plain(digits: str) -> Fraction | None:
    return (
        None
        if len(digits) > _MAX_DIGITS
        else Fraction(digits if digits[0] != "." else f"0{digits}")
    )


def _power(base: Fraction, exponent: str) -> Value | None:
    power = Fraction(exponent)
    if abs(power) > _MAX_EXPONENT or (base == 0 and power < 0):
        return None
    return base ** int(power) if power.denominator == 1 else math.pow(float(base), float(power))


def _root(under: str | None) -> float:
    return math.sqrt(float(under)) if under else 1.0


def _float(value: Value) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _ranges(text: str, found: list[Quantity]) -> list[Quantity]:
    """Two numbers with "-" or "to" between them, the second larger, as one range."""
    joined: list[Quantity] = []
    for quantity in found:
        last = joined[-1] if joined else None
        if last and last.kind == quantity.kind == "number" and quantity.values[0] > last.values[0]:
            gap = text[last.end : quantity.start]
            is_list = regex.match(r"\s?(?:and|und|et|y)\b", gap)
            is_range = _RANGE.match(gap) and (not is_list or _BETWEEN.search(text[: last.start]))
            more = regex.match(r"\s?[-=]", text[quantity.end : quantity.end + 2])
            if is_range and not more:
                values = (*last.values, *quantity.values)
                percent = quantity.percent
                joined[-1] = Quantity("range", values, last.start, quantity.end, percent)
                continue
        joined.append(quantity)
    return joined


def _chains(text: str, found: list[Quantity]) -> Iterator[list[tuple[str, Quantity]]]:
    """Quantities with operators between them, each with the operator before it."""
    chain: list[tuple[str, Quantity]] = []
    for quantity in found:
        sign = _OPERATOR.match(text[chain[-1][1].end : quantity.start]) if chain else None
        if chain and not sign:
            yield chain
            chain = []
        chain.append((sign[1] if sign else "", quantity))
    if chain:
        yield chain


def _worked_out(chain: list[tuple[str, Quantity]]) -> Quantity:
    """What stands alone after the last equals sign; unsolved if an operator does."""
    start, (sign, last) = chain[0][1].start, chain[-1]
    kind = last.kind if len(chain) == 1 or sign in ("=", "≈") else "unsolved"
    return Quantity(kind, last.values, start, last.end, last.percent, last.other)


def _readings(quantity: Quantity, other_percent: bool) -> Iterator[Value]:
    values = [quantity.values[0], *([] if quantity.other is None else [quantity.other])]
    yield from values
    if quantity.percent and not other_percent:
        yield from (value / 100 for value in values)


def _equal(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    return math.isclose(_float(a), _float(b), rel_tol=1e-9)


def _format(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1 or max(abs(value.numerator), value.denominator) > 10**28:
        return (
            str(value)
            if max(abs(value.numerator), value.denominator) < 10**28
            else f"{_float(value):.10g}"
        )
    return str(value.numerator) if value.denominator == 1 else f"{_float(value):.15g}"


def _fraction_words(count: str, part: str) -> str:
    top = 1 if count.lower() == "a" else _COUNTS.index(count.lower()) + 1
    names = {"halves": "half", "fourth": "quarter"}
    return f"{top}/{_PARTS.index(names.get(part.lower(), part.lower())) + 2}"


def _digit(char: str) -> int | None:
    if char.isascii() or not char.isdecimal():
        return None
    return int(char)


def _han(text: str) -> str:
    """Chinese and Japanese number words in digits: 四分之三 is 3/4."""
    bottom, sign, top = text.partition("分之")
    return f"{_han(top)}/{_han(bottom)}" if sign else str(_han_value(text))


def _han_value(text: str) -> int:
    for unit, factor in (("亿", 10**8), ("億", 10**8), ("万", 10**4)):
        left, sign, right = text.partition(unit)
        if sign:
            return (_han_value(left) if left else 1) * factor + (_han_value(right) if right else 0)
    if not _HAN_UNITS.keys() & set(text):
        return int("".join(str(_HAN_DIGITS[char]) for char in text))
    total, digit = 0, None
    for char in text:
        if char in _HAN_UNITS:
            total += (1 if digit is None else digit) * _HAN_UNITS[char]
            digit = None
        elif char in _HAN_DIGITS:
            digit = _HAN_DIGITS[char]
    return total + (digit or 0)
