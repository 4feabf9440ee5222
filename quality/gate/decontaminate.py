"""Index held-out items and find them among training samples.

After Brown et al. (2020, Language Models are Few-Shot Learners, appendix C: n-gram overlap) and
Lambert et al. (2024, Tulu 3, section 3.2: the share of a question's tokens that lie in a shared
8-gram). Words are weighed by their rarity among the rows and the held-out items
(`quality.gate.rarity`), so that the wording of a template gives nothing away, and runs are short,
so that a quotation with small edits is still found. Precise rather than broad: two questions of
one subject share many words, so an overlap counts only where the answer is the same too, or where
next to nothing differs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from quality.gate.dedup import form, words
from quality.gate.rarity import RUN, Rarity
from quality.tasks.benchmark import Item
from warehouse.records import Prompt, Sample, make_id
from warehouse.text.question_form import VERSION as FORM_VERSION
from warehouse.text.question_form import is_quotable, stands_at

Kind = Literal["question", "passage", "quoted", "overlap"]

VERSION = "2"  # of the rules; a change makes the gate decide again
_ALONE = 0.95  # so large an overlap needs no equal answer
_LONG = (
    16  # words of a question: from here on it is looked for within longer texts, as passages are
)
_NEARLY = 0.85  # share of a text that is next to all of it
_PART = 0.6  # least share of a passage, or of the stretch that quotes a good part of one
_EVIDENCE = 4.0  # rare words that are enough evidence, of long texts
_EVIDENCE_SHORT = 2.0  # of short questions
_EVIDENCE_ALONE = 20.0  # of a long question without an equal answer
_FEWEST = 8  # words of a quotation with edits: fewer may stand in a text by chance
_GAP = 5  # words between two places of one quotation
_TELLING = 0.3  # what a word tells by itself from here on makes another question
_COMMON = 0.5  # what a word counts below that is the wording of a template
_TYPO = 0.8  # how much a misspelt word counts
_SPELT = 0.7  # of the least share, in words that are spelt the same
_OFTEN = 20  # texts: a run in more of them leads to no candidate, if there are others
_LOOKED_UP = 4  # runs by which a text is found at least
_SEVERAL = 3  # passages: a question that is asked about so many tells nothing without one
_MOST = 0.25  # of the rows and of the items: a passage that stands with so many tells nothing
_SHOWN = 80  # characters of the held-out question in a match: its beginning and its end
_SHARED = 5  # words in a match
_ARTICLES = frozenset(("a", "an", "the"))
_SAYS_LITTLE = frozenset(("yes", "no", "true", "false", *"abcdefghijklmnopqrstuvwxyz"))


class Decontaminate(BaseModel):
    """`[quality] decontaminate`: what is too like a held-out item, beside what is equal to one."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    ngrams: int = Field(default=3, ge=2)
    """Words of a run that two texts must share to be compared, if they are no short questions."""
    share: float = Field(default=0.7, gt=0, le=1)
    """Least share of a held-out question that must be found in another one, by rarity of words."""
    answer: bool = True
    """An overlap counts only with the same answer, or where next to nothing differs."""


