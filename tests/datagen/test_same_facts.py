"""What a rewording has to keep: numbers, names and negations."""

import pytest

from datagen.same_facts import changed_fact


@pytest.mark.parametrize(
    ("original", "rewording"),
    [
        ("What gas do plants take in?", "Which gas is taken up by plants?"),
        ("Who met Anna in Rome?", "Anna was met in Rome by whom?"),
        ("It costs 1,200 dollars.", "The price is 1200 dollars."),
        ("When did NASA land on the Moon?", "In which year did NASA reach the Moon?"),
        ("It is not cold. Why?", "Why isn't it cold?"),
        ("Can I swim?", "Am I able to swim?"),
        ("1. Heat the oven.\n2. Mix.", "1. The oven is heated.\n2. Mixing."),
        ('He said: "Stop it."', "He told them to stop."),
    ],
)
def test_what_keeps_its_facts(original, rewording):
    assert changed_fact(original, rewording) is None


@pytest.mark.parametrize(
    ("original", "rewording", "why"),
    [
        ("It has 12 legs.", "It has legs.", "the number 12 is lost"),
        ("It has legs.", "It has 8 legs.", "the number 8 is new"),
        ("From 3 to 3", "From 3", "the number 3 is lost"),
        ("It is 2.5 m", "It is 25 m", "the number 2.5 is lost"),
        ("Who met Anna?", "Who met her?", "the name 'Anna' is lost"),
        ("Who met her?", "Who met Anna?", "the name 'Anna' is new"),
        ("DNA is long.", "It is long.", "the name 'DNA' is lost"),
        ("Which birds cannot fly?", "Which birds can fly?", "a negation is lost"),
        ("Which birds fly?", "Which birds don't fly?", "a negation is new"),
    ],
)
def test_what_changes_a_fact(original, rewording, why):
    assert changed_fact(original, rewording) == why


def test_chinese_negations_and_latin_names():
    assert changed_fact("企鹅不会飞吗？", "企鹅会飞吗？", "zh") == "a negation is lost"
    assert changed_fact("它们有什么不同？", "它们的区别是什么？", "zh") is None
    assert changed_fact("DNA是什么？", "什么是DNA？", "zh") is None
    assert changed_fact("DNA是什么？", "什么是基因？", "zh") == "the name 'DNA' is lost"
    assert changed_fact("人有２３对染色体", "人有23对染色体", "zh") is None


def test_a_language_without_rules_for_negations_is_compared_by_the_rest():
    assert changed_fact("Ankaŭ 3 birdoj ne flugas", "Flugas ankaŭ 3 birdoj", "eo") is None
    assert changed_fact("Ankaŭ 3 birdoj", "Ankaŭ birdoj", "eo") == "the number 3 is lost"
