"""How often two equally fast models are told to differ in price: a table of docs/evaluation.md.

    python -m tests.bench.prices          # seeded, ten seconds

120 answers of each, in batches whose times are lognormal (sigma 0.5); the shares of a batch's time
taken for independent measurements, and the batches.
"""

from __future__ import annotations

import random
from dataclasses import replace

from distill.evaluation.compare import compare
from distill.evaluation.economics import find_break_even, price_answers
from tests.distill.test_compare import answer, items
from warehouse.records import Answer

ANSWERS = 120
BATCHES = (2, 5, 8, 15)
RUNS = 500


def answers_of(name: str, batches: int, draw: random.Random) -> list[Answer]:
    """Answers of one model; each names its batch."""
    rows = ANSWERS // batches
    answers = []
    for batch in range(batches):
        share = draw.lognormvariate(0, 0.5) / rows
        for row in range(rows):
            item = batch * rows + row
            details = {"batch": f"{name} {batch}"}
            answers.append(answer(name, item, 1.0, latency_s=share, details=details))
    return answers


def apart(batches: int) -> tuple[float, float]:
    """Share of the runs that tell two equal models apart: by answers, and by batches."""
    draw, counts = random.Random(batches), [0, 0]
    held_out = items(ANSWERS)
    comparison = None
    for _ in range(RUNS):
        answers = answers_of("student", batches, draw) + answers_of("base", batches, draw)
        comparison = comparison or compare("b", answers, held_out)
        alone = [replace(answer, details={"batch": answer.answer_id}) for answer in answers]
        for place, told in enumerate((alone, answers)):
            base, student = price_answers("b", comparison, told, 1.0)
            sentence = find_break_even(student, base, 0.0, 0.1, 1.0).sentence
            unsure = "too few batches" in sentence or "not clearly different" in sentence
            counts[place] += not unsure
    return counts[0] / RUNS, counts[1] / RUNS


def main() -> None:
    """Print the table."""
    print("| batches | answers resampled | batches resampled |")
    print("| ---: | ---: | ---: |")
    for batches in BATCHES:
        before, after = apart(batches)
        print(f"| {batches} | {100 * before:.1f} | {100 * after:.1f} |", flush=True)


if __name__ == "__main__":
    main()
