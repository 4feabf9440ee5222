"""Find which of several names (classes, texts of options) a free answer settles on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import regex

from warehouse.text import words
from warehouse.text.commitment import (
    Mention,
    Stance,
    are_in_one_clause,
    grouped,
    marked_parts,
    prepare,
    strip_marks,
)

_WORD = regex.compile(r"[\w\p{M}\u200c\u200d.+/-]*[\w\p{M}\u200c\u200d]")
_STEM = 5  # letters that an inflected class has to share with its name
_ENDINGS = frozenset(
    ("", "e", "er", "es", "en", "em", "s", "o", "a", "os", "as", "f", "fs", "ve", "ves")
)
_DETERMINER = regex.compile(r"\s+(?!(?:because|since|as|and|but|it|they|there|he|she)\b)[\p{L}]")


def read_class(answer: str, classes: Sequence[str]) -> str | None:
    """The class that an answer settles on; None where none can be told.

    Read are, in this order: what stands in <answer> tags or a box; the class that an answer
    begins with or commits itself to ("the label is ..."), the last one where there are several;
    the only class that it mentions. A class that is rejected ("not positive") is none of these.
    """
    index = settled_name(answer, classes, is_class=True)
    return classes[index] if index is not None else None


def settled_name(answer: str, names: Sequence[str], is_class: bool = False) -> int | None:
    """The position of the name that an answer settles on; None where none can be told.

    Args:
        answer: The answer as it was given.
        names: What it may name. Of two names that read the same neither can be told.
        is_class: Whether the names are classes: an answer that begins with one commits itself to it,
            and it may be inflected ("eine positive Bewertung" names "positiv").
    """
    if answer.strip() in names:
        return names.index(answer.strip())
    text = prepare(answer)
    for part in marked_parts(text):
        if (found := _settled(part, names, is_class)) is not None:
            return found
    return _settled(text, names, is_class)


def name_tokens(text: str) -> list[str]:
    """The words that names are compared by: no case, and no signs but those within words."""
    return [token for token, _, _ in _tokens(words.caseless(text))]


def _settled(text: str, names: Sequence[str], is_class: bool) -> int | None:
    text = words.caseless(strip_marks(text))
    tokens = list(_tokens(text))
    forms = [tuple(name_tokens(name)) for name in names]
    whole = tuple(token for token, _, _ in tokens)
    if whole and whole in forms:
        return _only([str(forms.index(whole))], forms)
    groups = [group for group in grouped(text, _mentions(text, tokens, forms, is_class))
              if group[1] is not Stance.REJECTED]  # fmt: skip
    committed = [values for values, stance, _ in groups if stance is Stance.COMMITTED]
    if is_class and not committed and _leads(text, tokens, [place for _, _, place in groups]):
        return _only(groups[0][0], forms)
    if committed:
        return _only(committed[-1], forms)
    return _only(frozenset[str]().union(*(values for values, _, _ in groups)), forms)


def _leads(text: str, tokens: Sequence[tuple[str, int, int]], places: Sequence[Mention]) -> bool:
    """Whether the answer begins with the first of the places, and its clause names no other."""
    if not places or places[0].start != tokens[0][1]:
        return False
    return len(places) == 1 or not are_in_one_clause(text[places[0].tail : places[1].start])


def _mentions(
    text: str,
    tokens: Sequence[tuple[str, int, int]],
    forms: Sequence[tuple[str, ...]],
    is_inflected: bool,
) -> list[Mention]:
    """Where the names stand, in order, without those within a longer one."""
    found: list[Mention] = []
    for first, (token, start, _) in enumerate(tokens):
        fitting = [
            form
            for form in forms
            if form
            and form[0] == token
            and tuple(each for each, _, _ in tokens[first : first + len(form)]) == form
        ]
        if not fitting and is_inflected:
            fitting = [form for form in forms if len(form) == 1 and _is_inflected(form[0], token)]
        if not fitting:
            continue
        form = max(fitting, key=len)
        end = tokens[first + len(form) - 1][2]
        is_within = found and found[-1].end >= end
        is_determiner = token == "no" and len(form) == 1 and _DETERMINER.match(text, end)
        if not is_within and not is_determiner:
            found.append(Mention(start, end, str(forms.index(form))))
    return found


def _is_inflected(name: str, token: str) -> bool:
    """Whether two words differ in an ending of gender or number alone (German, French, Spanish)."""
    stem = next(
        (i for i, (a, b) in enumerate(zip(name, token, strict=False)) if a != b),
        min(len(name), len(token)),
    )
    endings = (name[stem:], token[stem:])
    return stem >= max(_STEM, len(name) - 2) and _ENDINGS.issuperset(endings)


def _only(values: Collection[str], forms: Sequence[tuple[str, ...]]) -> int | None:
    """The one name that the values stand for; None for several, or where two names read the same."""
    if len(values) != 1:
        return None
    index = int(next(iter(values)))
    return index if forms.count(forms[index]) == 1 else None


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """(token, start, end) of each word; of each character or dictionary word in unspaced scripts."""
    for match in _WORD.finditer(text):
        start = match.start()
        for token in words.tokens(match[0]):
            yield token, start, start + len(token)
            start += len(token)
