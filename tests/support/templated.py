"""Rows in which most of the wording is a template, as people's data are: reviews, support, capitals."""

from __future__ import annotations

import random
from collections.abc import Callable

from warehouse.inputs.rows import Row

_START = "Classify the sentiment of this review as positive or negative: "
_ABOUT = (
    "The battery", "The screen", "My new kettle", "This blender", "The hotel room", "The waiter",
    "The sequel", "The soundtrack", "The delivery", "The zip of the jacket", "The printer",
    "The lead actor", "The breakfast", "The app", "The tent", "The mattress", "The camera",
    "The heel of the boot", "The plot", "The support line",
)  # fmt: skip
_GOOD = (
    "lasted far longer than I had hoped", "was a joy from the first day", "made my whole family smile",
    "exceeded what the box promised", "works like a charm", "was worth every cent of it",
    "surprised me in the best way", "is sturdy and quick to clean", "was warm and attentive",
    "kept me up all night, gladly",
)  # fmt: skip
_BAD = (
    "broke after a single week", "was a waste of an evening", "made me ask for my money back",
    "smelled of burnt plastic", "never did what the box promised", "was slower than the old one",
    "let the rain straight through", "is flimsy and hard to clean", "was rude to my mother",
    "put me to sleep in ten minutes",
)  # fmt: skip
_MORE = (
    "I bought it for my brother's birthday.", "We had waited two months for it.",
    "My neighbour says the same.", "I have used three others before.", "It came in a plain carton.",
    "I read about it in a magazine.", "We were there in late October.", "It was on sale that week.",
    "My daughter chose the colour.", "I wrote to the maker about it.",
)  # fmt: skip
_CASES = (
    "Customer {name} ordered the {item} on day {day} and asks why order {number} has not arrived.",
    "Customer {name} wants to send back the {item} of order {number} since it is the wrong size.",
    "Customer {name} paid twice for order {number}, a {item}, and asks for the money back.",
    "Customer {name} asks whether the {item} of order {number} can be sent to another address.",
    "Customer {name} says that the {item} of order {number} came broken on day {day}.",
    "Customer {name} asks for an invoice for the {item} of order {number}.",
)
_ASK = "You are a helpful agent of a shop. Read the case and answer in one polite sentence. Case: "
_NAMES = [
    "Ada",
    "Bo",
    "Chen",
    "Dora",
    "Eli",
    "Fay",
    "Gil",
    "Hana",
    "Ivo",
    "Jo",
    "Kim",
    "Lea",
    "Max",
]
_ITEMS = [
    "kettle",
    "lamp",
    "tent",
    "jacket",
    "printer",
    "mattress",
    "camera",
    "blender",
    "boot",
    "desk",
]
_PLACES = ["France", "Spain", "Italy", "Norway", "Sweden", "Finland", "Poland", "Greece", "Turkey", "Egypt", "Kenya", "Ghana", "Chad", "Mali", "Niger", "Angola", "Zambia", "Malawi", "Japan", "China", "India", "Nepal", "Laos", "Iran", "Iraq", "Oman", "Qatar", "Yemen", "Jordan", "Cuba", "Haiti", "Panama", "Peru", "Chile", "Brazil", "Ecuador", "Bolivia", "Uruguay", "Canada", "Mexico", "Austria", "Hungary", "Serbia", "Croatia", "Slovenia", "Slovakia", "Estonia", "Latvia", "Lithuania", "Belarus", "Ukraine", "Georgia", "Armenia", "Fiji", "Samoa", "Tonga"]  # fmt: skip


def row(question: str, answer: str, passage: str | None = None) -> Row:
    """A row with one reference."""
    return Row(question, [{"role": "user", "content": question}], [answer], passage)


def reviews(count: int, seed: int = 0) -> list[Row]:
    """Different reviews of three sentences, all asked in the same words."""
    chance = random.Random(seed)
    rows: dict[str, Row] = {}
    while len(rows) < count:
        label = chance.choice(("positive", "negative"))
        says = _GOOD if label == "positive" else _BAD
        one, other = (f"{chance.choice(_ABOUT)} {chance.choice(says)}" for _ in range(2))
        text = f"{one}. {chance.choice(_MORE)} {other}, too."
        rows.setdefault(text, row(_START + text, label))
    return list(rows.values())


def reviews_as_passages(count: int, seed: int = 0) -> list[Row]:
    """The same with one question for all of them, and the review as the passage."""
    rows = reviews(count, seed)
    return [
        row("Is this review positive or negative?", one.reference[0], one.prompt[len(_START) :])
        for one in rows
    ]


def support_cases(count: int, seed: int = 0) -> list[Row]:
    """Cases of a shop in six templates."""
    chance = random.Random(seed)
    rows: dict[str, Row] = {}
    while len(rows) < count:
        case = chance.choice(_CASES).format(
            name=chance.choice(_NAMES), item=chance.choice(_ITEMS),
            day=chance.randint(1, 31), number=chance.randint(10_000, 99_999),
        )  # fmt: skip
        rows.setdefault(
            case, row(_ASK + case, "I am sorry about that; we will look into it today.")
        )
    return list(rows.values())


def capitals(count: int, seed: int = 0) -> list[Row]:
    """One question about many countries."""
    chance = random.Random(seed)
    places = chance.sample(_PLACES, count)
    return [row(f"What is the capital of {place}?", f"City of {place}") for place in places]


def sums(count: int, seed: int = 0) -> list[Row]:
    """Short sums, differences, products and quotients of small numbers."""
    chance = random.Random(seed)
    rows: dict[str, Row] = {}
    while len(rows) < count:
        a, b, sign = chance.randint(2, 9), chance.randint(2, 9), chance.choice("+-*/")
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign]
        asked = f"What is {a} {sign} {b}?" if chance.random() < 0.5 else f"What is {a}{sign}{b}?"
        rows.setdefault(asked.replace(" ", ""), row(asked, f"{value:g}"))
    return list(rows.values())


KINDS: dict[str, tuple[Callable[..., list[Row]], int, int]] = {
    "reviews": (reviews, 400, 100),
    "reviews as passages": (reviews_as_passages, 400, 100),
    "support cases": (support_cases, 233, 60),
    "capitals": (capitals, 40, 16),
    "sums": (sums, 60, 30),
}
"""Kind -> (what makes the rows, how many are trained on, how many are held out)."""