@dataclass(frozen=True)
class Match:
    """The held-out item that a sample gives away, and how.

    `question` and `passage`: the same text; `quoted`: one of them stands in the sample, word for
    word (share 1) or with small edits; `overlap`: much of the question does.
    """

    kind: Kind
    benchmark: str
    item_id: str
    share: float  # of the held-out question or passage, by rarity of words, 0..1
    shown: str  # how the held-out question begins
    shared: list[str]  # the rarest words that both have

    def as_json(self) -> dict[str, Any]:
        """The match as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Entry:
    benchmark: str
    item_id: str
    question: tuple[str, ...]
    passage: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    shown: str
    forms: tuple[str, str]  # of question and passage
    texts: tuple[str, str]

    @classmethod
    def of(cls, benchmark: str, item: Item) -> Self:
        row = item.row
        forms = form(row.prompt), form(row.passage or "")
        return cls(
            benchmark,
            item.item_id,
            tuple(forms[0].split()),
            tuple(forms[1].split()),
            tuple(answer for text in row.reference if (answer := _answer(text))),
            _shorten(" ".join(row.prompt.encode("utf-8", "replace").decode().split())),
            forms,
            (row.prompt, row.passage or ""),
        )


@dataclass(frozen=True)
class _Text:
    """A held-out question or passage that tells which one it is."""

    entry: _Entry
    words: tuple[str, ...]
    is_passage: bool
    weights: list[float]
    anchor: int  # where its rarest run begins
    total: float
    bag: dict[str, float]
    """The weight of each word, of the place where it tells most."""
    bag_total: float
    signs: tuple[str, ...]
    """Its numbers and signs, in order."""


@dataclass(frozen=True)
class _Cover:
    """The places of a held-out text that stand in another text in shared runs, and those there."""

    held: list[int]
    other: list[int]


class _Tokens:
    """The words of a text that is looked up, and where its runs are."""

    def __init__(self, form: str, rarity: Rarity) -> None:
        self.words = form.split()
        self._rarity = rarity
        self.candidates: list[_Text] = []  # questions that share runs with it

    @cached_property
    def runs(self) -> dict[tuple[str, ...], list[int]]:
        runs: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, run in enumerate(_runs(self.words)):
            runs[run].append(place)
        return runs

    @cached_property
    def lone(self) -> list[float]:
        return self._rarity.lone(self.words)

    @cached_property
    def weights(self) -> list[float]:
        return self._rarity.weights(self.words)

    @cached_property
    def bag(self) -> dict[str, float]:
        return _most(self.words, self.lone)

    def covers(self, text: _Text, least: int) -> _Cover:
        """What it has of a held-out text, in runs of at least so many words."""
        beside: dict[int, int] = {}  # place in the held-out text -> place here
        other: set[int] = set()
        taken: set[int] = set()  # what is said once here is found once
        for start, run in enumerate(_runs(text.words)):
            place = next((n for n in self.runs.get(run, ()) if n not in taken), None)
            if place is not None:
                taken.add(place)
                for n in range(RUN):
                    beside.setdefault(start + n, place + n)
                    other.add(place + n)
        held = _stretches(set(beside), least)
        if 2 * len(held) >= len(text.words):  # words between two edits are in no shared run
            for start, word in enumerate(text.words):
                if start not in held:
                    near = min(beside, key=lambda n: abs(n - start))
                    there = beside[near] + start - near
                    places = [
                        n
                        for n in range(max(0, there - _GAP), min(there + _GAP + 1, len(self.words)))
                        if n not in other
                        and (self.words[n] == word or _is_typo(word, self.words[n]))
                    ]
                    held.update([start] if places else ())
                    other.update(places[:1])
        return _Cover(sorted(held), sorted(other))

    def is_template(self, cover: _Cover) -> bool:
        """Whether most of what it has of a text is in runs that many texts have."""
        return sum(self.lone[n] for n in cover.other) < _COMMON * len(cover.other)

    def has_usual(self, words: Sequence[str]) -> bool:
        """Whether one of its words stands as many texts have it: in the slot of a template."""
        usual = self._rarity.is_usual(self.words)
        return any(usual[n] for n, word in enumerate(self.words) if word in words)

    def varies(self, text: _Text, cover: _Cover) -> bool:
        """Whether what it has in the place of other words is the wording of a template too.

        Then it is another row of the template, and no edited one.
        """
        known = set(cover.other)
        start = max(0, cover.other[0] - cover.held[0])
        stop = cover.other[-1] + len(text.words) - cover.held[-1]
        places = range(start, min(stop, len(self.words)))
        usual = self._rarity.is_usual(self.words)
        return any(n not in known and usual[n] for n in places)


class HeldOut:
    """The benchmark items of a plan. Looking a sample up costs as much as the sample is long."""

    def __init__(
        self,
        entries: Sequence[_Entry],
        options: Decontaminate,
        rows: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        """Index the entries; use `HeldOut.of`."""
        self.entries = entries
        self.options = options
        different = dict.fromkeys(rows)
        self._forms = {
            text: form(text) for text in dict.fromkeys(t for row in different for t in row if t)
        }
        asked = [
            (self._form(question), self._form(passage or "")) for question, passage in different
        ]
        self._frames = _frame_questions(entries, asked)
        self._common = _common_passages(entries, asked)
        pairs = (*(entry.forms for entry in entries), *asked)
        self.rarity = Rarity(map(str.split, dict.fromkeys(text for pair in pairs for text in pair)))
        self.questions: dict[str, _Entry] = {}
        self.passages: dict[str, _Entry] = {}
        self.texts: list[_Text] = []
        self.runs: defaultdict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self.rare: defaultdict[str, list[int]] = defaultdict(list)
        for entry in entries:
            self._add(entry)
        content = sorted([e.benchmark, e.item_id, *e.forms, e.answers] for e in entries)
        self.digest = make_id(VERSION, FORM_VERSION, content, options.model_dump(), sorted(asked))
        """Hash of the rules, the items, in any order, the options and the rows."""

    @classmethod
    def of(
        cls,
        items: Iterable[tuple[str, Item]],
        options: Decontaminate | None = None,
        rows: Iterable[tuple[str, str | None]] = (),
    ) -> HeldOut:
        """Take up (benchmark, item) pairs of all benchmarks.

        `rows` are question and passage of all that may be looked up: what they share is common.
        """
        return cls([_Entry.of(*pair) for pair in items], options or Decontaminate(), rows)

    def _add(self, entry: _Entry) -> None:
        question, passage = entry.forms
        if question and question not in self._frames and question not in self.questions:
            self.questions[question] = entry
            self._index(entry, entry.question, is_passage=False)
        if passage and passage not in self._common and passage not in self.passages:
            self.passages[passage] = entry
            self._index(entry, entry.passage, is_passage=True)

    def _index(self, entry: _Entry, tokens: tuple[str, ...], is_passage: bool) -> None:
        if not tokens:
            return
        repeats = self.rarity.repeats(tokens)
        runs = list(_runs(tokens))
        often = [max(repeats[n : n + RUN]) for n in range(len(runs))]
        rarest = sorted(range(len(runs)), key=lambda place: often[place])
        weights = self.rarity.weights(tokens)
        bag = _most(tokens, self.rarity.lone(tokens))
        number = len(self.texts)
        if is_quotable(tokens):
            for place, start in enumerate(rarest):
                if often[start] <= _OFTEN or place < _LOOKED_UP:
                    self.runs[runs[start]].append((number, start))
        self.texts.append(
            _Text(
                entry,
                tokens,
                is_passage,
                weights,
                rarest[0] if rarest else 0,
                sum(weights),
                bag,
                sum(bag.values()),
                tuple(word for word in tokens if _is_sign(word)),
            )
        )
        if is_passage or len(tokens) >= _LONG:
            return
        # Whoever shares enough with the question shares one of the words that tell most
        # (prefix filtering, Chaudhuri et al., 2006), and of the rarest of these.
        left = sum(bag.values())
        bound = left * self.options.share * _SPELT
        telling = dict(zip(tokens, weights, strict=True))
        for word in sorted(bag, key=lambda word: (-telling[word], word)):
            self.rare[word].append(number)
            left -= bag[word]
            if left < bound:
                break

    def telling_texts(self) -> list[tuple[str, str | None]]:
        """Question and passage of each item; blank where a text tells nothing about it."""
        return [
            (
                "" if entry.forms[0] in self._frames else entry.texts[0],
                None if entry.forms[1] in self._common else entry.texts[1] or None,
            )
            for entry in self.entries
        ]

    def _form(self, text: str) -> str:
        known = self._forms.get(text)
        return form(text) if known is None else known

    def match(self, sample: Sample) -> Match | None:
        """The held-out item that a sample gives away, if there is one; see `match_text`."""
        return self.match_text(
            question=question_of(sample),
            passage=sample.passage or "",
            completion=sample.completion,
            reference=sample.reference,
            others=[str(message["content"]) for message in sample.messages],
        )

    def match_text(
        self,
        question: str,
        passage: str = "",
        completion: str = "",
        reference: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> Match | None:
        """The held-out item that a question with its answer gives away, if there is one.

        An equal question or passage always matches, whatever the options, unless it tells
        nothing: a question that is asked about many passages, a passage that most rows have.
        `others` are texts in which one may be quoted.
        """
        asked, read = self._form(question), self._form(passage)
        if entry := self.questions.get(asked):
            return self._match("question", entry, entry.question)
        if entry := self.passages.get(read):
            return self._match("passage", entry, entry.passage)
        for text in dict.fromkeys((read, *map(self._form, dict.fromkeys((completion, *others))))):
            if text != asked and (match := self._quoted(self._tokens(text))):
                return match
        tokens = self._tokens(asked)
        return self._quoted(tokens) or self._overlap(tokens, [completion, *reference])

    def _tokens(self, form: str) -> _Tokens:
        return _Tokens(form, self.rarity)

    def _match(self, kind: Kind, entry: _Entry, shared: Sequence[str], share: float = 1.0) -> Match:
        telling = dict(zip(shared, self.rarity.weights(shared), strict=True))
        rarest = sorted(telling, key=lambda word: -telling[word])[:_SHARED]
        return Match(kind, entry.benchmark, entry.item_id, round(share, 4), entry.shown, rarest)

    def _candidates(self, tokens: _Tokens) -> tuple[_Text | None, list[_Text]]:
        """The held-out text that stands in another one word for word; or those that share runs."""
        hits: Counter[int] = Counter()
        get = self.runs.get
        for place, run in enumerate(_runs(tokens.words)):
            for number, start in get(run, ()):
                text = self.texts[number]
                if start == text.anchor and stands_at(text.words, tokens.words, place - start):
                    return text, []
                hits[number] += 1
        return None, [self.texts[number] for number in sorted(hits) if hits[number] > 1]

    def _quoted(self, tokens: _Tokens) -> Match | None:
        """The held-out text that is quoted: any word for word, a passage also with edits or in part."""
        exact, candidates = self._candidates(tokens)
        if exact is not None:
            return self._match("quoted", exact.entry, exact.words)
        tokens.candidates = [text for text in candidates if not text.is_passage]
        best: tuple[float, _Text, _Cover] | None = None
        for text in candidates:
            if not text.is_passage:
                continue
            cover = tokens.covers(text, self.options.ngrams)
            share = self._share_of_passage(text, tokens, cover)
            if share and (best is None or share > best[0]):
                best = share, text, cover
        if best is None:
            return None
        share, text, cover = best
        return self._match("quoted", text.entry, [text.words[n] for n in cover.held], share)

    def _share_of_passage(self, text: _Text, tokens: _Tokens, cover: _Cover) -> float:
        """How much of a passage is quoted, or of the stretch that quotes from it; 0: too little."""
        if len(cover.held) < _FEWEST:
            return 0.0
        evidence = sum(text.weights[n] for n in cover.held)
        share = evidence / text.total
        if evidence < _EVIDENCE or tokens.is_template(cover):
            return share if share >= _NEARLY and not tokens.varies(text, cover) else 0.0
        if _PART / 2 < share < _PART:
            share = _density(cover.other, tokens.weights)
        return share if share >= _PART else 0.0

    def _overlap(self, tokens: _Tokens, answers: Sequence[str]) -> Match | None:
        """The question of which much stands in this one, with the same answer or by itself.

        By words: the weighted Jaccard similarity, so that a long text does not match by having
        many words. By runs, where the held-out question is long: the share of its words in shared
        runs. Numbers and signs must be the same, in order: with others it is another question.
        """
        asked = frozenset(tokens.words)
        numbers = {n for word in asked for n in self.rare.get(word, ())}
        compared = [
            (text, self._compare_words(text, tokens))
            for text in map(self.texts.__getitem__, sorted(numbers))
            if self._may_overlap(text, asked)
        ]
        compared += [
            (text, self._compare_runs(text, tokens))
            for text in tokens.candidates
            if len(text.words) >= max(_LONG, 2 * self.options.ngrams)
        ]
        signs = [word for word in tokens.words if _is_sign(word)] if compared else []
        said: list[tuple[str, ...]] | None = None
        for text, (share, alone, shared) in sorted(compared, key=lambda pair: -pair[1][0]):
            if share < self.options.share or not _in_order(text.signs, signs):
                continue
            said = said or [_answer(answer) for answer in answers]
            if alone or not self.options.answer or _same_answer(said, text.entry.answers):
                return self._match("overlap", text.entry, shared, share)
        return None

    def _may_overlap(self, text: _Text, asked: frozenset[str]) -> bool:
        least = self.options.share * _SPELT * text.bag_total
        return sum([weight for word, weight in text.bag.items() if word in asked]) >= least - 1e-9

    def _compare_words(self, text: _Text, tokens: _Tokens) -> _Compared:
        bag = tokens.bag
        shared = [word for word in text.bag if word in bag]
        missing = [word for word in text.bag if word not in bag]
        new = [word for word in bag if word not in text.bag]
        evidence = sum(text.bag[word] for word in shared)
        differing = [*missing, *new]
        for word in missing:
            typo = next((other for other in new if _is_typo(word, other)), None)
            if typo is not None:
                evidence += _TYPO * text.bag[word]
                new.remove(typo)
        share = evidence / (text.bag_total + sum(bag[word] for word in new))
        alone = share >= _ALONE and max(self.rarity.telling(differing), default=0.0) < _TELLING
        if evidence < _EVIDENCE_SHORT and not alone:
            is_edited = share >= _NEARLY and not tokens.has_usual(new)
            share = share if is_edited else 0.0
        return share, alone, shared

    def _compare_runs(self, text: _Text, tokens: _Tokens) -> _Compared:
        cover = tokens.covers(text, self.options.ngrams)
        evidence = sum(text.weights[n] for n in cover.held)
        share = evidence / text.total
        alone = share >= _NEARLY and evidence >= _EVIDENCE_ALONE
        if len(cover.held) < _FEWEST or (
            (evidence < _EVIDENCE or tokens.is_template(cover))
            and (share < _NEARLY or tokens.varies(text, cover))
        ):
            share = 0.0
        return share, alone or share >= _ALONE, [text.words[n] for n in cover.held]


_Compared = tuple[float, bool, list[str]]
"""Share of a held-out question, whether that needs no equal answer, the shared words."""


def question_of(row: Sample | Prompt) -> str:
    """What a sample or a prompt asks: its question, or its last message."""
    return row.question or str(row.messages[-1]["content"])


def _frame_questions(entries: Sequence[_Entry], asked: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Questions that are asked about several passages, such as "What is the tone of this review?"."""
    passages: defaultdict[str, set[str]] = defaultdict(set)
    for question, passage in (*(entry.forms for entry in entries), *asked):
        if passage:
            passages[question].add(passage)
    return frozenset(text for text, about in passages.items() if len(about) >= _SEVERAL)


