"""Tell answers that only say again what the question says.

"What kind of waves are sound waves?" - "waves" is a span of any passage on waves and answers
nothing. An answer is an echo if each of its telling words stands in the question. Only sentences
that ask for a word are looked at, by the question words of seven languages: "Is it hot?" is
answered by "hot", and so is "Is it hot or cold?", where the question offers its answers.
"""

from __future__ import annotations

import re

import regex

from quality.text.claims import sentences
from quality.text.negation import language_of
from warehouse.text.words import caseless, contains_tokens, has_unspaced_script
from warehouse.text.words import words as words_of

_ASKS = {
    "en": "what which who whom whose when where why how",
    "de": "was welche welcher welches welchen welchem wer wen wem wessen wann wo wohin woher woraus "
    "womit wodurch wofür wovon warum weshalb wie wieviel",
    "fr": "quoi quel quelle quels quelles pourquoi comment combien lequel laquelle lesquels lesquelles",
    "es": "qué cuál cuáles quién quiénes cuándo dónde adónde cómo cuánto cuánta cuántos cuántas",
    "zh": "什么 什麼 谁 誰 哪 几 幾 多少 怎 为何 為何 何时 何處 何处",
    "ja": "何 なに 誰 だれ どこ いつ どの どれ どちら どっち なぜ どう どんな いくつ いくら",
    "hi": "क्या कौन कौनसा कौनसी कब कहाँ कहां क्यों कैसे कैसा कितना कितने कितनी किस किसे किसने किसका "
    "किसकी किसके किन",
}
"""Words by which a sentence asks for a word, wherever they stand."""

_FIRST = {"fr": "que qu qui quand où"}
"""Words that do so at the beginning of a sentence, and join its parts elsewhere."""

_YES_OR_NO = {
    "en": r"^\W*(?:is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|shall|should|may"
    r"|might|must)\b",
    "de": r"^\W*(?:ist|sind|war|waren|hat|haben|hatte|kann|können|wird|werden|muss|müssen|soll|darf"
    r"|gibt|gilt|stimmt)\b",
    "fr": r"^\W*(?:est-ce|y a-t-il|a-t-|est-|sont-|peut-|peuvent-|ont-)",
    "es": r"^\W*(?:es|son|era|fue|está|están|ha|han|hay|puede|pueden|tiene|tienen)\b",
    "zh": r"[吗嗎]|是不是|是否|有没有|有沒有",
    "hi": r"^\W*क्या(?!.*(?:कौन|कब|कह|क्यों|कैस|कितन|किस))",
}
"""How a sentence that is answered by yes or no begins, or what it has; it may hold "which", too."""

_OR = {
    "en": "or", "de": "oder", "fr": "ou", "es": "o u", "zh": "还是 還是 或", "ja": "それとも または か、",
    "hi": "या",
}  # fmt: skip
"""Words beside which a question offers its answers: "hot or cold"."""

_AND = {
    "en": "and", "de": "und", "fr": "et", "es": "y e", "zh": "和 与 與", "ja": "と", "hi": "और",
}  # fmt: skip
_WHICH = {
    "en": r"which\s+of between among", "de": r"welche[rs]?\s+von zwischen",
    "fr": "lequel laquelle entre", "es": r"cuál\s+de entre", "zh": "哪", "ja": "どちら どっち どれ",
    "hi": "कौन किस",
}  # fmt: skip
"""Words with which "and" offers answers, too: "which of cats and dogs"."""

_UNTELLING = {
    "en": "a an the is are was were be been being am do does did has have had of in on at to for "
    "from with by as and or that this these those it its they their there some any",
    "de": "der die das den dem des ein eine einen einem einer eines ist sind war waren wird werden "
    "hat haben von vom in im an am auf zu zum zur für mit durch als und es sie",
    "fr": "le la les l un une des du de d est sont était étaient a ont à au aux en dans par pour sur "
    "avec et c ce cet cette ces il elle",
    "es": "el la los las lo un una unos unas de del es son era fue ha han a al en por para con y e se",
    "hi": "है हैं था थे थी का की के को से में पर ने और वह यह",
}
"""Words that tell nothing by themselves."""

_BLANK = re.compile(
    r"_{2,}|…\s*$|\.{3}\s*$|\b(?:this|these|its|their|of|by|as|the|an?|called|from|to|or)\s*\?$",
    re.I,
)
"""What is left open: "A bog is a type of ____", "Iceland is made up of a series of?"."""
_QUESTION_MARK = re.compile(r"[?？؟]\W*$")
_KA = re.compile(r"か[。．.]?$")
_OPTION = re.compile(r"^\s*(?:[-*•]|\(?\w[.):])\s+(\S.*)$", re.MULTILINE)
_PIECE = re.compile(r"([^,;:?!¿—–|]+)([,;:?!¿—–|]?)")
"""A piece of a question, and what ends it; "|" stands for "or"."""
_LISTS = tuple(",;:—–")
_FEWEST_CHARACTERS = 2
"""A single Chinese or Japanese character stands in many words: 水 in 海水."""


