"""Grading, grounding, retrieval and style in languages other than English."""

from __future__ import annotations

import pytest

from quality.conformance import sample_of
from quality.models.bm25 import Index
from quality.scorers.grounded import Grounded
from quality.scorers.style import Style
from quality.tasks.graders import read_choice, read_class
from quality.text.claims import claims
from quality.text.languages import foreign
from warehouse.text.normalize import contains, exact_match, numbers, token_f1


@pytest.mark.parametrize(
    ("metric", "answer", "reference"),
    [
        (contains, "答案是北京。", "北京"),
        (contains, "東京タワーです", "東京タワー"),
        (contains, "คำตอบคือกรุงเทพครับ", "กรุงเทพ"),
        (contains, "उत्तर नई दिल्ली है।", "नई दिल्ली"),
        (contains, "Réponse : Orsay", "orsay"),
        (exact_match, "北京。", "北京"),
        (exact_match, "「東京」", "東京"),
        (exact_match, "１２３", "123"),
        (exact_match, "O’Brien", "O'Brien"),
        (exact_match, "“Hamlet”", "Hamlet"),
        (exact_match, "nitrogen – oxygen", "nitrogen - oxygen"),
        (exact_match, "iPhone 手机", "iPhone手机"),
        (exact_match, "Rene\u0301", "René"),
        (exact_match, "ＣＯ₂", "CO2"),
    ],
)
def test_answers_that_are_right(metric, answer, reference):
    assert metric(answer, reference) == 1.0


@pytest.mark.parametrize(
    ("metric", "answer", "reference"),
    [
        (exact_match, "10²", "102"),
        (exact_match, "नई दीली", "नई दिल्ली"),
        (exact_match, "東京", "京都"),
        (contains, "答案是上海。", "北京"),
        (contains, "दिन", "दीन"),
    ],
)
def test_answers_that_are_wrong(metric, answer, reference):
    assert metric(answer, reference) == 0.0


def test_f1_counts_characters_of_chinese_and_words_of_thai():
    assert token_f1("北京市", "北京") == pytest.approx(2 * 2 / 5)
    assert token_f1("กรุงเทพครับ", "กรุงเทพ") == pytest.approx(2 * 1 / 3)


def test_numbers_beside_letters_without_spaces_are_read():
    assert numbers("人体细胞有46条染色体，在1969年") == ["46", "1969"]
    assert numbers("１，０００人") == ["1000"]


def grounded(passage, completion):
    (score,) = Grounded().score([sample_of(completion, passage=passage)])
    return score


@pytest.mark.parametrize(
    ("passage", "completion"),
    [
        ("北京是中华人民共和国的首都。", "北京"),
        ("北京是中华人民共和国的首都。", "北京是中华人民共和国的首都。"),
        ("東京は日本の首都です。", "東京"),
        ("กรุงเทพเป็นเมืองหลวงของไทย", "กรุงเทพ"),
        ("भारत की राजधानी नई दिल्ली है।", "नई दिल्ली"),
        ("Столица России — Москва.", "Столица России — Москва."),
    ],
)
def test_spans_are_grounded_in_any_language(passage, completion):
    assert grounded(passage, completion).value == 1.0


@pytest.mark.parametrize(
    ("passage", "completion"),
    [
        ("भारत की राजधानी नई दिल्ली है।", "नई दीली"),
        ("北京是中华人民共和国的首都。", "上海"),
        (
            "北京是中华人民共和国的首都，也是全国的政治和文化中心。",
            "北京不是中华人民共和国的首都，也是文化中心。",
        ),
        ("鲸鱼不是鱼，它们是哺乳动物，用肺呼吸。", "鲸鱼是鱼，它们是哺乳动物，它们用肺呼吸。"),
        (
            "東京は日本の首都で、人口は千四百万人です。",
            "東京は日本の首都ではない。人口は千四百万人です。",
        ),
        (
            "人体细胞的细胞核里有46条染色体，排成23对。",
            "人体细胞的细胞核里有48条染色体，排成23对。",
        ),
    ],
)
def test_what_the_passage_does_not_say_is_not_grounded(passage, completion):
    assert grounded(passage, completion).value < 0.5


def test_a_long_claim_in_a_language_without_rules_is_left_unscored():
    score = grounded(
        "Москва является столицей России и крупнейшим городом страны по населению.",
        "Москва не является столицей России, и она не самый крупный город страны сегодня.",
    )
    assert score.value is None
    assert "reads as ru" in score.why


def test_retrieval_finds_passages_without_spaces():
    passages = [
        "北京是中国的首都。",
        "鲸鱼用肺呼吸，生活在海里。",
        "กรุงเทพเป็นเมืองหลวง",
        "The sky is blue.",
    ]
    index = Index(passages)
    queries = [
        "鲸鱼用什么呼吸？",
        "中国的首都是哪里？",
        "เมืองหลวงคืออะไร",
        "What colour is the sky?",
    ]
    assert [hits[0].position for hits in index.search(queries, 1)] == [1, 0, 2, 3]


def test_style_counts_in_any_language_and_leaves_out_what_is_english():
    (score,) = Style().score([sample_of("北京是中国的首都。它也是文化中心。")])
    assert score.value == 15
    assert score.details["labels"]["sentences"] == 2
    assert "hedges" not in score.details["labels"]
    assert "not English" in score.why
    (english,) = Style().score([sample_of("It is perhaps the capital.")])
    assert english.details["labels"]["hedges"] == pytest.approx(20)


def test_claims_are_cut_in_scripts_without_spaces():
    assert claims("鲸鱼用肺呼吸。它们生活在海里。") == ["鲸鱼用肺呼吸。", "它们生活在海里。"]
    assert claims("主要特点如下：\n1、用肺呼吸\n2、生活在海里") == ["用肺呼吸", "生活在海里"]


def test_choices_and_classes_in_other_scripts_are_read():
    assert read_choice("Ｂ", ["红", "蓝"]) == "B"
    assert read_choice("应该是蓝鲸。", ["红狐", "蓝鲸"]) == "B"
    assert read_class("这是正面的评论", ["正面", "负面"]) == "正面"


def test_a_language_is_named_only_where_it_is_sure():
    assert foreign("Das Auge eines Wirbelsturms ist ruhig.", ["en"]) == "de"
    assert foreign("Das Auge eines Wirbelsturms ist ruhig.", ["en", "de"]) is None
    assert foreign("我无法回答", ["en"]) == "zh"
    for text in ("Oxygen", "deoxyribonucleic acid", "42", "", "sodium, potassium, iodide, zinc"):
        assert foreign(text, ["zh"]) is None
