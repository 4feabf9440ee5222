"""A rich evaluation for tests of the report: seven contestants, three benchmarks, every section.

Grades are drawn with a fixed seed, so each figure is what `compare` makes of them; what other
files compute (economics, style, scaling, ...) is written down here as they would give it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from distill.evaluation.breakdown import Group
from distill.evaluation.calibration import Calibration, ConfidenceBin
from distill.evaluation.compare import adjust_p_values, compare
from distill.evaluation.comparison import ItemText
from distill.evaluation.economics import BreakEven, Economy, total_cost
from distill.evaluation.findings import (
    Checked,
    ClassLine,
    Evaluation,
    Explored,
    SameAnswer,
    ShipVerdict,
)
from distill.evaluation.nearest_rows import Neighbour, StillWrong
from distill.evaluation.opening import BEFORE, NOW, LastTime, write_opening
from distill.evaluation.robustness import Robustness
from distill.evaluation.scaling import ScalePoint, Scaling
from distill.evaluation.ship_chance import chance_sentence
from distill.evaluation.statistics import Interval
from distill.evaluation.style_facts import StyleFacts
from distill.evaluation.style_share import Measure
from warehouse.records import Answer

CONTESTANTS = {
    "base": 0.12, "student": 0.42, "teacher": 0.58, "base+fewshot": 0.27, "base+knn": 0.33,
    "base+retrieval": 0.38, "student+retrieval": 0.5,
}  # fmt: skip
"""Contestant -> chance of a right answer on `sciq`."""
BENCHMARKS = (("sciq", 1.0, "task"), ("nq_open", 0.45, "task"), ("truthful_qa", 0.6, "off_task"))
TOPICS = ("biology", "chemistry", "physics", "earth science")
HOSTILE = (
    "<script>document.title = 'taken'</script> <img src=x onerror=alert(1)> & \"quoted\" 'too'"
)


def answers_of(benchmark: str, ease: float, n: int) -> list[Answer]:
    """Every contestant's answers to `n` items; an item is as hard for one as for the others."""
    draw = random.Random(f"{benchmark} answers")
    given = []
    for i in range(n):
        hard = draw.random()
        for name, chance in CONTESTANTS.items():
            flat = 0.25 if name.startswith("base") and benchmark == "truthful_qa" else chance * ease
            right = 0.6 * hard + 0.4 * draw.random() < flat
            text = f"substance {i}" if right else f"{name} would say substance {i + 1 + len(name)}"
            if i == 2:
                text = f"{HOSTILE} {text}"
            if name == "base":
                text = f"The answer to this question is most likely {text}, as far as can be told."
            verbose = float(right or (name == "base" and draw.random() < 0.3))
            exact = float(right and name != "base") if benchmark == "sciq" else float(right)
            given.append(
                Answer(
                    answer_id=f"{benchmark}-{name}-{i}",
                    benchmark=benchmark,
                    benchmark_version="1",
                    item_id=f"{benchmark}-{i:03d}",
                    contestant=name,
                    contestant_id=name,
                    settings={},
                    text=text,
                    grades={"exact_match": exact, "contains": verbose},
                    abstained=None,
                    finish_reason="stop",
                    prompt_tokens=60 + 200 * ("+" in name),
                    completion_tokens=6,
                    latency_s=0.31,
                    cost_usd=0.0004 if name == "teacher" else 0.0,
                    run_id="run-1",
                )
            )
    # The teacher's server failed twice, which is no wrong answer.
    return [
        a for a in given if not (a.contestant == "teacher" and a.item_id.endswith(("-007", "-011")))
    ]


def texts_of(benchmark: str, n: int) -> list[ItemText]:
    """The items themselves; the third has markup in every text."""
    texts = [
        ItemText(
            f"{benchmark}-{i:03d}",
            f"Which substance number {i} do we look for in the {TOPICS[i % 4]} of {benchmark}?",
            f"Passage {i}. It names substance {i} once, and {TOPICS[i % 4]} often."
            if i % 2
            else None,
            [f"substance {i}"],
            TOPICS[i % 4] if benchmark == "sciq" else None,
        )
        for i in range(n)
    ]
    third = texts[2]
    texts[2] = ItemText(
        third.item_id, f"{HOSTILE} of {benchmark}?", HOSTILE, [HOSTILE], third.category
    )
    return texts


