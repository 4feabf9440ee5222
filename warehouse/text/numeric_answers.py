"""Read the quantity that a free answer gives."""

from __future__ import annotations

from functools import lru_cache

import regex

from warehouse.text.commitment import is_given_as_answer, marked_parts, prepare
from warehouse.text.quantities import Quantity, quantities, readable

_FINAL_LINE = regex.compile(r"####[ \t]*([^\n]*\d[^\n]*)")
_BOLD = regex.compile(r"\*\*([^*\n]+)\*\*")
_REJECTED_BEFORE = regex.compile(
    r"""(?i)(?:(?:\bnot|n't|\binstead\sof|\brather\sthan|\bnicht|\bkeine?|\bpas|\bnon|\bno|\bni|\bnor|\bweder|\bnoch|\b(?:an)?statt|\bau\slieu\sde|\ben\s(?:lugar|vez)\sde|\bplutôt\sque)\s+
       (?:(?:exactly|equal\sto|just|the|to|es|est|sont|son)\s+)?|(?:不是|并非|而非|不等于)\s*)$""",
    regex.VERBOSE,
)
_REJECTED_AFTER = regex.compile(
    r"[^\d,.。、\n]{0,6}(?:ではな|じゃな|ではあり|じゃあり)|[^\d,.।\n]{0,12}(?:नहीं)"
)
_ENDED = regex.compile(
    r"\s*(?:$|[.;!\n(]|,\s*(?:not|because|since|nicht|weil|pas|non|car|no|porque)\b|(?:because|since)\b)"
)
_UNIT_ONLY = regex.compile(r"[^\d\n.=]{0,24}[.!]?\s*(?:[\n(]|$)")
_ASIDE = regex.compile(
    r"(?i),\s*(?:which|that\sis|i\.e\.|was|das\sist|das\sheißt|d\.\s?h\.|ce\squi|soit|c'est-à-dire|lo\sque|lo\scual"
    r"|es\sdecir|o\ssea|यानी|जो)\b[^.;\n]*$"
)
_SHORT = 200  # characters in which number words of other languages than English are looked for
_LANGUAGES = ("de", "fr", "es")


def read_quantity(answer: str) -> Quantity | None:
    """The quantity that an answer gives; None where there is none.

    Read are, in this order: what stands in a box, in <answer> tags or after `####`; the quantity
    that is announced ("the answer is 42"), the last one where there are several; one that the answer
    begins with and that ends there; the last one in bold type; the last one of all. One that is
    rejected ("not 43") is none of these.
    """
    text = prepare(answer)
    for part in [*_final_lines(text), *marked_parts(text)]:
        if found := quantities(readable(part)):
            return found[-1]
    plain = readable(text)
    found = [each for each in quantities(plain) if not _is_rejected(plain, each)]
    if not found:
        return _spelled(text)
    found = [each for each in found if not _is_aside(plain, each)] or found
    announced = [each for each in found if is_given_as_answer(plain, each.start)]
    if announced:
        return announced[-1]
    if _stands_first(plain, found[0]):
        return found[0]
    bold = [quantities(readable(part)) for part in _BOLD.findall(text) if _is_short(part)]
    marked = [each[0] for each in bold if len(each) == 1]
    return marked[-1] if marked else found[-1]


def _final_lines(text: str) -> list[str]:
    return [match[1] for match in _FINAL_LINE.finditer(text)][:-2:-1]


def _is_rejected(text: str, quantity: Quantity) -> bool:
    before = text[max(0, quantity.start - 40) : quantity.start]
    after = _REJECTED_AFTER.match(text, quantity.end, quantity.end + 40)
    return _REJECTED_BEFORE.search(before) is not None or after is not None


def _is_aside(text: str, quantity: Quantity) -> bool:
    """Whether it stands in brackets, or only says more of what came before: ", which is 50 % more"."""
    before = text[max(0, quantity.start - 60) : quantity.start]
    after = text[quantity.end : quantity.end + 60]
    in_brackets = regex.search(r"\([^()\n]*$", before) and regex.match(r"[^()\n]*\)", after)
    return bool(in_brackets or _ASIDE.search(before))


def _stands_first(text: str, quantity: Quantity) -> bool:
    """Whether the answer begins with it and it ends there; "1." begins a list."""
    if regex.search(r"[\p{L}\p{N}]", text[: quantity.start]):
        return False
    if quantity.values == (1,) and text[quantity.end : quantity.end + 1] == ".":
        return False
    return any(rule.match(text, quantity.end) for rule in (_ENDED, _UNIT_ONLY))


def _is_short(part: str) -> bool:
    return len(part.split()) <= 3 and not part.rstrip().endswith(":")


@lru_cache(maxsize=1024)
def _spelled(text: str) -> Quantity | None:
    """The last number that is spelled in German, French or Spanish, in a short text without digits."""
    from text_to_num import alpha2digit  # type: ignore[import-untyped]

    if len(text) > _SHORT or any(char.isdigit() for char in text):
        return None
    plain = text.encode("utf-8", "replace").decode()  # half of a pair of UTF-16 is no character
    for language in _LANGUAGES:
        if found := quantities(alpha2digit(plain, language)):
            return found[-1]
    return None
