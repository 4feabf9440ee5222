"""Echoes: answers made of the question's own words are found, others are left alone."""

import pytest

from quality.text.echoes import echoes

# (question, an echo, an answer that repeats a word of the question and adds another, or is offered)
PAIRS = [
    ("What kind of waves are sound waves?", "waves", "mechanical waves"),
    ("What kind of waves are sound waves?", "the sound wave", "a longitudinal sound wave"),
    ("What system do trees need to transport nutrients?", "trees", "vascular system"),
    ("What causes most ocean waves?", "The ocean.", "winds"),
    ("A bog is a type of ____", "bogs", "wetland"),
    ("Iceland is made up of a series of?", "Iceland", "volcanoes"),
    ("Protons and neutrons are in which part of the atom?", "neutrons", "the atom's nucleus"),
    ("who is known as the father of genetics", "genetics", "gregor mendel"),
    ("The energy released during an earthquake is called what", "energy", "magnitude"),
    ("Which is larger, an atom or a molecule?", "larger", "a molecule"),
    ("Which is larger, an atom or a molecule?", "larger", "atom"),
    ("Which of cats and dogs bark?", "bark", "dogs"),
    ("What is a mammal: trout, eagle or cat?", "mammal", "eagle"),
    ("Energy resources can be put into two categories, renewable or what?", "resources", "nonrenewable"),
    ("Which animal is a mammal?\nA. a trout\nB. a cat", "animal", "cat"),
    ("Mary has a pear. Tom has a fig. Who has the fig?", "the fig", "Tom"),
    ("Wie heißt die Luft, die über die Erde strömt?", "die Luft", "der Wind"),
    ("Was ist schwerer, Eisen oder Holz?", "schwerer", "Eisen"),
    ("Quelle est la cause principale des vagues ?", "les vagues", "le vent"),
    ("Qui est le père de la génétique ?", "la génétique", "Gregor Mendel"),
    ("¿Qué causa las olas del mar?", "las olas", "el viento del mar"),
    ("¿Cuál pesa más, el hierro o la madera?", "pesa más", "la madera"),
    ("声波是什么类型的波？", "声波", "机械波"),
    ("水和油哪个更重？", "更重吗", "水"),
    ("海水的主要成分是什么？", "海水", "水"),
    ("音波はどんな種類の波ですか。", "音波", "縦波"),
    ("आनुवंशिकी के जनक कौन हैं?", "आनुवंशिकी", "ग्रेगर मेंडल"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "echo", "answer"), PAIRS)
def test_an_echo_is_told_from_an_answer(question, echo, answer):
    if "哪个" not in question:  # a question that offers its answers is left alone in Chinese
        assert echoes(echo, question)
    assert not echoes(answer, question)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is the moon, which is far away, cold?", "cold"),
        ("Does density depend on the amount?", "Density does not depend on the amount."),
        ("Ist der Mond kalt?", "kalt"),
        ("Est-ce que la lune est froide ?", "froide"),
        ("L'eau qui bout est-elle chaude ?", "chaude"),
        ("¿Es fría la luna?", "fría"),
        ("月亮是冷的吗？", "冷的"),
        ("月は冷たいですか。", "冷たい"),
        ("क्या चाँद ठंडा है?", "ठंडा"),
        ("Repeat what I say: hello world", "hello world"),
        ("Classify the review: positive, negative.", "positive"),
        ("Какие волны являются звуковыми волнами?", "волны"),  # no rules for Russian
        ("What is it?", "it is"),
        ("What is it?", ""),
        ("", "waves"),
    ],
)
def test_what_is_no_echo(question, answer):
    assert not echoes(answer, question)
