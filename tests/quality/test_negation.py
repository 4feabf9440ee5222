"""Negations per language: what a passage denies is not grounded, and look-alikes deny nothing."""

import pytest

from quality.conformance import sample_of
from quality.scorers.grounded import Grounded
from quality.scoring.lexical_support import CAP
from quality.text.negation import LANGUAGES, is_negated, is_statement, language_of


def grounded(passage, completion):
    (score,) = Grounded().score([sample_of(completion, passage=passage)])
    return score


@pytest.mark.parametrize(
    ("language", "denying", "stating"),
    [
        ("en", "It is not red.", "It is a knot."),
        ("en", "It isn't red.", "It is an isthmus."),
        ("en", "Nobody came without a hat.", "Everybody came with a notable hat."),
        ("de", "Er ist nicht rot.", "Er vernichtet Rot."),
        ("de", "Es gibt keinen Regen.", "Es gibt einen kleinen Regen."),
        ("de", "Niemand kam ohne Hut.", "Jemand kam mit Hut."),
        ("fr", "Elle n'est pas rouge.", "Elle est rouge."),
        ("fr", "Pas un poisson.", "Un pas vers la mer."),
        ("fr", "Il part sans aucun bagage.", "Il part sans doute demain."),
        ("fr", "Elle ne dort jamais.", "N'importe qui dort."),
        ("es", "No es rojo.", "Es un nopal."),
        ("es", "Nunca llueve sin nubes.", "Sin embargo, llueve."),
        ("es", "Ningún pez vuela.", "No obstante, un pez vuela."),
        ("zh", "鲸鱼不是鱼。", "不同的鱼不断游动，不过不少。"),
        ("zh", "他没去。", "政府没收了货物。"),
        ("zh", "水無色。", "無論如何，無線電很好。"),
        ("zh", "他无法去。", "无论如何，无数的人来了。"),
        ("zh", "这并非事实。", "非洲非常大，除非下雨。"),
        ("zh", "他未到。", "未来很好。"),
        ("ja", "魚ではない。", "魚が少ない。"),
        ("ja", "行きません。", "行くかもしれません。"),
        ("ja", "食べなかった。", "食べなければならない。"),
        ("ja", "入ってはならない。", "入らなくてはならない。"),
        ("ja", "魚ではなく、哺乳類だ。", "魚だけでなく、鳥もいる。"),
        ("ja", "水を含まず、軽い。", "必ず来る。まず、来るはず。"),
        ("hi", "यह लाल नहीं है।", "यह लाल है।"),
        ("hi", "पानी के बिना जीवन कठिन है।", "पानी से जीवन है।"),
        ("hi", "न हवा है।", "नदी बहती है।"),
    ],
)  # fmt: skip
def test_a_negation_is_known_and_what_looks_like_one_is_none(language, denying, stating):
    assert is_negated(denying, language)
    assert not is_negated(stating, language)


@pytest.mark.parametrize(
    ("language", "statement", "name"),
    [
        ("en", "The moon is hot", "the hot moon"),
        ("en", "It isn’t hot", "hot isthmus"),
        ("de", "Der Mond ist heiß", "der heiße Mond"),
        ("fr", "La Lune est chaude", "la Lune chaude"),
        ("es", "La Luna está caliente", "la Luna caliente"),
        ("zh", "月亮是热的", "热的月亮"),
        ("ja", "月は熱い", "熱い月"),
        ("hi", "चाँद गर्म है", "गर्म चाँद"),
    ],
)
def test_a_statement_is_known_by_its_verb(language, statement, name):
    assert is_statement(statement, language)
    assert not is_statement(name, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The eye of a hurricane is calm.", "en"),
        ("Das Auge eines Wirbelsturms ist ruhig.", "de"),
        ("El ojo de un huracán está en calma.", "es"),
        ("L'œil d'un cyclone est calme et clair.", "fr"),
        ("चक्रवात की आँख शांत होती है।", "hi"),
        ("台風の目は静かです。", "ja"),
        ("飓风的中心很平静。", "zh"),
        ("The word for fish is 魚 in that language.", "en"),
        ("他喜欢の这个字，因为这个字在日本的商店门口到处都能看到。", "zh"),
    ],
)
def test_whose_negations_are_looked_for(text, language):
    assert language_of(text) == language
    assert language in LANGUAGES