def _common_passages(entries: Sequence[_Entry], asked: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Passages that a good part of the items and of the rows have, such as the rules of a shop."""
    common = None
    for pairs in ([entry.forms for entry in entries], asked):
        counts = Counter(passage for _, passage in dict.fromkeys(pairs) if passage)
        least = max(_SEVERAL, _MOST * len(pairs))
        often = {passage for passage, count in counts.items() if count >= least}
        common = often if common is None else common & often
    return frozenset(common or ())


def _density(places: Sequence[int], weights: Sequence[float]) -> float:
    """The share of found words in the stretch of a text with the most of them."""
    best, start = (0.0, 0.0), 0
    for stop in range(1, len(places) + 1):
        if stop == len(places) or places[stop] - places[stop - 1] > _GAP:
            found = sum(weights[n] for n in places[start:stop])
            whole = sum(weights[places[start] : places[stop - 1] + 1])
            best = max(best, (found, found / whole if whole else 0.0))
            start = stop
    return best[1]


def _most(tokens: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """The weight of each word, of the place where it has most."""
    bag: dict[str, float] = {}
    for word, weight in zip(tokens, weights, strict=True):
        bag[word] = max(weight, bag.get(word, 0.0))
    return bag


def _stretches(places: set[int], least: int) -> set[int]:
    """The places that stand in a row of at least so many."""
    if least <= RUN:
        return places
    starts = [n for n in places if all(n + k in places for k in range(least))]
    return {n + k for n in starts for k in range(least)}


def _in_order(signs: Sequence[str], among: Sequence[str]) -> bool:
    rest = iter(among)
    return all(sign in rest for sign in signs)


def _is_sign(word: str) -> bool:
    return any(map(str.isdigit, word)) or not any(map(str.isalpha, word))


def _is_typo(word: str, other: str) -> bool:
    """Whether a word is another one with a letter more, less, changed or swapped."""
    if min(len(word), len(other)) < 4 or abs(len(word) - len(other)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), None)
    if start is None:
        return True
    left, right = word[start:], other[start:]
    return (
        left[1:] == right[1:]
        or left[1:] == right
        or left == right[1:]
        or (left[:2] == right[1::-1] and left[2:] == right[2:])
    )


def _runs(tokens: Sequence[str], length: int = RUN) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[n:] for n in range(length)), strict=False)


def _answer(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word not in _ARTICLES)


def _same_answer(answers: Iterable[tuple[str, ...]], wanted: Iterable[tuple[str, ...]]) -> bool:
    """Whether something that was said equals or contains a reference that tells anything.

    "Yes" and a letter tell nothing: half of all questions have that answer.
    """
    telling = {answer for answer in wanted if len(answer) > 1 or answer[0] not in _SAYS_LITTLE}
    return any(
        run == answer for text in answers for answer in telling for run in _runs(text, len(answer))
    )


def _shorten(question: str) -> str:
    """A question in one line; of a long one its end too, since those of a template begin alike."""
    if len(question) <= _SHOWN:
        return question
    return f"{question[: _SHOWN // 3]} ... {question[-2 * _SHOWN // 3 + 5 :]}"
