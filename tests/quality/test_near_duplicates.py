"""Near duplicates of texts that are much alike: few comparisons, right ones, hardly one missed."""

import random

import pytest

from quality.gate import alike
from quality.gate import near_duplicates as module
from quality.gate.dedup import form, near
from quality.gate.shingle_sets import ShingleSets
from quality.gate.sketches import runs

LETTERS = "aaabcdeeeeefghiiiklmnnooprrssttttuvwy"
CHANCE = random.Random(5)
VOCABULARY = ["".join(CHANCE.choices(LETTERS, k=CHANCE.randint(3, 10))) for _ in range(4000)]


def words(chance, count):
    return chance.choices(VOCABULARY, [1 / (n + 10) for n in range(len(VOCABULARY))], k=count)


def one_question_form(chance, count):
    """One form, one answer; a word and a number are each row's own."""
    return [
        f"What is the meaning of {words(chance, 1)[0]} number {n}, and who asked for it first, and why?\n"
        "The passage does not say, so that question cannot be answered here."
        for n in range(count)
    ]


def four_fifths_shared(chance, count):
    """The same forty-eight words with twelve others strewn among them."""
    common = words(chance, 48)
    texts = []
    for _ in range(count):
        text = list(common)
        for word in words(chance, 12):
            text.insert(chance.randrange(len(text) + 1), word)
        texts.append(" ".join(text))
    return texts


def many_forms(chance, count):
    """Forms of forty words, fifty rows each, with twenty words of their own."""
    forms = [" ".join(words(chance, 40)) for _ in range(max(1, count // 50))]
    return [f"{chance.choice(forms)} {' '.join(words(chance, 20))}" for _ in range(count)]


def equal_answers(chance, count):
    """Different questions, all declined in the same words."""
    said = "I am sorry, but I cannot help with that, since it is nothing that I know about."
    return [f"{' '.join(words(chance, 6))}?\n{said}" for _ in range(count)]


def one_cluster(chance, count):
    """One text, in each copy one word replaced."""
    base = words(chance, 60)
    texts = []
    for _ in range(count):
        text = list(base)
        text[chance.randrange(60)] = words(chance, 1)[0]
        texts.append(" ".join(text))
    return texts


ALIKE = [one_question_form, four_fifths_shared, many_forms, equal_answers, one_cluster]


def counted(monkeypatch, texts):
    """Candidate pairs, and exact comparisons, for each text."""
    pairs, exact = [], []
    candidates, similarity = module._candidates, alike._Comparison.similarity

    def counting(*args):
        for found in candidates(*args):
            pairs.append(len(found))
            yield found

    def comparing(self, left, right):
        exact.append((left, right))
        return similarity(self, left, right)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_candidates", counting)
        patch.setattr(alike._Comparison, "similarity", comparing)
        near(texts, 0.8)
    return sum(pairs) / len(texts), len(exact) / len(texts)


@pytest.mark.parametrize("make", ALIKE)
def test_a_text_is_compared_with_as_many_others_whatever_the_number_of_rows(monkeypatch, make):
    few = counted(monkeypatch, make(random.Random(1), 1000))
    many = counted(monkeypatch, make(random.Random(1), 4000))
    bands = module.PERMUTATIONS // module._rows_per_band(0.6)
    most = module._BESIDE * (bands + module._RAREST)
    assert few[0] <= most and many[0] <= most
    assert many[1] <= max(1.0, 2 * few[1]) and many[1] < 20


def planted(chance, texts):
    """The texts, and behind every tenth a copy with a letter less."""
    out = []
    for number, text in enumerate(texts):
        out.append(text)
        if number % 10 == 0:
            place = chance.randrange(len(text) - 2)
            out.append(text[:place] + text[place + 1 :])
    return out


def jaccard(a, b):
    return len(a & b) / len(a | b)


def each_by_each(forms, threshold):
    """What is dropped where each text is compared with every one that was kept before it."""
    own = module._own_words(forms, len(forms))
    least = max(0.5, threshold - module._OWN)
    sets, of_own = [runs(text) for text in forms], {n: runs(text) for n, text in own.items()}
    kept, dropped = [], []
    for number, shingles in enumerate(sets):
        alike = (
            other
            for other in kept
            if (number in own) == (other in own)
            and (number not in own or jaccard(of_own[number], of_own[other]) >= least)
            and jaccard(shingles, sets[other]) >= threshold
        )
        (kept if next(alike, None) is None else dropped).append(number)
    return dropped


@pytest.mark.parametrize("make", ALIKE)
@pytest.mark.parametrize("threshold", [0.8, 0.9])
def test_what_is_reported_is_true_and_hardly_one_is_missed(make, threshold):
    chance = random.Random(2)
    forms = list(dict.fromkeys(map(form, planted(chance, make(chance, 360)))))
    hits = near(forms, threshold)
    for number, hit in enumerate(hits):
        if hit is not None:
            of, similarity = hit
            assert of < number and hits[of] is None  # an earlier one, which is kept
            exact = jaccard(runs(forms[of]), runs(forms[number]))
            assert similarity == pytest.approx(exact, abs=1e-12) and exact >= threshold
    wanted = each_by_each(forms, threshold)
    found = sum(hits[n] is not None for n in wanted)
    assert len(wanted) >= 4 and found >= 0.95 * len(wanted)


def test_shingles_are_compared_exactly_however_many_characters_there_are():
    """Also those that come up when all digits are given away."""
    chance = random.Random(4)
    letters = [chr(n) for n in range(0x3400, 0x9FFF)] + [chr(n) for n in range(0x20000, 0x20400)]
    texts = ["ab", "", "aaaaaaaa", "aaaaaaab", *planted(chance, many_forms(chance, 20))]
    for size in (3, 300, 3000, 6000):
        texts.append("".join(chance.choices(letters, k=size)))
        texts += [texts[-1][: size // 2] + "a" + texts[-1][size // 2 :], texts[-1][1:]]
    sets, strings = ShingleSets(texts), [runs(text) for text in texts]
    fallen_back = 0
    for _ in range(2):  # what is held is no other than what is not
        for left in range(len(texts)):
            for right in range(max(0, left - 3), left):
                exact = jaccard(strings[left], strings[right])
                assert sets.similarity(left, right) == exact
                fallen_back += sets._of(left) is None
    assert len(letters) > 20_000 and fallen_back > 0


def test_a_bitmap_never_denies_a_pair_that_is_alike():
    import numpy as np

    from quality.gate.sketches import Bitmaps

    chance = random.Random(3)
    texts = planted(chance, four_fifths_shared(chance, 120))
    sets = [runs(text) for text in texts]
    left, right = np.triu_indices(len(texts), 1)
    similar = np.array(
        [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in zip(left, right, strict=True)]
    )
    bitmaps = Bitmaps(texts)
    for least in (0.5, 0.7, 0.9):
        may = bitmaps.may_be_alike(left, right, least)
        assert not (similar[~may] >= least).any()
    assert (
        not Bitmaps(["abcdefgh", "stuvwxyz"]).may_be_alike(np.array([0]), np.array([1]), 0.5).any()
    )