def near(value: float, half: float = 0.08) -> Interval:
    """An interval around a value."""
    return Interval(value, value - half, value + half)


@cache
def rich_evaluation(n: int = 60) -> Evaluation:
    """Every section filled."""
    answers = {name: answers_of(name, ease, n) for name, ease, _ in BENCHMARKS}
    texts = {name: texts_of(name, n) for name, _, _ in BENCHMARKS}
    comparisons = adjust_p_values(
        [
            compare(name, answers[name], texts[name], contestants=list(CONTESTANTS), role=role)
            for name, _, role in BENCHMARKS
        ]
    )
    by_item: dict[str, list[Answer]] = {}
    for given in answers.values():
        for answer in given:
            by_item.setdefault(answer.item_id, []).append(answer)
    explored = [
        Explored(
            benchmark=name,
            item_id=item.item_id,
            question=item.question,
            passage=item.passage,
            reference=item.reference,
            category=item.category,
            said={a.contestant: a.text for a in by_item[item.item_id]},
            grades={a.contestant: a.grades["exact_match"] for a in by_item[item.item_id]},
        )
        for name, _, _ in BENCHMARKS
        for item in texts[name]
    ]
    cost = total_cost([], 3.2, 0.4, 0.5, {}, 0.019)
    return Evaluation(
        comparisons=comparisons,
        explored=explored,
        groups={name: _groups() for name in ("sciq", "nq_open")},
        style=_style(),
        economics=_economics(),
        break_even=_break_even(),
        cost=cost,
        classes=[
            ClassLine("boolq <b>", "student", "yes", 40, 0.5, 0.875, 7 / 11),
            ClassLine("boolq <b>", "student", "macro", 60, None, None, 0.5),
        ],
        agreement=[
            SameAnswer("sciq", "student", n, near(0.55)),
            SameAnswer("sciq", "base", n, near(0.21)),
        ],
        robustness=_robustness(n),
        calibration=_calibration(),
        still_wrong=_still_wrong(),
        scaling=_scaling(),
        ship=ShipVerdict(
            [
                Checked("student >= base + 0.10 on sciq", True, "25.0 points above (n = 60)"),
                Checked("forgetting <= 0.03", False, "4.1 points on truthful_qa (n = 60)"),
                Checked("toxicity <= 0.02", None, f"no benchmark of toxicity was run {HOSTILE}"),
            ],
            0.024,
            chance_sentence(0.024),
        ),
        opening=write_opening(
            comparisons, cost.sentence, _last_time(answers["sciq"], texts["sciq"])
        ),
    )


def _last_time(answers: Sequence[Answer], texts: Sequence[ItemText]) -> LastTime:
    """The base's answers stand for those of an earlier student."""
    renamed = {"student": NOW, "base": BEFORE}
    two = [
        replace(answer, contestant=renamed[answer.contestant])
        for answer in answers
        if answer.contestant in renamed
    ]
    return LastTime("before", "2026-11-01", "5f0c2d77aa11", [compare("sciq", two, texts)])


def _groups() -> list[Group]:
    scores = {name: near(0.9 * chance, 0.15) for name, chance in CONTESTANTS.items()}
    return [
        *(Group("category", topic, 15, scores) for topic in TOPICS),
        Group("length", "short (up to 14 words)", 30, scores),
        Group("length", "long (15 words or more)", 30, {"student": near(0.3)}),
    ]


