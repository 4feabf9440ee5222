"""Reports for tests: one with markup planted in every text, one with every section, an empty one."""

from dataclasses import asdict, replace
from html.parser import HTMLParser

from distill.evaluation.compare import compare
from distill.evaluation.comparison import ItemText
from distill.evaluation.findings import Evaluation, Explored
from distill.evaluation.statistics import Interval
from distill.report.curation_section import (
    Curation,
    DuplicateLine,
    MatchLine,
    MeasurementLine,
    ScorerLine,
)
from distill.report.kept_right import RightLine
from distill.report.report import FunnelStep, LedgerLine, RecipeLine, Report, StageCost
from quality.audit.roc import measure
from tests.distill.test_compare import answer
from tests.support.evaluations import rich_evaluation

HOSTILE = (
    "<script>alert(1)</script> | **bold** `code`\n# head\n[x](javascript:alert(2)) "
    "<img src=x onerror=alert(3)> &amp;"
)


def example_report():
    """Forty items; markup planted in a question, a passage, a reference and every reply."""
    given, texts = [], []
    for i in range(40):
        texts.append(
            ItemText(f"i{i:03d}", f"Which gas is number {i}?", f"Passage {i}.", [f"gas {i}"])
        )
        for name, share in (("base", 4), ("student", 2), ("teacher", 1)):
            right = i % share == 0 and not (name == "teacher" and i % 5 == 0)
            text = f"gas {i}" if right else f"{name} is not sure"
            given.append(
                answer(name, i, float(right), text, float(right or (name == "base" and i % 3 == 0)))
            )
    texts[2] = ItemText("i002", HOSTILE, f"</details>{HOSTILE}", [HOSTILE, "two"])
    given = [
        replace(a, text=f"{a.contestant} {HOSTILE}") if a.item_id == "i002" else a for a in given
    ]
    return Report(
        run_id="run-1",
        plan_name="quiz-small",
        plan_hash="0123abcd",
        created_at="2026-01-02 03:04 UTC",
        plan={
            "name": "quiz-small",
            "teacher": {"use": "scripted", "log": None},
            "train": {"seed": 0},
        },
        versions={"torch": "2.13.0", "<b>odd</b>": "1"},
        ids={"selection": "sel-1", "student": "stu-1"},
        evaluation=Evaluation([compare("quiz", given, texts)], explored=explored_of(given, texts)),
        funnel=[
            FunnelStep("prompts", 1200, "asked of the teacher"),
            FunnelStep("calls", 1190, "10 failures"),
            FunnelStep("kept", 400, "trained on"),
        ],
        recipes=[
            RecipeLine("imitation", 1000, 990, 10, 980, 4, 3, 3, 20, 300),
            RecipeLine(
                "reasoning",
                200,
                800,
                0,
                120,
                0,
                0,
                680,
                0,
                100,
                150,
                [("the answer is not <the reference>", 680)],
                "there are no more seeds",
            ),
        ],
        drop_reasons=[("grounded 0.0 < 1.0", 700), ("toxicity 0.9 > 0.2", 90)],
        losses=[
            *({"step": float(s), "loss": 3.0 / s, "learning_rate": 1e-3} for s in range(1, 21)),
            *({"step": float(s), "held_out_loss": 2.0 / s + s / 40} for s in range(4, 21, 4)),
        ],
        stages=[StageCost("generate", 3725.0, 1190, 120_000, 9_000, 0.0042, 10)],
        ledger=[
            LedgerLine(
                "run-1",
                "m@<b>host</b>",
                "imitation",
                1200,
                130_000,
                9_900,
                0.0046,
                0,
                7,
                3,
                0.41,
                0.9,
                2.25,
            ),
            LedgerLine(
                "run-0", "m@host", "held-out items", 40, 400, 90, None, 40, 0, 0, 0.4, 0.5, 0.6
            ),
        ],
        audit=example_audit(),
        notes=["toxicity was scored by <alt-profanity-check>"],
        protocol=["student: asked with no worked example, greedy"],
        curation=example_curation(),
    )


