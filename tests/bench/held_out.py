"""Recall and precision of held-out matching on edited and on unrelated rows.

python -m tests.bench.held_out            edits of SciQ: the rows that the rules were chosen by, then others
python -m tests.bench.held_out --templated    rows of templates, with seeds that no rule was chosen by
python -m tests.bench.held_out --speed    seconds for 20,000 rows, natural and templated

Positives are SciQ's held-out items with one kind of edit each; negatives are SciQ rows with other
passages (many of them from the same chapters) and BoolQ rows.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from quality.benchmarks.sciq import Sciq
from quality.gate.decontaminate import HeldOut, Match
from quality.tasks.benchmark import Item, item_of
from tests.support.held_out import hold_out
from tests.support.templated import KINDS
from warehouse.inputs import assets
from warehouse.inputs.rows import Row, question_messages, read_rows

ROWS = 20_000
_VOCABULARY = [
    "always",
    "often",
    "never",
    "large",
    "small",
    "early",
    "later",
    "common",
    "several",
    "during",
    "between",
    "within",
    "about",
    "known",
    "found",
    "water",
    "energy",
    "light",
    "part",
    "different",
    "important",
    "used",
    "made",
    "called",
    "usually",
    "many",
]


def held_out_items() -> list[Item]:
    """SciQ's held-out items: the rules were chosen by these."""
    return list(Sciq().items(Path()))


def other_items() -> list[Item]:
    """SciQ's other rows with passages of the same length, as items: no rule was chosen by these."""
    held = {item.row.passage for item in held_out_items()}
    return [item_of(row) for row in read_rows("sciq", Path()) if row.passage not in held]


def unrelated_rows(held: Sequence[Item]) -> list[Row]:
    """Rows that ask and quote something else: SciQ of any length of passage, then BoolQ."""
    questions = {item.row.prompt for item in held}
    passages = {item.row.passage for item in held}
    rows = [
        _row(raw["question"], raw["correct_answer"], raw["support"])
        for raw in assets._raw_rows(assets.path("sciq"))
        if raw["question"] not in questions and raw["support"] not in passages
    ]
    boolq = assets.rows("boolq")
    return rows + [_row(raw["prompt"], str(raw["answer"]), raw.get("passage")) for raw in boolq]


def _row(question: str, answer: str, passage: str | None) -> Row:
    return Row(question, [{"role": "user", "content": question}], [answer], passage or None)


def sentences(text: str) -> list[str]:
    """The sentences of an English text, by their full stops."""
    parts = text.replace("? ", "?|").replace("! ", "!|").replace(". ", ".|").split("|")
    return [part for part in parts if part.strip()]