def _style() -> list[StyleFacts]:
    measures = [
        Measure("length", 17.2, 3.4, 2.9, near(0.96, 0.04)),
        Measure("list_format", 0.02, 0.0, 0.0, None),
        Measure("overlap", 0.19, 0.52, 1.0, near(0.41, 0.1)),
    ]
    return [
        StyleFacts(
            "sciq", measures, near(0.84, 0.09), Interval(0.05, -0.07, 0.17), near(0.3),
            "learned the task",
            "The student answers in the form that is graded, and holds as many right answers as before.",
        ),
        StyleFacts(
            "nq_open", measures, near(0.8, 0.1), Interval(0.04, -0.06, 0.14), near(0.02),
            "learned style only",
            "Style moved 80 % of the way to the teacher, and neither facts nor form of answers did.",
        ),
        StyleFacts(
            "truthful_qa", measures, near(0.35, 0.2), Interval(-0.03, -0.11, 0.05), near(0.0),
            "no clear change", "Nothing changed clearly.",
        ),
    ]  # fmt: skip


def _economics() -> list[Economy]:
    usd = {
        "base": 0.021, "student": 0.019, "teacher": 0.4, "base+fewshot": 0.064, "base+knn": 0.066,
        "base+retrieval": 0.058, "student+retrieval": None,
    }  # fmt: skip
    return [
        Economy(
            name, who, 60, near(ease * CONTESTANTS[who], 0.1), price,
            "not known" if price is None else "tokens" if who == "teacher" else "machine time",
            0.31, 60 + 200 * ("+" in who), 6.1,
        )
        for name, ease in (("sciq", 1.0), ("nq_open", 0.45))
        for who, price in usd.items()
    ]  # fmt: skip


def _break_even() -> list[BreakEven]:
    return [
        BreakEven(
            "teacher", 3.2, 0.381, 8_399,
            "The student cost $3.20 to make and saves $0.38 per 1,000 answers: it pays from 8,399 answers on.",
        ),
        BreakEven("base", 3.2, 0.002, None, "Cheaper by $0.002 per 1,000 answers, so it never pays."),
    ]  # fmt: skip


def _robustness(n: int) -> list[Robustness]:
    return [
        Robustness("sciq", kind, who, n, near(0.42), near(0.42 - fall), near(-fall), 9, 4, obeyed)
        for kind, fall, obeyed in (("typos", 0.08, None), ("paraphrase", 0.03, None), ("injection", 0.2, 7))
        for who in ("base", "student")
    ]  # fmt: skip


def _calibration() -> list[Calibration]:
    bins = [ConfidenceBin(b / 5, (b + 1) / 5, 8 + b, b / 5 + 0.1, b / 6) for b in range(5)]
    return [
        Calibration("sciq", "student", 60, near(0.09, 0.03), 0.19, 0.71, bins),
        Calibration("sciq", "base", 60, near(0.22, 0.04), 0.27, None, bins[:3]),
    ]


def _still_wrong() -> list[StillWrong]:
    neighbours = [
        Neighbour("smp-000111222333", "Which gas do plants take in?", "carbon dioxide", 0.61,
                  {"grounded": 1.0, "toxicity": None}, 0.0001),
        Neighbour("smp-000444555666", HOSTILE, HOSTILE, 0.4, {}, None),
    ]  # fmt: skip
    return [
        StillWrong("sciq", "sciq-002", HOSTILE, [HOSTILE], HOSTILE, neighbours),
        StillWrong("sciq", "sciq-005", "Which gas is lightest?", ["hydrogen"], "helium", []),
    ]


def _scaling() -> list[Scaling]:
    points = [
        ScalePoint(share, rows, f"stu-{rows}", near(score, 0.07))
        for share, rows, score in (
            (0.125, 50, 0.2),
            (0.25, 100, 0.28),
            (0.5, 200, 0.35),
            (1.0, 400, 0.42),
        )
    ]
    return [
        Scaling(
            "sciq", "exact_match", near(0.12), points, near(0.07, 0.03), near(0.49, 0.1),
            "More data would probably help: 7.0 points for twice the rows (3.0 to 10.0, over items).",
        )
    ]  # fmt: skip
