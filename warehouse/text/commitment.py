"""Tell whether an answer commits itself to something that it mentions, or rejects it.

Rules are phrases of English, Chinese, German, French, Spanish, Japanese and Hindi that stand
directly before or after the mention, within its clause: "the answer is B", "A is wrong", "not A".
They are read in texts that `prepare` has folded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import regex

from warehouse.text import words

_WINDOW = 120  # characters before and after a mention that are read
_LONGEST = 8_000  # characters of an answer that are read; of a longer one its begin and its end
_FLAGS = regex.IGNORECASE | regex.VERBOSE


class Stance(Enum):
    """What an answer makes of something that it mentions."""

    REJECTED = "rejected"
    OPEN = "open"
    COMMITTED = "committed"


@dataclass(frozen=True)
class Mention:
    """A place in a text where one of several values is named."""

    start: int
    end: int
    value: str
    reach: int = 0
    """Where what is said of it begins, if that is not its end: after "B) blue whale"."""

    @property
    def tail(self) -> int:
        """Where what is said of it begins."""
        return max(self.end, self.reach)


_THINKING = regex.compile(r"(?s)^.*</think(?:ing)?>")
_NEXT_QUESTION = regex.compile(
    r"(?i)(?<=\S)\s*\n\s*(?:Question|Q|Problem|Exercise|Frage|Aufgabe|Pregunta|Problema|Problème"
    r"|问题|题目|質問|問題|प्रश्न|सवाल)\s*\d*\s*:"
)
_TAGGED = regex.compile(r"(?is)<(answer|final_answer)>(.*?)(?:</\1>|$)")
_BOXED = regex.compile(r"\\(?:boxed|fbox)\s*(\{(?:[^{}]++|(?1))*+\})")
_MARKS = regex.compile(r"[*_`$]+|\\(?:text|textbf|mathrm|mathbf|boxed|fbox)\b")
_HARMLESS = regex.compile(
    r"""\b(?:(?:there\s(?:is|'s)\s)?no\s(?:doubt|question)|without\s(?:a\s|any\s)?(?:doubt|question)
      |not\s(?:only|just|merely)|nothing\sbut|ohne\s(?:jeden\s)?zweifel|kein(?:en)?\szweifel
      |nicht\snur|sans\s(?:aucun\s)?doute|(?:non|pas)\sseulement|sin\s(?:ninguna\s|lugar\sa\s)?dudas?
      |no\s(?:solo|sólo|solamente)|न\sकेवल)\b
      |毫无疑问|无疑|不仅|不只|不得不|間違いなく""",
    _FLAGS,
)  # phrases with a negation that deny nothing

_BREAK = regex.compile(
    r"""[,.;:!?，、。！？；：।\n()\[\]–—]\s*|\s-\s
      |\b(?:but|so(?!\sfar\sas)|because|since|therefore|thus|hence|yet|however|although|though|while|whereas
        |and|which|aber|sondern|also|weil|denn|und|mais|donc|car|et|sino|pero|porque|así\sque|y)\b
      |而是|但是?|所以|因此|因为|(?<=[^\s])ので|(?<=す|だ|た|い)が(?!\w)
      |बल्कि|लेकिन|इसलिए|क्योंकि""",
    _FLAGS,
)
_NEGATION = regex.compile(
    r"""(?:\b(?:not|\p{L}+n't|(?:is|are|was|do|does|did|can|would|could)nt|never|neither|nor|no
        |cannot|without|hardly|rather\sthan|instead\sof|far\sfrom|nothing|nichts|rien|despite|trotz|malgré|pese\sa|a\spesar\sde|less(?!\sthan)|weniger|moins|menos
        |(?:exclud|eliminat|reject|discard|dismiss)\p{L}*|rul(?:e|es|ed|ing)\sout|except
        |nicht|kein\p{L}*|nie|niemals|weder|keineswegs|keinesfalls|statt|anstatt|anstelle
        |pas|jamais|ni|aucun(?:e(?!\p{L}))?|nullement|non|plutôt\sque|au\slieu\sd[e']|élimin\p{L}*|exclu\p{L}*
        |écart\p{L}*
        |nunca|jamás|tampoco|descart\p{L}*|elimin\p{L}*|en\s(?:lugar|vez)\sde|lejos\sde)\b
      (?:[\s"'(]+[\p{L}\p{M}']+){0,8}?[\s"'(]*$)
      |(?:不是|不会|不能|不可|不应|不属于|无法|并没有|没有|没|并不|并非|绝非|未|排除)\p{Han}{0,6}["'(「]*$
      |(?:不选|而非|非|不)
        (?:选项|什么|一[条个]|很|太|能|算|说|认为|是|这是){0,3}["'(「]*$
      |(?<![\p{L}\p{M}])न\s+$""",
    _FLAGS,
)
_WRONG = r"""(?:wrong|false|incorrect|untrue|not(?!\s(?:wrong|incorrect|false))|never|out|excluded
    |eliminated|dismissed|discarded|impossible|unlikely|irrelevant|ruled\sout|rejected
    |falsch|nicht|inkorrekt|unrichtig|aus(?:geschlossen|schließen|scheiden)?|verwerfen|streichen|kein\p{L}*|unmöglich
    |faux|fausses?|incorrecte?s?|pas|exclue?s?|éliminée?s?|erronée?s?|impossible|(?:à\s)?(?:exclure|écarter|éliminer)
    |fals[ao]s?|incorrect[ao]s?|erróne[ao]s?|descartad[ao]s?|descartar(?:se)?|eliminar(?:se)?|imposible|no)"""
_COPULA = r"""(?:is|are|was|were|'s|seems?|looks?|must\sbe|has\sto\sbe|have\sto\sbe|can\sbe|would\sbe|could\sbe
    |ist|sind|wäre|scheidet|scheiden|fällt|fallen|passt|passen|kann|können|peut|peuvent|puede|pueden|convient|conviennent
    |est|sont|serait|semble|n'est|ne\ssont|es|son|está|están|sería|parece|queda|quedan)"""
_REJECTED_AFTER = regex.compile(
    rf"""^["')\]}}.:]{{0,3}}\s*(?:\([^)\n]*\)\s*)?
      (?:(?:(?!\b{_COPULA}\b)[^,.;:!?\n]){{0,40}}?(?<![\p{{L}}])
         (?:{_COPULA}\s*(?:n't|(?:(?!not\b|nicht\b|pas\b)\p{{L}}+\s+){{0,2}}?{_WRONG})\b
           |(?:can|does|do|did|would|could|has|was|were|are|is|wo|should)n't\b|(?:cannot|does\snot|do\snot|can\snot|fails)\b
           |no\s+(?:es|son|puede|pueden)\b|n'est\b|ne\s+(?:peut|peuvent|sont|convient)\b)
        |[-:(✗✘❌]?\s*(?:wrong|false|incorrect|falsch|faux|incorrecto|incorrecta|falso|falsa|✗|✘|❌)\b
        |\s*[✗✘❌])
      |^\s*(?:(?:\p{{L}}+\s+){{0,2}}nicht(?:\szu)?|tampoco|non\splus|neither)\s*$
      |^["')\]」}}.:]{{0,3}}\s*(?:选项|项)?\s*(?:显然|也|都|均|就)?(?:是|为|:)?(?:错|不(?!仅|只|得不|过)|错误|假的
        |可以?排除|被排除)
      |^["')\]」}}.:]{{0,3}}\s*(?:は|が|も)?(?:間違|誤り|誤っ|不正解|違い|違う|違っ|正しくな|正しくあ|除外|不適)
      |^["')\]」}}.:]{{0,3}}\s*(?:な[\p{{L}}]{{0,6}})?(?:では|じゃ|で)(?:は|も)?(?:な|あり(?:ませ|え))
      |^["')\]」}}]{{0,2}}でも[^。\n]{{0,20}}でも(?:な|あり)|^["')\]」}}]{{0,2}}とは(?:言え|言い|いえ|限り|限ら|思え)
      |^["')\]}}.:]{{0,3}}\s*(?:[^,।\n]{{0,30}}?(?<![\p{{L}}\p{{M}}])नहीं|(?:भी\s+)?(?:गलत|ग़लत|ग़लत|असत्य))""",
    _FLAGS,
)
_AFFIRMED_AFTER = regex.compile(
    rf"""^["')\]}}.:]{{0,3}}\s*(?:\([^)\n]*\)\s*)?
      (?:(?!\b{_COPULA}\b)[^,.;:!?\n]){{0,40}}?(?<![\p{{L}}]){_COPULA}\s+(?:(?:clearly|definitely|probably|most\slikely|indeed|wohl
        |sicher|bien|sûrement|claramente)\s+)?(?:the\s|die\s|das\s|der\s|la\s|le\s|el\s|lo\s)?
      (?:only\s|most\slikely\s|most\s)?(?:correct\p{{L}}*|right|true|best|answer|richtig\p{{L}}*|korrekt\p{{L}}*|wahr|juste|vraie?|bonne|exacte?|verdader[ao]
        |ciert[ao]|acertad[ao]|respuesta|réponse|antwort)\b
      |^\s*(?:(?:is\swhat\s)?remains|is\s(?:all|what)\s(?:that\s)?is\sleft)\b
      |^\s*(?:is|does|fits|ist|est|es|it\s(?:is|must\sbe))\s*$
      |^["')\]}}.:]{{0,3}}\s*[-:]?\s*(?:true|right|correct|richtig|korrekt|wahr|vrai|correcte|correcto|correcta|verdadero|verdadera|die\srichtige|la\s(?:bonne|correcta))\b
      |^["')\]」}}.:]{{0,3}}\s*(?:选项|项)?\s*(?:是|为|才是)?(?:对(?=$|[。,.!;])|正确|对的|真的|正解|(?:唯一)?答案|(?:最|更)?(?:为)?(?:符合|合适|恰当|贴切))
      |^["')\]」}}.:]{{0,3}}\s*(?:(?:は|が|を)?(?:正解|正し|選び|選ぶ|選択し|答え|適切)|です|だと|だ(?!け)|に(?:決|なり|なる)|である)
      |^["')\]}}.:]{{0,3}}\s*(?:ही\s+)?(?:सही|चुन[\p{{L}}\p{{M}}]*|है|हैं|होगा|सत्य)(?!\p{{M}}|\p{{L}})""",
    _FLAGS,
)

_FILLER = r"""(?:[\s"'(\[{「『（【<:=>→-]
    |'s\b|\b[ld]'|(?:\b(?:that|the|it|is|option|choice|letter|answer|correct|right|best|most|likely|definitely|clearly
      |probably|obviously|indeed|actually|still|therefore|just|simply|about|approximately|exactly|only
      |overall|undoubtedly|\p{{L}}{{3,}}ly|would|be|a|an|die|der|das|wohl|eher|doch|genau|etwa|rund|ungefähr|nur|noch|lediglich|option|antwort|möglichkeit
      |buchstabe|la|le|les|lettre|réponse|environ|donc|bien|el|lo|opción|letra|respuesta|aproximadamente
      |unos|unas|de)(?!\p{L})|选项|選択肢|विकल्प|लगभग|大约|约|約))*"""
_BRIDGE = r"[^.\n?!:;,，。：]{0,40}?"
_ANNOUNCED = regex.compile(
    rf"""(?:
      \b(?:answers?|choice|solution|option|one|pick|selection|letter|response|guess|vote|result|label|class|category
        |sentiment|classification|verdict|prediction|total)\b{_BRIDGE}
        (?:\b(?:is|was|are|would\sbe|should\sbe|must\sbe|has\sto\sbe|will\sbe|becomes)\b|'s\b|[:=→"])
      |\b(?:the|final|correct|right|best|my)\s(?:answer|option|choice)\b\s*[:=]?
      |\b(?:i|we)(?:'d|'ll|'m|\swould|\swill|\sam)?\s(?:\p{{L}}+ly\s)?(?:rather\s|still\s|also\s)?(?:have\sto\s|want\sto\s)?
        (?:choose|chose|pick|select|say|guess|go(?:ing)?\s(?:with|for)|vote\sfor|opt\sfor|think|believe
          |answer|conclude|settle\son|take|mean|call\s(?:it|this|that))
      |\b(?:choose|chosen|pick|select|going\swith|make\sthat|must\sbe|has\sto\sbe|can\sonly\sbe|leav(?:es|ing)(?:\sus\swith)?|namely)\b
      |\b(?:it|this|that|he|she)(?:'s|\sis|\swas|\swould\sbe|\sshould\sbe|\smust\sbe)
      |\b(?:antwort\p{{L}}*|lösung|wahl|ergebnis|stimmung|klasse|kategorie|einstufung|option)\b{_BRIDGE}(?:\b(?:ist|lautet|wäre|beträgt)\b|[:=])
      |\b(?:richtig|korrekt|es|das|dies)\s(?:ist|wäre|sind)|\b(?:ich\s)?(?:wähle|nehme|würde|tippe\sauf|sage|meine)
      |entscheide\smich\sfür|\bbleibt\b|(?:\bsondern\b)
      |\b(?:réponses?|choix|solution|résultat|sentiment|classe|catégorie|option)\b{_BRIDGE}(?:\b(?:est|serait)\b|[:=])
      |\bje\s(?:choisis|prends|dirais|réponds|pense\sque\sc'est|crois\sque\sc'est)|j'opte\spour|\b(?:c'est|ce\sserait|ce\sdoit\sêtre)
      |\breste(?:\splus)?(?:\sque)?\b|\bmais\b
      |\b(?:respuesta|opción|solución|elección|alternativa|resultado|sentimiento|clase|categoría|correcta)\b{_BRIDGE}(?:\b(?:es|sería)\b|[:=])
      |\b(?:elijo|escojo|selecciono|elegiría|escogería|diría|opto\spor|me\squedo\scon|(?:debe|tiene\sque)\sser|que\ses|sino|queda)\b
      |(?:^|(?<=[.,;:!?\n]))\s*es\b
      |(?:答案|正解|结果|结论|情感|标签|类别|分类)(?:应该|应当|应|就|当然|显然|确定|可能|选项)?(?:是|为|选|:)?|正确(?:的)?(?:答案|选项|的)?(?:是|为|:)
      |(?:应该?|应当|我|故|因此|所以|本题|题|就|则|只能|那么|以)?(?:选(?!项)择?|选择)(?:的?是)?|(?:应该?|应当|就|所以|因此|因而|我认为|我觉得|其实|肯定|一定|而|只能|总共|发现)是|^是|(?<=[，,])\s*是|是一[条个]
      |(?:正解|答え|解答|回答|答|感情|分類|ラベル|評価|合計)(?:は|が)?\s*[】」:]?|正しい(?:答え|選択肢|もの|の)?は
      |(?:उत्तर|जवाब|भावना|श्रेणी|वर्ग|परिणाम)\s*(?:है|:|=|-)?|लगता\sहै(?:\sकि)?
      ){_FILLER}$""",
    _FLAGS,
)
_ANSWER = regex.compile(
    rf"""(?:\b(?:answer|result|solution|antwort|ergebnis|lösung|réponse|résultat|respuesta|resultado|solución)\b{_BRIDGE}
        (?:\b(?:is|would\sbe|must\sbe|will\sbe|ist|lautet|beträgt|est|serait|es|sería)\b|'s\b|[:=≈])
      |(?:答案|正解|答え|解答|回答|答|结果)(?:应该|应当|应|就)?(?:是|为|は|が)?\s*[】」:]?
      |(?:उत्तर|जवाब)\s*(?:है|:|=|-)?
      |\b(?:wait|actually|correction|sorry|no|nein|doch|en\sfait|non|mejor\sdicho)\b[,.:!\s]+(?:\p{{L}}+\s+)?
      |(?:不对|不,|其实是?|いや)[,.!\s]*
      ){_FILLER}$""",
    _FLAGS,
)  # narrower than _ANNOUNCED: "it is 3 more than" announces no number
_TURN = regex.compile(
    rf"""(?:^|(?<=[\s,.;:!?，。！？；-]))(?:wait|actually|no|sorry|correction|rather|instead|hmm|oops|so|then|thus|hence|therefore
        |finally|definitely|clearly|probably|maybe|likely|obviously|surely|certainly|yes|sure|but|also
        |doch|nein|eher|daher|folglich|donc|non|en\sfait|plutôt|finalement|entonces|mejor\sdicho|pues|luego
        |in\sconclusion|不对|不，|所以|因此|实际上|其实|而是|いや|つまり|よって|したがって|अतः|इसलिए|बल्कि|नहीं)[\s,.:;!-]*{_FILLER}$""",
    _FLAGS,
)
_SUMMARY = regex.compile(
    r"""(?:\b(?:overall|on\sthe\swhole|ultimately|in\sthe\send|all\sin\sall|insgesamt|letztlich|unterm\sstrich
      |finalement|globalement|au\sfinal|dans\sl'ensemble|en\srealidad|en\sgeneral|en\sconjunto|al\sfinal)\b
      |总体上?|整体上?|总的来说|全体として(?:は)?|総合的に(?:は)?|कुल\sमिलाकर)\s*,?[^.,;!?\n，。；！？।]{0,30}$""",
    _FLAGS,
)
_CLAUSE_END = regex.compile(
    r"""["')\]」』}.:]{0,3}\s*(?:$|[,.;:!?\n，。！？；।)]|\b(?:because|since|as|due|not|weil|denn|nicht|car|parce|pas|et\snon
      |porque|ya|no)\b|的(?=$|[,.;:!?\n，。！？；])|です|क्योंकि|है)""",
    _FLAGS,
)
_CLOSING = regex.compile(r"[\"')\]」}.:]{0,3}\s*(?:\([^)\n]*\)\s*)?")
_SAID_OF_IT = regex.compile(
    r"(?-i:is|isn't|ist|est|n'est|es|no\ses)\b|(?:wrong|false|incorrect|true|right|correct|falsch|richtig|wahr"
    r"|faux|vrai|incorrect[ao]|fals[ao]|correct[ao]|verdader[ao])\b|[错对✗✘❌]",
    regex.IGNORECASE,
)  # after a full stop: "A. is wrong" and "A. Wrong" go on, "B. It is not A" does not
_JOINED = regex.compile(
    r"""^["')\]}.]{0,2}(?:选项|项)?\s*(?:,\s*)?(?:(?:(?:and|or)(?:\salso)?|and/or|nor|und|oder|et|ou|y|e|o|u|as\swell\sas|als\sauch|bis)\b\s*|[&/,、]\s*
      |和|与|跟|及|或者?|以及|と|や|か|も|または|及び|और\s+|या\s+|तथा\s+){1,2}
      (?:(?:either|maybe|possibly|perhaps|soit|option|choice|opción|antwort|the|la|el|die|der|auch)\s+
        |选项|選択肢|विकल्प\s+)*["'(\[{]*$""",
    _FLAGS,
)


def prepare(text: str) -> str:
    """The part of an answer that is read, folded: after its thoughts, before a next question."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 4]}\n{text[-3 * _LONGEST // 4 :]}"
    text = words.fold(text.replace("\x00", " "))
    text = _THINKING.sub("", text)
    following = _NEXT_QUESTION.search(text)
    text = text[: following.start()] if following else text
    plain: str = _HARMLESS.sub(lambda match: " " * len(match[0]), text)
    return plain


def marked_parts(text: str) -> list[str]:
    r"""What stands in <answer> tags or \boxed{}, the last one first."""
    places = [(match.start(), match[2]) for match in _TAGGED.finditer(text)]
    places += [(match.start(), match[1][1:-1]) for match in _BOXED.finditer(text)]
    return [part for _, part in sorted(places, reverse=True) if part.strip()]


def strip_marks(text: str) -> str:
    """The text without the marks of Markdown and LaTeX that only make it look different."""
    plain: str = _MARKS.sub("", text)
    return plain


def are_joined(gap: str) -> bool:
    """Whether two mentions with this between them are one list: "A and B", "A、B"."""
    return len(gap) <= _WINDOW and _JOINED.search(gap) is not None


def is_announced(text: str, start: int) -> bool:
    """Whether a phrase before this place says that the answer follows: "the answer is"."""
    return _ANNOUNCED.search(text[max(0, start - _WINDOW) : start]) is not None


def are_in_one_clause(gap: str) -> bool:
    """Whether nothing in the text between two mentions ends a clause."""
    return len(gap) <= _WINDOW and _BREAK.search(gap) is None


def is_given_as_answer(text: str, start: int) -> bool:
    """Whether a phrase before this place names the answer itself: "the answer is", "答案是"."""
    return _ANSWER.search(text[max(0, start - _WINDOW) : start]) is not None


def is_rejected(text: str, start: int, end: int, stop: int | None = None) -> bool:
    """Whether a negation before the place or a verdict after it, up to `stop`, rejects it."""
    before = text[max(0, start - _WINDOW) : start]
    breaks = [match.end() for match in _BREAK.finditer(before)]
    clause = before[breaks[-1] :] if breaks else before
    if _opens_bracket(before, clause):
        clause = before[breaks[-2] :] if len(breaks) > 1 else before
    if _NEGATION.search(clause):
        return True
    return _REJECTED_AFTER.search(_after(text, end, stop)) is not None


def stance(text: str, start: int, end: int, stop: int | None = None) -> Stance:
    """The stance of a text towards what it mentions from `start` to `end`; the next is at `stop`."""
    if is_rejected(text, start, end, stop):
        return Stance.REJECTED
    before = text[max(0, start - _WINDOW) : start]
    after = text[end : end + _WINDOW]
    committed = (
        _ANNOUNCED.search(before)
        or _SUMMARY.search(before)
        or _AFFIRMED_AFTER.search(_after(text, end, stop))
        or (_TURN.search(before) and _CLAUSE_END.match(after))
    )
    return Stance.COMMITTED if committed else Stance.OPEN


def grouped(text: str, mentions: Sequence[Mention]) -> list[tuple[frozenset[str], Stance, Mention]]:
    """The mentions in order, joined ones together: their values, the stance, and the place."""
    groups: list[list[Mention]] = []
    for mention in mentions:
        last = groups[-1] if groups else []
        is_new = all(mention.value != other.value for other in last)
        if last and is_new and are_joined(text[last[-1].tail : mention.start]):
            last.append(mention)
        else:
            groups.append([mention])
    found = []
    for group, following in itertools.zip_longest(groups, groups[1:]):
        stop = following[0].start if following else None
        part = _judged(text, group, stop)
        is_pair = len(group) == 2 and text[group[0].tail : group[1].start].strip("\"')]} ") == ","
        if is_pair and part[1] is Stance.REJECTED:  # "not A, B": the comma may part them
            found += [_judged(text, group[:1], group[1].start), _judged(text, group[1:], stop)]
        else:
            found.append(part)
    return found


def _judged(
    text: str, group: Sequence[Mention], stop: int | None
) -> tuple[frozenset[str], Stance, Mention]:
    place = Mention(group[0].start, group[-1].end, group[-1].value, group[-1].reach)
    values = frozenset(mention.value for mention in group)
    return values, stance(text, place.start, place.tail, stop), place


def _opens_bracket(before: str, clause: str) -> bool:
    """Whether the clause begins right after a bracket that encloses the mention alone: "not (A)"."""
    return not clause.strip() and before.rstrip().endswith(("(", "["))


def _after(text: str, end: int, stop: int | None) -> str:
    """What follows a mention in its clause; a sign that closes it is no end of the clause."""
    after = text[end : min(end + _WINDOW, stop if stop is not None else len(text))]
    closing = _CLOSING.match(after)
    if "." in closing[0] and not _SAID_OF_IT.match(after, closing.end()):
        return ""
    begin = closing.end() if "\n" not in closing[0] else 0
    cut = _BREAK.search(after, begin)
    return after[: cut.start()] if cut else after