def change_word(text: str, chance: random.Random) -> str | None:
    """Another word in the place of one of four letters or more."""
    words = text.split()
    places = [n for n, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return None
    words[chance.choice(places)] = chance.choice(_VOCABULARY)
    return " ".join(words)


def drop_last_sentence(text: str, chance: random.Random) -> str | None:
    """The text without its last sentence."""
    parts = sentences(text)
    return " ".join(parts[:-1]) if len(parts) > 1 else None


def swap_sentences(text: str, chance: random.Random) -> str | None:
    """Two neighbouring sentences in the other order."""
    parts = sentences(text)
    if len(parts) < 2:
        return None
    place = chance.randrange(len(parts) - 1)
    parts[place], parts[place + 1] = parts[place + 1], parts[place]
    return " ".join(parts)


def misspell(text: str, chance: random.Random) -> str | None:
    """Two letters swapped, or one left out, in one of twelve words, once at least."""
    words = text.split()
    places = [n for n, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return None
    for place in chance.sample(places, min(len(places), max(1, len(words) // 12))):
        word, at = words[place], chance.randrange(1, len(words[place]) - 1)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words[place] = word[:at] + word[at + 1 :] if chance.random() < 0.5 else swapped
    return " ".join(words)


Edit = Callable[[str, random.Random], str | None]
EDITS: dict[str, Edit] = {
    "one word changed": change_word,
    "last sentence missing": drop_last_sentence,
    "one word in twelve misspelt": misspell,
    "two sentences swapped": swap_sentences,
}


def edited_passages(held: Sequence[Item], edit: Edit, seed: int = 0) -> Iterator[Row]:
    """Rows that ask something new about an edited held-out passage."""
    chance = random.Random(seed)
    for item in held:
        passage = edit(item.row.passage or "", chance)
        if passage is not None and passage.split() != (item.row.passage or "").split():
            yield _row("What does this text say?", "It says that.", passage)


def edited_questions(held: Sequence[Item], edit: Edit, seed: int = 0) -> Iterator[Row]:
    """Rows that ask an edited held-out question, with its answer and without a passage."""
    chance = random.Random(seed)
    for item in held:
        question = edit(item.row.prompt, chance)
        if question is not None and question != item.row.prompt:
            yield replace(_row(question, "", None), reference=item.row.reference)


def find(held_out: HeldOut, row: Row) -> Match | None:
    """The held-out item that a row gives away."""
    answer = row.reference[0] if row.reference else ""
    others = [str(message["content"]) for message in question_messages(row)]
    return held_out.match_text(row.prompt, row.passage or "", answer, row.reference, others)


def measure(held: Sequence[Item], seed: int = 0) -> Iterator[tuple[str, int, int]]:
    """(kind, rows, matched) of each kind of edit, then of unrelated rows."""
    unrelated = unrelated_rows(held)
    kinds = {
        f"passage, {name}": list(edited_passages(held, edit, seed)) for name, edit in EDITS.items()
    }
    for name, edit in (("one word changed", change_word), ("misspelt", misspell)):
        kinds[f"question, {name}, same answer"] = list(edited_questions(held, edit, seed))
    for name, planted in kinds.items():
        held_out = index([("sciq", item) for item in held], [*unrelated, *planted])
        yield name, len(planted), sum(find(held_out, row) is not None for row in planted)
    held_out = index([("sciq", item) for item in held], unrelated)
    for row in unrelated:
        if (match := find(held_out, row)) and "-v" in sys.argv[1:]:
            print(match, "|", row.prompt, "|", row.passage)
    yield (
        "unrelated rows that match",
        len(unrelated),
        sum(find(held_out, row) is not None for row in unrelated),
    )


def edited(row: Row, edit: Edit, chance: random.Random) -> Row:
    """A row of a template with an edit in what is its own."""
    if row.passage:
        return _row(row.prompt, row.reference[0], edit(row.passage, chance))
    start, mark, own = row.prompt.rpartition(": ")
    return _row(f"{start}{mark}{edit(own, chance)}", row.reference[0], None)


def measure_templated(kind: str, seeds: Sequence[int]) -> tuple[int, int, int, int]:
    """(rows, dropped, planted, found) of a kind of templated rows; edits where they make sense."""
    make, trained, number = KINDS[kind]
    totals = [0, 0, 0, 0]
    for seed in seeds:
        made = make(trained + number, seed=seed)
        rows, held = made[:trained], [("made", item_of(row)) for row in made[trained:]]
        chance = random.Random(seed)
        edits = (change_word, misspell) if kind not in ("capitals", "sums") else ()
        planted = [edited(row, edit, chance) for row in made[trained:] for edit in edits]
        alone, among = index(held, rows), index(held, [*rows, *planted])
        totals[0] += len(rows)
        totals[1] += sum(find(alone, row) is not None for row in rows)
        totals[2] += len(planted)
        totals[3] += sum(find(among, row) is not None for row in planted)
    return totals[0], totals[1], totals[2], totals[3]


def index(items: Sequence[tuple[str, Item]], rows: Sequence[Row]) -> HeldOut:
    """The held-out items among the rows of a run."""
    return hold_out(items, rows=[(row.prompt, row.passage) for row in rows])


def natural_rows(number: int) -> list[Row]:
    """Rows with passages of the length of SciQ's, of words that are spread as in language."""
    chance = random.Random(1)
    letters = "aaabcdeeeeefghiiiklmnnooprrssttttuvwy"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(8000)]
    common = [1 / (n + 10) for n in range(len(words))]
    bag = chance.choices(words, common, k=number * 75)
    rows = []
    for n in range(number):
        text = bag[n * 75 : n * 75 + 75]
        rows.append(_row(" ".join(text[:12]) + "?", text[12], " ".join(text[13:]) + "."))
    return rows


def templated_rows(number: int) -> list[Row]:
    """Reviews in one prompt template."""
    start = "Classify the sentiment of this review as positive or negative: "
    return [
        _row(f"{start}{row.passage}", ("positive", "negative")[n % 2], None)
        for n, row in enumerate(natural_rows(number))
    ]


def speed() -> None:
    """Print the seconds for ROWS rows of each kind against 500 held-out items, best of three."""
    for name, make in (("natural", natural_rows), ("templated", templated_rows)):
        rows = make(ROWS + 500)
        held = [("made", item_of(row)) for row in rows[ROWS:]]
        spent = []
        for _ in range(3):
            started = time.perf_counter()
            held_out = index(held, rows[:ROWS])
            found = sum(find(held_out, row) is not None for row in rows[:ROWS])
            spent.append(time.perf_counter() - started)
        print(f"{name}: {min(spent):.2f} s for {ROWS:,} rows, {found} found")


def main() -> None:
    """Print the table, or the times."""
    if "--speed" in sys.argv[1:]:
        speed()
        return
    if "--templated" in sys.argv[1:]:
        for kind in KINDS:
            print(kind, *measure_templated(kind, range(100, 120)))
        return
    for items, seed in ((held_out_items(), 0), (other_items(), 7)):
        for name, rows, matched in measure(items, seed):
            print(f"| {name} | {rows} | {matched} | {matched / rows:.3f} |")


if __name__ == "__main__":
    main()