def explored_of(given, texts):
    """What everyone said to each item."""
    return [
        Explored(
            "quiz", text.item_id, text.question, text.passage, text.reference, text.category,
            {a.contestant: a.text for a in given if a.item_id == text.item_id},
            {a.contestant: a.grades["exact_match"] for a in given if a.item_id == text.item_id},
        )
        for text in texts
    ]  # fmt: skip


def rich_report(**changes):
    """Every section filled."""
    return replace(example_report(), evaluation=rich_evaluation(), **changes)


def example_audit():
    """Figures of a training, with markup in every text."""
    return {
        "rows_in": 400,
        "rows_kept": 396,
        "rows_dropped": {"empty completion": 1, "no completion token within max_length": 3},
        "tokens": 61_000,
        "supervised_tokens": 4_900,
        "max_length": 512,
        "longest": 603,
        "truncated": 3,
        "truncated_share": 0.0075,
        "missing_end": 0,
        "ends": {"<|im_end|>": 396},
        "serving_ends": ["<|im_end|>", HOSTILE],
        "merged_boundaries": 0,
        "differing": 0,
        "difference": None,
        "duplicates": 2,
        "held_out_overlap": {"items": 40, "rows": 1, "shown": [HOSTILE]},
        "lengths": {"128": 150, "256": 240, "512": 5, "1024": 4},
        "examples": [
            {"text": f"<|user|>{HOSTILE}\n<|assistant|>\n{HOSTILE}<|end|>", "supervised": f"{HOSTILE}<|end|>"}
        ],
        "held_out_rows": 40,
        "trainable_parameters": 4_884_480,
        "parameters": 139_399_488,
        "memory_estimate": {
            "weights": 557_600_000, "gradients": 19_540_000, "optimizer": 39_080_000,
            "activations": 2_470_000_000, "logits": 23_590_000, "rows": 8, "length": 512,
            "checkpointing": True, "total": 3_109_810_000,
        },
        "memory_there": 25_280_000_000,
        "memory_of": "GPU",
        "memory_before": 10_000_000,
        "memory": 3_600_000_000,
        "temperature": 2.0,
    }  # fmt: skip


def example_curation():
    """Planted markup in every text; a scorer measured on good and bad, one on good alone."""
    figures = asdict(measure([0.9, 0.8, 0.7, 0.2, 0.4], [True, True, False, False, True], "high", 0.5))  # fmt: skip
    alone = asdict(measure([0.9, None], [True, True], "high", 0.5))
    return Curation(
        scorers=[
            ScorerLine("grounded", "rule", "≥ 1", 390, 5, 5, 0.75, 120),
            ScorerLine("toxicity", HOSTILE, "≤ 0.5", 0, 0, 400, None, 0),
        ],
        all_reasons=[("grounded below 1", 120), (HOSTILE, 2)],
        matches=[MatchLine("overlap", "quiz", "i002", 0.91, HOSTILE, HOSTILE, HOSTILE)],
        matches_in_all=7,
        duplicates=[DuplicateLine(HOSTILE, HOSTILE, "Which gas?", "gas 1", 0.93)],
        duplicates_in_all=1,
        measurements=[
            MeasurementLine("grounded", "rule", "sciq: <b>entity</b>", 5, "≥ 0.5", figures, HOSTILE),
            MeasurementLine("grounded", "rule", "sciq: alone", 2, "≥ 0.5", alone, None),
        ],
        right=[
            RightLine(None, 95, 44, Interval(0.463, 0.366, 0.563), 145, 50, None, None),
            RightLine("grounded", 95, 44, Interval(0.463, 0.366, 0.563), 41, 6, 0.98, HOSTILE),
        ],
        agreement=[
            {"key": "grounded_min", "n": 12, "agreement": 0.75, "low": 0.47, "high": 0.91,
             "kappa": 0.4, "roc_auc": None, "abstained": 1},
        ],
    )  # fmt: skip


def empty_report():
    return replace(
        example_report(),
        evaluation=Evaluation([]),
        funnel=[],
        drop_reasons=[],
        losses=[],
        stages=[],
        ledger=[],
        audit={},
        curation=Curation(),
    )


class Tags(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    VOID = frozenset({"meta", "br", "input", "line", "rect", "path", "polyline", "circle"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags.seen