@pytest.mark.parametrize(
    ("passage", "copy"),
    [
        ("It is not true that the moon is hot.", "the moon is hot"),
        ("The engine can't start in the cold.", "can"),
        ("Es stimmt nicht dass die Erde flach ist.", "die Erde flach ist"),
        ("Niemand sagt dass Wale Fische sind.", "Wale Fische sind"),
        ("Wale atmen Wasser nicht.", "Wale atmen Wasser"),
        ("Il n'est pas vrai que la Terre est plate.", "la Terre est plate"),
        ("La baleine n'est pas un poisson.", "un poisson"),
        ("No es cierto que la Tierra es plana.", "la Tierra es plana"),
        ("La ballena no pone huevos en el mar.", "pone huevos en el mar"),
        ("व्हेल एक मछली नहीं है।", "व्हेल एक मछली"),
        ("यह सच नहीं कि पृथ्वी चपटी है।", "पृथ्वी चपटी है"),
        ("クジラは魚ではない。", "クジラは魚"),
        ("クジラは魚ではなく、哺乳類である。", "クジラは魚"),
        ("月が熱いというのは本当ではありません。", "月が熱い"),
        ("不能说鲸鱼是鱼。", "鲸鱼是鱼"),
        ("没有人认为月亮是热的。", "月亮是热的"),
        ("没有植物能飞。", "植物能飞"),
        ("不能说鲸鱼是鱼，它们用肺呼吸。", "鲸鱼是鱼，它们用肺呼吸"),
    ],
)
def test_a_copy_of_what_is_denied_is_capped(passage, copy):
    found = grounded(passage, copy)
    assert found.value is not None and found.value <= CAP
    assert "negation: the claim has none" in found.why


@pytest.mark.parametrize(
    ("passage", "span"),
    [
        ("Whales are mammals, but they are not fish.", "Whales are mammals"),
        ("Die Sonne ist ein Stern, aber sie ist nicht groß.", "Die Sonne ist ein Stern"),
        ("Heute scheint die Sonne nicht.", "die Sonne"),
        ("La Terre est ronde mais elle n'est pas grande.", "La Terre est ronde"),
        ("La Tierra es redonda, sin embargo no es grande.", "La Tierra es redonda"),
        ("La Luna no brilla por sí misma.", "La Luna"),
        ("पृथ्वी गोल है, चपटी नहीं।", "पृथ्वी गोल है"),
        ("東京は日本の首都で、大阪は首都ではない。", "東京は日本の首都"),
        ("クジラは魚ではなく、哺乳類である。", "哺乳類である"),
        ("クジラは魚ではない。", "魚"),
        ("クジラは魚ではない。", "クジラは魚ではない"),
        ("鲸鱼是哺乳动物，不是鱼。", "鲸鱼是哺乳动物"),
        ("鲸鱼不是鱼，而是哺乳动物。", "鲸鱼"),
    ],
)
def test_what_is_denied_elsewhere_takes_nothing_away(passage, span):
    assert grounded(passage, span).value == 1.0


@pytest.mark.parametrize(
    ("passage", "span"),
    [
        ("Nobody says that dogs chase cats.", "dogs chase cats"),
        ("鲸鱼吃草是不对的说法。", "鲸鱼吃草"),
        (
            "Personne ne dit que les baleines pondent des œufs.",
            "les baleines pondent des œufs",
        ),
    ],
)
def test_a_longer_span_without_a_known_verb_in_a_denied_clause_is_left_unscored(passage, span):
    found = grounded(passage, span)
    assert found.value is None
    assert "negation" in found.why


def test_a_shorter_one_there_is_a_name():
    assert grounded("Nobody says that dogs chase cats.", "dogs chase").value == 1.0
    assert grounded("鲸鱼吃草是不对的说法。", "鲸鱼吃").value == 1.0


@pytest.mark.parametrize(
    ("passage", "completion", "value"),
    [
        ("Неверно говорят, что киты — это рыбы.", "киты — это рыбы", None),
        ("Киты — млекопитающие. Они дышат лёгкими.", "Киты — млекопитающие.", 1.0),
        ("Москва не спит даже ночью.", "Москва", 1.0),
        ("Москва не спит даже ночью.", "Киев", None),
        ("Москвой называют столицу России.", "Москва", None),
        ("서울은 대한민국의 수도이다.", "서울은", 1.0),
        ("서울은 대한민국의 수도이다.", "서울", None),
        ("서울은 대한민국의 수도이다.", "부산", None),
        ("Helsingissä on paljon puistoja ja järviä.", "Helsinki", None),
        ("İstanbul'un nüfusu on beş milyondur ve şehir kalabalıktır.", "İstanbul", 1.0),
        ("İstanbul'un nüfusu on beş milyondur ve şehir kalabalıktır.", "Ankara", None),
        ("The eye of a hurricane is calm and clear.", "Москва", None),
        ("Paris is France's capital and largest city.", "France", 1.0),
        ("Le musée d'Orsay se trouve à Paris, près de la Seine.", "Orsay", 1.0),
        ("Le musée d'Orsay se trouve à Paris, près de la Seine.", "Louvre", 0.0),
        ("首都は東京です。", "東京", 1.0),
        ("日本の首都は東京である。", "東京です", 0.6),
    ],
)
def test_short_answers_with_endings_count_or_are_left_unscored(passage, completion, value):
    found = grounded(passage, completion)
    assert found.value == value
    assert value is not None or "the rules are for" in found.why
