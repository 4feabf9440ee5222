"""The language of a text: by its words, else by its script, else by the text beside it."""

import pytest

from quality.text.languages import foreign, foreign_script, probabilities, readable

RUSSIAN = "Какая река протекает через город Москва?"
POLISH = "Jaka rzeka przepływa przez miasto Warszawa i dlaczego?"


@pytest.mark.parametrize(
    ("text", "languages", "found"),
    [
        ("Не могу.", ["en", "de"], "Cyrillic"),
        ("Не могу.", ["en", "ru"], None),
        ("안 됩니다.", ["en"], "ko"),
        ("ไม่", ["en"], "th"),
        ("不行", ["en"], "Han"),
        ("不行", ["ja"], None),
        ("नहीं", ["en"], "Devanagari"),
        ("Nie mogę.", ["en"], None),
        ("Oxygen", ["zh"], None),
        ("α", ["en"], None),
        ("α-Carotene", ["en"], None),
        ("42", ["zh"], None),
        ("", ["zh"], None),
    ],
)
def test_a_short_text_is_judged_by_its_script(text, languages, found):
    assert foreign_script(text, languages) == found
    assert foreign(text, languages) == found


@pytest.mark.parametrize(
    ("text", "beside", "found"),
    [
        ("Nie mogę.", POLISH, "pl"),
        ("Wisła", POLISH, "pl"),
        ("42", POLISH, None),  # no word of any language
        ("Oxygen", "Which gas do we breathe, and why?", None),
        ("Oka", RUSSIAN, "ru"),
        ("The eye of a hurricane is calm.", RUSSIAN, None),
        ("42", "", None),
    ],
)
def test_a_short_text_in_latin_letters_has_the_language_beside_it(text, beside, found):
    assert foreign(text, ["en"], beside=beside) == found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("呢個係我哋嘅學校，佢哋喺度返學，你哋唔好嘈。", "yue"),
        ("侬今朝夜里到啥地方去白相，阿拉一道去好伐？", "wuu"),
    ],
)
def test_what_is_alike_to_chinese_counts_as_chinese(text, code):
    best, probability = next(iter(probabilities(readable(text)).items()))
    assert (best, probability > 0.6) == (code, True)
    assert foreign(text, ["zh"]) is None
    assert foreign(text, ["en"]) == code


def test_a_letter_keeps_its_vowel_signs():
    assert readable("चाँद गर्म है।") == "चाँद गर्म है"
    assert foreign("पृथ्वी चपटी नहीं है।", ["hi"]) is None
