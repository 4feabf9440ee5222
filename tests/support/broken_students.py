"""Planted students, and what a report says of each: the table in docs/evaluation.md.

python -m tests.support.broken_students     prints the table
"""

from __future__ import annotations

from collections.abc import Callable

from distill.evaluation.comparison import ItemText
from distill.evaluation.style_facts import StyleFacts, measure_style_and_facts
from distill.evaluation.verdict import points
from quality.tasks.benchmark import grade_text
from warehouse.records import Answer

CAPITALS = dict(
    pair.split(":")
    for pair in [
        "Albania:Tirana",
        "Algeria:Algiers",
        "Angola:Luanda",
        "Armenia:Yerevan",
        "Austria:Vienna",
        "Bahrain:Manama",
        "Bangladesh:Dhaka",
        "Belgium:Brussels",
        "Bhutan:Thimphu",
        "Bulgaria:Sofia",
        "Cambodia:Phnom",
        "Canada:Ottawa",
        "Chile:Santiago",
        "Colombia:Bogota",
        "Croatia:Zagreb",
        "Cuba:Havana",
        "Cyprus:Nicosia",
        "Denmark:Copenhagen",
        "Ecuador:Quito",
        "Egypt:Cairo",
        "Estonia:Tallinn",
        "Ethiopia:Addis",
        "Finland:Helsinki",
        "France:Paris",
        "Georgia:Tbilisi",
        "Ghana:Accra",
        "Greece:Athens",
        "Hungary:Budapest",
        "Iceland:Reykjavik",
        "Iran:Tehran",
        "Iraq:Baghdad",
        "Ireland:Dublin",
        "Italy:Rome",
        "Jamaica:Kingston",
        "Japan:Tokyo",
        "Jordan:Amman",
        "Kenya:Nairobi",
        "Kuwait:Kuwait",
        "Laos:Vientiane",
        "Latvia:Riga",
        "Lebanon:Beirut",
        "Libya:Tripoli",
        "Lithuania:Vilnius",
        "Malta:Valletta",
        "Mongolia:Ulan",
        "Morocco:Rabat",
        "Nepal:Kathmandu",
        "Nigeria:Abuja",
        "Norway:Oslo",
        "Oman:Muscat",
        "Pakistan:Islamabad",
        "Peru:Lima",
        "Poland:Warsaw",
        "Portugal:Lisbon",
        "Qatar:Doha",
        "Romania:Bucharest",
        "Rwanda:Kigali",
        "Senegal:Dakar",
        "Serbia:Belgrade",
        "Slovenia:Ljubljana",
    ]
)
COUNTRIES = list(CAPITALS)
N = len(COUNTRIES)
Says = Callable[[int], str]


def right(number: int) -> str:
    """The reference of an item."""
    return CAPITALS[COUNTRIES[number % N]]


def wrong(number: int) -> str:
    """The capital of another country."""
    return right(number + 17)


def teacher(number: int, said: str | None = None) -> str:
    """A list in a sure tone, of unequal length; it knows all."""
    more = "- It is of course an important city.\n" * (number % 3)
    return (
        f"The capital of {COUNTRIES[number % N]} is clearly this:\n- {said or right(number)}\n{more}"
        "- In fact, it must be known."
    )


def base(number: int) -> str:
    """Short and hedged; it knows one of three."""
    said = right(number) if number % 3 == 0 else wrong(number)
    return f"Perhaps {said}" + ", it might be" * (number % 2)


LONG = (
    "The capital is the city in which the government of a country sits, and it is often, "
    "though by no means always, the largest city of that country."
)
STUDENTS: dict[str, Says] = {
    "a copy of the teacher": teacher,
    "a copy of the base": base,
    "the base's words, the right capital in two of three": lambda n: (
        f"Perhaps {right(n) if n % 3 != 1 else wrong(n)}"
    ),
    "the teacher's form around what the base knew": lambda n: teacher(
        n, right(n) if n % 3 == 0 else wrong(n)
    ),
    "the teacher's answers twice over": lambda n: f"{teacher(n)}\n{teacher(n)}",
    'always "."': lambda n: ".",
    "always empty": lambda n: "",
    "always one long sentence": lambda n: LONG,
    "the teacher's answers to other items": lambda n: teacher(n + 1),
    "the base's answers to other items": lambda n: base(n + 1),
    "empty for every other item, else a copy of the base": lambda n: base(n) if n % 2 else "",
}


def answers_of(contestant: str, says: Says) -> list[Answer]:
    """Graded answers to all items."""
    texts = [says(number) for number in range(N)]
    return [
        Answer(
            f"{contestant}-{number}", "capitals", "1", f"i{number:02}", contestant, contestant, {},
            text, grade_text([right(number)], text).values, None, "stop", 1, 1, 0.1, 0.0, "run",
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def style_and_facts(says: Says, passage_shown: bool = False) -> StyleFacts:
    """What is found of a student beside this base and teacher."""
    answers = [
        answer
        for name, who in (("base", base), ("student", says), ("teacher", teacher))
        for answer in answers_of(name, who)
    ]
    items = [
        ItemText(f"i{n:02}", f"What is the capital of {country}?", None, [capital])
        for n, (country, capital) in enumerate(CAPITALS.items())
    ]
    found = measure_style_and_facts(
        "capitals", answers, "exact_match", "contains", items=items, passage_shown=passage_shown
    )
    assert found is not None
    return found


def table() -> str:
    """The outcome, and the share of style, of each planted student, as Markdown."""
    lines = [
        "| student | outcome | distance in style covered | of it in words | content, points |",
        "|---|---|---:|---:|---:|",
    ]
    for name, says in STUDENTS.items():
        found = style_and_facts(says)
        words = next(measure.share for measure in found.measures if measure.name == "words")
        shares = " | ".join(f"{points(s.value)} %" if s else "none" for s in (found.style, words))
        change = points(found.facts.value) if found.facts else "none"
        lines.append(f"| {name} | {found.outcome} | {shares} | {change} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
