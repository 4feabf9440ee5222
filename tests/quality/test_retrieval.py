"""BM25 over texts, and the scorer that judges completions by what it finds."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.models.bm25 import Hit, Index
from quality.scorers.retrieved import Retrieved
from quality.scoring.scorer import ScorerContext
from tests.quality.test_grounded import STRANGE
from warehouse.errors import DataError
from warehouse.records import Score

TEXTS = ["the cat sat", "dogs bark", "a cat and a cat", "", "cat sat", "Vitamin C"]


def test_search_by_hand():
    hits = Index(TEXTS).search(["cat", "Vitamin-C!", "sat"], 10)
    assert [[hit.position for hit in row] for row in hits] == [[2, 0, 4], [5], [0, 4]]
    assert hits[0][1].score == hits[0][2].score  # a tie goes by position


def test_the_score_is_bm25():
    """Robertson and Zaragoza (2009), with the idf that is never negative."""
    texts = [text.split() for text in ("cat sat mat", "cat cat dog bird eel", "fox", "dog fox")]
    mean = sum(map(len, texts)) / len(texts)
    hits = Index([" ".join(text) for text in texts]).search(["cat dog"], 9)[0]

    def score(text):
        total = 0.0
        for word in ("cat", "dog"):
            has = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - has + 0.5) / (has + 0.5))
            tf = text.count(word)
            total += idf * tf / (tf + 1.5 * (0.25 + 0.75 * len(text) / mean))
        return total

    assert {hit.position: hit.score for hit in hits} == pytest.approx(
        {n: score(text) for n, text in enumerate(texts) if score(text)}, rel=1e-5
    )


def test_k_cuts_the_same_order():
    rng = random.Random(0)
    words = [f"w{n}" for n in range(20)]
    index = Index([" ".join(rng.choices(words, k=6)) for _ in range(200)])
    for query in ("w1 w2", "w3", "w4 w5 w6 w4"):
        whole = index.search([query], 1000)[0]
        assert whole == sorted(whole, key=lambda hit: (-hit.score, hit.position))
        for k in (1, 3, 50):
            assert index.search([query], k)[0] == whole[:k]


def test_nothing_to_find_and_nothing_to_find_it_in():
    assert Index([]).search(["cat"], 3) == [[]]
    assert Index(["", "the", "🙂"]).search(["the", "cat", ""], 3) == [[], [], []]
    index = Index(TEXTS)
    assert index.search([], 3) == []
    assert index.search(["", "the of", "zebra", "\ud800"], 3) == [[], [], [], []]
    assert len(index) == len(TEXTS)
    with pytest.raises(ValueError, match="k is at least 1"):
        index.search(["cat"], 0)


def test_it_is_quiet(capfd, caplog):
    assert Index(TEXTS).search(["cat"], 1) == [[Hit(2, pytest.approx(0.32, abs=0.2))]]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records  # bm25s logs at DEBUG, whatever level the root logger has


@pytest.fixture
def folder(tmp_path):
    rows = [
        "Storms turn around an eye. The eye of a hurricane is calm.",
        "Dogs chase cats. Cats chase mice.",
        "Albert Einstein was born in Ulm on 14 March 1879.",
    ]
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return tmp_path


def verdict(folder, completion, question="What of it?", **options):
    one = replace(sample_of("x"), completion=completion, question=question, passage=None)
    scorer = Retrieved(documents=["facts.jsonl"], **options).with_tools(
        ScorerContext(folder=folder)
    )
    (score,) = scorer.score([one])
    assert isinstance(score, Score), score
    assert score.score_id == scorer.score_id(one)
    return score


def test_an_answer_is_judged_by_what_is_found(folder):
    found = verdict(folder, "calm", "How is the eye of a hurricane?")
    assert (found.value, found.why) == (1.0, None)
    assert found.details["passages"][0]["source"] == "facts.jsonl line 1, words 1-12"
    assert found.details["claims"][0]["source"] == "facts.jsonl line 1, words 1-12"
    assert verdict(folder, "stormy", "How is the eye of a hurricane?").value == 0.0


def test_each_claim_has_its_best_passage(folder):
    text = "Dogs chase cats. Albert Einstein was born in Ulm on 14 March 1879."
    found = verdict(folder, text)
    assert found.value == 1.0
    assert [row["source"].split(",")[0] for row in found.details["claims"]] == [
        "facts.jsonl line 2", "facts.jsonl line 3",
    ]  # fmt: skip
    ids = [passage["passage_id"] for passage in found.details["passages"]]
    assert len(ids) == len(set(ids)) == 2
    alone = verdict(folder, text, k=1)
    assert len(alone.details["passages"]) == 1 and alone.value < 1
    lie = verdict(folder, text.replace("1879", "1880"))
    assert lie.value < 0.5 and "1880-03-14" in lie.why
    mean = verdict(folder, text.replace("1879", "1880"), over="mean")
    assert mean.value == pytest.approx((1 + lie.value) / 2)


def test_it_abstains_with_a_reason(folder):
    assert verdict(folder, "zebras", "Zebras?").why.startswith("nothing retrieved")
    assert verdict(folder, "...").why == "no completion"


def test_the_model_names_the_documents(folder, tmp_path_factory):
    first = verdict(folder, "calm").model
    assert first == verdict(folder, "other").model
    (folder / "facts.jsonl").write_text('{"text": "The eye is stormy."}')
    assert first != verdict(folder, "calm").model
    other = tmp_path_factory.mktemp("other")
    (other / "facts.jsonl").write_text('{"text": "Zebras have stripes."}')
    scorer = Retrieved(documents=["facts.jsonl"]).with_tools(ScorerContext(folder=folder))
    here = scorer.model
    assert scorer.with_tools(ScorerContext(folder=other)).model != here == scorer.model


@pytest.mark.parametrize("what", STRANGE)
def test_strange_texts(folder, what):
    found = verdict(folder, STRANGE[what], "the eye")
    assert found.value is None or 0 <= found.value <= 1
    assert found.value == 1 or found.why
    json.dumps(found.details, ensure_ascii=False).encode()


def test_bad_options_and_missing_documents_are_refused(folder):
    for options in ({}, {"documents": ["a"], "k": 0}, {"documents": ["a"], "words": 5}):
        with pytest.raises(ValueError):
            Retrieved(**options)
    scorer = Retrieved(documents=["nothing/*.md"]).with_tools(ScorerContext(folder=folder))
    with pytest.raises(DataError, match="no document"):
        list(scorer.score([sample_of("x")]))