def _compiled(table: dict[str, str]) -> dict[str, regex.Pattern[str]]:
    """Any of the words; within others where a script has no spaces."""
    return {
        language: regex.compile(
            several.replace(" ", "|")
            if language in _UNSPACED
            else rf"(?<![\p{{L}}\p{{M}}])(?:{several.replace(' ', '|')})(?![\p{{L}}\p{{M}}])"
        )
        for language, several in table.items()
    }


_UNSPACED = ("zh", "ja")
_ASKING, _FIRST_ASKING, _OR_IN, _AND_IN, _WHICH_IN = map(
    _compiled, (_ASKS, _FIRST, _OR, _AND, _WHICH)
)
_NOTHING = {language: frozenset(several.split()) for language, several in _UNTELLING.items()}
_NOTHING_ANYWHERE = frozenset[str]().union(*_NOTHING.values())


def echoes(answer: str, question: str) -> bool:
    """Whether each telling word of an answer stands in the sentence that asks for it.

    False where no sentence asks for a word in a language whose rules are here, where the question
    offers the answer among others, and for an answer without a telling word.
    """
    cut = sentences(question)
    if not _may_echo(answer, " ".join(cut)):
        return False  # in whatever language: to tell that takes longer than all the rest
    language = language_of(question)
    asked = " ".join(one for one in cut if _asks_for_a_word(one, language))
    if not asked:
        return False
    said, given = _telling(answer, language), _telling(asked, language)
    if not said or _is_offered(said, question, asked, language):
        return False
    if language in _UNSPACED or has_unspaced_script(answer):
        return len(said) >= _FEWEST_CHARACTERS and contains_tokens(given, said)
    return frozenset(given).issuperset(said)


def _may_echo(answer: str, question: str) -> bool:
    """Whether the question has each word of an answer that tells something in every language."""
    said = [word for word in words_of(caseless(answer)) if word not in _NOTHING_ANYWHERE]
    return {_singular(word) for word in words_of(caseless(question))}.issuperset(
        map(_singular, said)
    )


def _asks_for_a_word(sentence: str, language: str) -> bool:
    if _BLANK.search(sentence):
        return True
    plain = caseless(sentence)
    if language in _YES_OR_NO and regex.search(_YES_OR_NO[language], plain):
        return False
    places = [match.span() for match in _ASKING[language].finditer(plain)]
    if language in _FIRST_ASKING and (first := _FIRST_ASKING[language].search(plain)):
        places += [first.span()] if len(words_of(plain[: first.start()])) <= 1 else []
    if _QUESTION_MARK.search(sentence) or (language == "ja" and _KA.search(sentence)):
        return bool(places)
    # Without a question mark: "who wrote it", "it is called what", not "repeat what I say".
    return any(not words_of(plain[:start]) or not words_of(plain[stop:]) for start, stop in places)


def _telling(text: str, language: str) -> list[str]:
    """Its words without case and plural endings, but for those that tell nothing."""
    nothing = _NOTHING.get(language, frozenset())
    return [_singular(word) for word in words_of(caseless(text)) if word not in nothing]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word


def _is_offered(said: list[str], question: str, asked: str, language: str) -> bool:
    """Whether the answer is one of several that the question names.

    They stand on lines of their own, or beside "or" and the commas before it. In Chinese and
    Japanese every answer to such a question is taken to be one.
    """
    if any(_telling(line, language) == said for line in _OPTION.findall(question)):
        return True
    plain = caseless(asked)
    offering = [_OR_IN[language]]
    if _WHICH_IN[language].search(plain):
        offering.append(_AND_IN[language])
    if not any(word.search(plain) for word in offering):
        return False
    if language in _UNSPACED:
        return True
    for word in offering:
        plain = word.sub("|", plain)
    pieces = list(_PIECE.finditer(plain))
    count = len(said)
    for number, piece in enumerate(pieces):
        part = _telling(piece[1], language)
        # "Which is larger, an atom or a molecule?": what asks is no option, unless "or" follows it.
        ends = piece[2] == "|" or (piece[2] in _LISTS and not _ASKING[language].search(piece[1]))
        if (ends and part[-count:] == said) or (number > 0 and part[:count] == said):
            return True
    return False
