"""The report: golden files, escaping, and the awkward runs."""

import base64
import hashlib
import itertools
import json
import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from distill.evaluation.compare import compare
from distill.evaluation.comparison import ItemText, SeedScore
from distill.evaluation.findings import Evaluation
from distill.evaluation.ship_chance import chance_sentence, rule_sentence
from distill.evaluation.statistics import Interval
from distill.evaluation.style_facts import BOTH_NAME
from distill.report.page import describe_one_seed
from distill.report.report import (
    TEMPLATES,
    as_cell,
    as_toml,
    loss_curve,
    render_html,
    render_markdown,
    to_json,
)
from distill.report.training_section import summarize_audit
from tests.distill.test_compare import answer
from tests.support.reports import (
    empty_report,
    example_audit,
    example_report,
    parsed,
    rich_report,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def without_style_and_script(page):
    """The page without its one style sheet, its one script and the script's hash."""
    for part in (r"(?<=<style>).+?(?=</style>)", r"(?<=<script>).+?(?=</script>)",
                 r"(?<=sha256-)[\w+/]+=*"):  # fmt: skip
        page, number = re.subn(part, "", page, flags=re.DOTALL)
        assert number == 1, part
    return page


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_golden(suffix):
    text = {"md": render_markdown, "html": render_html}[suffix](example_report())
    if suffix == "html":
        text = without_style_and_script(text)
    golden = GOLDEN / f"report.{suffix}"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_rendering_is_pure():
    report = example_report()
    assert render_html(report) == render_html(report)
    assert render_markdown(report) == render_markdown(report)


@pytest.fixture(scope="module")
def rich_html():
    return render_html(rich_report())


@pytest.mark.parametrize("make", [example_report, rich_report])
def test_planted_markup_stays_text(make):
    html = render_html(make())
    seen = parsed(html)
    tags = [tag for tag, _ in seen]
    assert not {*tags} & {"img", "iframe", "link", "form", "object", "base"}
    assert tags.count("script") == 1
    assert not [attr for _, attrs in seen for attr in attrs if attr.startswith("on")]
    assert all(attrs["href"].startswith("#") for tag, attrs in seen if tag == "a")
    assert not [attrs for _, attrs in seen if attrs.keys() & {"src", "style", "action"}]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    for text in ("http://", "https://", "url(", "@import", "innerHTML", "eval("):
        assert text not in html


def test_the_policy_names_the_page_s_own_script_and_no_other(rich_html):
    (policy,) = [a["content"] for t, a in parsed(rich_html) if t == "meta" and "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", rich_html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{digest}'"
    )


def test_sections_stand_in_order_and_tables_and_charts_are_labelled():
    html = render_html(example_report())
    order = re.findall(r'<h2 id="(\w+)"', html)
    assert order == [
        "verdict", "scores", "differences", "items", "notes", "funnel", "quality", "trainer", "training",
        "cost", "again",
    ]  # fmt: skip
    assert len(charts_of(html)) == 6


def charts_of(html):
    """The charts' attributes; every one has a title and a description."""
    seen = parsed(html)
    charts = [attrs for tag, attrs in seen if tag == "svg"]
    ids = [attrs["id"] for _, attrs in seen if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(chart["role"] == "img" for chart in charts)
    assert all(ref in ids for c in charts for ref in c["aria-labelledby"].split())
    return charts


def test_a_rich_run_has_every_section_and_the_contents_name_them(rich_html):
    order = re.findall(r'<h2 id="(\w+)"', rich_html)
    assert order == [
        "verdict", "scores", "differences", "economics", "style", "scaling", "groups",
        "classes", "agreement",
        "robustness", "calibration", "wrong", "items", "notes", "funnel", "quality", "trainer", "training",
        "cost", "again",
    ]  # fmt: skip
    assert re.findall(r'<li><a href="#(\w+)"', rich_html) == order
    kinds = [chart.get("class") for chart in charts_of(rich_html)]
    assert (kinds.count("scores"), kinds.count("plot")) == (3, 4)
    assert (
        "<p>So far this student cost 3.40 USD and took 24.0 minutes of this machine;" in rich_html
    )
    assert "A student no better than the base would have passed in about 2.4 % of" in rich_html
    assert len(rich_html.encode()) < 3_000_000


def test_what_a_screen_reader_needs_is_there(rich_html):
    seen = parsed(rich_html)
    levels = [int(tag[1]) for tag, _ in seen if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs["scope"] in ("col", "row") for tag, attrs in seen if tag == "th")
    assert len(re.findall("<table", rich_html)) == rich_html.count("<caption>")
    tags = [tag for tag, _ in seen]
    for place, tag in enumerate(tags):
        if tag in ("input", "select"):
            assert tags[place - 1] == "label"
    live = [attrs for _, attrs in seen if attrs.get("aria-live") == "polite"]
    assert [attrs["role"] for attrs in live] == ["status"]
    assert ("nav", {"aria-label": "Contents"}) in seen
    assert 'class="skip" href="#verdict"' in rich_html


def test_the_verdict_comes_first_and_whole(rich_html):
    words = re.sub(r"<[^>]+>", "", rich_html[rich_html.index('id="verdict"') :])
    told = words[: words.index("Bars are means")]
    for text in (
        "learned the task", "learned style only", "The student beats the base by 38.3 points",
        "Should I fine-tune at all?", "does not ship", "✗ not met", "? not measured",
        "Was anything forgotten?", "Read this first", "teacher failed on 2 of 60 items",
        "with 60 items, a true difference of",
    ):  # fmt: skip
        assert text in told, text
    assert told.count("teacher failed on 2 of 60 items") == 1  # of three benchmarks, told once


def test_the_ship_table_says_where_point_estimates_decide(rich_html):
    report = rich_report()
    rule = rule_sentence(0.56, certain=False)
    ship = replace(
        report.evaluation.ship, by_chance=0.56, chance_sentence=chance_sentence(0.56), rule=rule
    )
    loose = replace(report, evaluation=replace(report.evaluation, ship=ship))
    for text in (render_html(loose), render_markdown(loose)):
        beside = text[text.index(rule) :][:2_000]
        assert beside.index("4.1 points on") < beside.index("passed in about 56.0 %")
    assert to_json(loose)["evaluation"]["ship"]["rule"] == rule
    assert "Point estimates decide" not in rich_html


def test_the_best_is_marked_in_words(rich_html):
    rows = re.findall(r"<tr><th scope=\"row\">([^<]*)</th>(<td>.*?)</tr>", rich_html)
    best = [name for name, cells in rows if cells.startswith('<td><span class="best">best</span>')]
    assert best == ["teacher"] * 3


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_stands_out_in_both_schemes(scheme):
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    roots = [
        dict(re.findall(r"--([\w-]+): (#\w+)", r))
        for r in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    colours = roots[0] | roots[scheme]
    on = [(text, ground) for text in ("ink", "quiet") for ground in ("paper", "wash")]
    on += [("accent", "paper"), ("ink", "marked"), ("ink", "mind-wash")]
    on += [(name, f"{name}-wash") for name in ("good", "bad", "mind")]
    for text, ground in on:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark in ("base", "student", "teacher", "other"):
        assert contrast(colours[mark], colours["paper"]) >= 3, mark


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_supervised_span_is_marked_and_escaped():
    html = render_html(example_report())
    parsed(html)
    (example,) = re.findall(r'<pre dir="auto">(.*?)</pre>', html, re.DOTALL)
    before, marked = example.split("<mark>")
    assert before.startswith("&lt;|user|&gt;&lt;script&gt;")
    assert before.endswith("&lt;|assistant|&gt;\n")
    assert marked.startswith("&lt;script&gt;")
    assert marked.endswith("&lt;|end|&gt;</mark>")
    text = render_markdown(example_report())
    assert "<mark>&lt;script&gt;" in text


def test_the_audit_is_told_in_words_and_unknown_figures_by_name():
    told = dict(summarize_audit(example_audit()).lines)
    assert told["rows"].startswith("396 of 400 trained on; 1 dropped: empty completion; 3 dropped")
    assert told["tokens"] == "61,000, of which 4,900 supervised (8.0%)"
    assert told["prompt in use"].startswith("each of 396 rows begins with exactly the prompt")
    assert told["end of an answer"].startswith(
        "<|im_end|> in 396 rows, missing in 0; serving stops"
    )
    assert told["held-out overlap"].startswith("1 of 396 rows contain one of 40 items")
    assert told["memory estimated"].startswith("3.11 GB of 25.28 GB there: weights 557.60 MB")
    assert told["memory measured"].endswith("10.00 MB of it before the model")
    estimate = {**example_audit()["memory_estimate"], "process": 10_000_000, "total": 3_120_000_000}
    whole = dict(summarize_audit({**example_audit(), "memory_estimate": estimate}).lines)
    assert whole["memory estimated"].startswith("3.12 GB of 25.28 GB there: process 10.00 MB, ")
    assert whole["memory measured"].endswith("before the model; 1.15 times the estimate")
    assert told["temperature"] == "2"
    assert told["truncated"].startswith("3 of 400 rows (0.8%) are longer than max_length = 512")
    scarce = dict(summarize_audit({**example_audit(), "memory_there": 2_000_000_000}).lines)
    assert scarce["memory estimated"].startswith("more than there is: 3.11 GB of 2.00 GB there")
    unlike = {**example_audit(), "differing": 4, "difference": "asked with x, trained on y"}
    assert (
        "4 of 400 rows have another prompt in use: asked with x"
        in dict(summarize_audit(unlike).lines)["prompt in use"]
    )
    assert summarize_audit({}).lines == []
    older = summarize_audit({"rows_in": 4, "truncated": 0, "examples": [], "lengths": {}})
    assert older.lines == [("rows in", "4"), ("truncated", "0")]


def test_both_losses_are_drawn():
    curve = loss_curve(example_report().losses)
    assert (len(curve.points), len(curve.held_out)) == (20, 5)
    assert curve.held_out[-1][0] == 1.0
    assert curve.lowest == (8.0, pytest.approx(0.45))
    html = render_html(example_report())
    assert html.count('<polyline class="curve') == 2
    assert "lowest 0.450 at step 8" in html
    assert "lowest 0.450 at step 8" in render_markdown(example_report())


def test_markdown_cells_hold_hostile_replies():
    text = render_markdown(example_report())
    outside = text.split("```toml")[0]
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\](?:\(|\[)", outside)
    rows = [line for line in outside.splitlines() if "alert(1)" in line and line.startswith("|")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 6, 7}
    rich = render_markdown(rich_report()).split("```toml")[0]
    assert "<script" not in rich
    assert "<img" not in rich
    assert as_cell("a|b\nc") == r"a\|b<br>c"
    assert as_cell("  ") == "(empty)"
    assert as_cell("1. x") == "&#49;. x"
    assert as_cell("- x") == "&#45; x"


@pytest.mark.parametrize("make", [example_report, rich_report])
def test_every_markdown_table_has_equal_rows(make):
    width = None
    for line in render_markdown(make()).split("```toml")[0].splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


def test_an_empty_run_still_reports():
    html, text = render_html(empty_report()), render_markdown(empty_report())
    parsed(html)
    assert "No benchmark was run" in html
    assert "No benchmark was run" in text
    left_out = ("differences", "economics", "style", "items", "explorer")
    for place in (*left_out, "funnel", "quality", "trainer", "training"):
        assert f'id="{place}"' not in html and f'href="#{place}"' not in html
    for claim in ("No sample", "No scorer", "No loss", "No audit"):  # nobody looked
        assert claim not in html and claim not in text
    assert "No loss was recorded" in render_html(replace(example_report(), losses=[]))
    kept_all = replace(example_report(), drop_reasons=[])
    assert "No sample was dropped" in render_html(kept_all)


def test_contestants_without_answers_or_grades():
    ungraded = [answer("student", 0, None, "?")]
    comparison = compare("quiz", ungraded, [ItemText("i000", "q", None, [])])
    report = replace(example_report(), evaluation=Evaluation([comparison]))
    parsed(render_html(report))
    assert "| student | – | 0 / 1 / 0 |" in render_markdown(report)


def test_two_benchmarks_keep_their_ids_apart():
    report = example_report()
    html = render_html(replace(report, evaluation=Evaluation(report.comparisons * 2)))
    ids = [attrs["id"] for _, attrs in parsed(html) if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_strange_characters_can_be_written():
    strange = "a\ud800b\x00c"
    report = replace(example_report(), notes=[strange], plan={"name": strange})
    for text in (render_html(report), render_markdown(report), json.dumps(to_json(report))):
        text.encode("utf-8")
        assert "\x00" not in text


def test_json_round_trip_has_the_verdict():
    plain = json.loads(json.dumps(to_json(rich_report()), allow_nan=False))
    evaluation = plain["evaluation"]
    assert evaluation["comparisons"][0]["verdict"].startswith("The student")
    assert evaluation["comparisons"][0]["fine_tune"].startswith("Highest of 7 contestants")
    assert evaluation["ship"]["ships"] is False
    assert all(evaluation.values())
    assert len(evaluation["explored"]) == 180
    assert plain["funnel"][0] == {"label": "prompts", "count": 1200, "note": "asked of the teacher"}


def test_plan_reads_back_from_toml():
    plan = {
        "name": 'q"\\\n\x7f',
        "on": True,
        "rate": 1e-05,
        "datagen": {
            "recipe": [{"use": "imitation", "limit": None, "x": [1, "é😀"]}],
            "a b": {"c": 2},
        },
    }
    expected = json.loads(json.dumps(plan))
    del expected["datagen"]["recipe"][0]["limit"]
    assert tomllib.loads(as_toml(plan)) == expected


def test_loss_curve_thins_out_keeps_ends_and_counts_what_is_not_finite():
    losses = [{"step": float(i), "loss": 2.0 - i / 1000} for i in range(1001)]
    losses[500]["loss"] = float("nan")
    curve = loss_curve(losses)
    assert len(curve.points) <= 401
    assert curve.lost == 1
    assert curve.points[0] == (0.0, 1.0)
    assert curve.points[-1] == (1.0, 0.5)
    assert loss_curve([{"step": 1.0, "loss": float("nan")}]) is None
    assert loss_curve([{"step": 3.0, "loss": 0.0}]).points == [(0.0, 0.0)]


def test_the_advice_on_prices_is_given_once_and_the_average_of_style_is_said():
    evaluation = rich_report().evaluation
    line, *_ = evaluation.break_even
    advice = "More held-out items give more batches."
    lines = [replace(line, against=name, advice=advice) for name in ("teacher", "base", "rival")]
    report = replace(rich_report(), evaluation=replace(evaluation, break_even=lines))
    for text in (render_html(report), render_markdown(report)):
        assert text.count(advice) == 1
        assert text.count("it pays from 8,399 answers on.") == 3
        assert text.count("is the plain average of those of length and overlap") == 3


def test_what_is_of_the_first_seed_alone_says_so_where_it_stands():
    evaluation = rich_report().evaluation
    score = {"exact_match": Interval(0.4, 0.3, 0.5)}
    first, *others = evaluation.comparisons
    seeded = replace(first, seeds=[SeedScore(n, f"stu-{n}", 60, score) for n in (7, 8, 9)])
    report = replace(rich_report(), evaluation=replace(evaluation, comparisons=[seeded, *others]))
    page, text = render_html(report), render_markdown(report)
    whole = "the student of training seed 7 alone"
    expected = {
        "economics": f"Prices, times and tokens of the student's answers are of {whole}.",
        "style": f"Style is of {whole}. Content and headline are means over all 3 seeds.",
        **{
            place: f"Here “student” is {whole}, not the mean over all 3 seeds."
            for place in (
                "groups", "classes", "agreement", "robustness", "calibration", "wrong", "items",
            )
        },
    }  # fmt: skip
    for place, sentence in expected.items():
        head = rf'<h2 id="{place}">[^<]*</h2>\n<p class="quiet">([^<]*)</p>'
        told = re.search(head, page)[1].replace("&#39;", "'")
        assert told.startswith(sentence), place
    assert text.count(whole) == len(expected) - 1  # Markdown has no list of every item
    options = [
        replace(line, sentence=f"accuracy {BOTH_NAME} rose by 5.0 points.")
        for line in evaluation.style
    ]
    told = describe_one_seed(replace(report.evaluation, style=options))["style"]
    assert told.endswith("means over all 3 seeds, except of items where both name an option.")
    assert whole not in render_html(rich_report()) and describe_one_seed(evaluation) == {}
