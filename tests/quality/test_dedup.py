"""What was said before: nothing missed that is equal, nothing made up, the first one stays."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.gate.dedup import form, near, semantic, shingles
from quality.models.embeddings import Encoder
from tests.support.tiny import make_encoder
from warehouse.errors import AssetError
from warehouse.text.words import split_form

SAID = "Which organelle makes most of the energy that a living cell needs?\nThe mitochondrion"


def jaccard(one, other):
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def made(count, seed=0):
    """Texts of random words that share next to nothing."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvwy", k=7)) for _ in range(3000)]
    return [" ".join(chance.choices(words, k=15)) for _ in range(count)]


def test_equal_after_normalisation():
    eye, ear = (0, 1.0), (1, 1.0)
    texts = ["Eye!", "ear", " eye", "EAR?", "nose", "eye"]
    assert near(texts, 1.0) == [None, None, eye, ear, None, eye]
    assert near([]) == []


def test_blank_texts_and_unlike_symbols_are_no_duplicates():
    texts = ["", " \n", "", "🙂", "🙃", "\ud800", "\udfff", "\x00", "\x07", "!"]
    assert near(texts) == [None] * len(texts)
    found = near(["🙂", " 🙂 ", "\ud800x", "x\udfff"])
    assert [bool(hit is not None) for hit in found] == [False, True, False, True]


TEXTS = st.lists(
    st.text(alphabet="abcdef é🙂\u0627\u0644\ud800.", max_size=12) | st.text(max_size=30),
    max_size=12,
)


@settings(max_examples=50)
@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]), st.randoms())
def test_near_names_an_earlier_kept_text_and_finds_all_equal_ones(texts, threshold, chance):
    texts = texts + chance.sample(texts, k=len(texts) // 2)
    found = near(texts, threshold)
    assert found == near(texts, threshold)
    assert len(found) == len(texts)
    for n, hit in enumerate(found):
        if hit:
            assert hit[0] < n and found[hit[0]] is None
            assert threshold <= hit[1] <= 1.0
            assert hit[1] == pytest.approx(jaccard(texts[n], texts[hit[0]]))
    firsts: dict[str, int] = {}
    for n, text in enumerate(map(form, texts)):
        first = firsts.setdefault(text, n)
        if text and first < n:
            assert found[n] == (found[first] or (first, 1.0))


def test_planted_near_duplicates_are_found_and_nothing_else():
    texts = made(300)
    planted = {}
    for n in range(0, 300, 5):
        words = texts[n].split()
        words[n % 15] = words[n % 15][:-1] + "q"
        planted[len(texts)] = n
        texts.append(" ".join(words))
    found = near(texts, 0.8)
    assert {n: hit[0] for n, hit in enumerate(found) if hit} == planted
    assert all(hit[1] > 0.85 for hit in found if hit)


def test_many_texts_in_several_stretches_give_the_same(monkeypatch):
    texts = made(60) + made(30)
    whole = near(texts, 0.8)
    assert sum(hit is not None for hit in whole) == 30
    monkeypatch.setattr("quality.gate.sketches._CHUNK", 1000)
    assert near(texts, 0.8) == whole


def test_a_dropped_text_drops_none_and_the_most_alike_is_named():
    step = [SAID, SAID + " does it", SAID + " does it, it is said"]
    assert min(jaccard(*step[:2]), jaccard(*step[1:])) > 0.8 > jaccard(step[0], step[2])
    assert [hit and hit[0] for hit in near(step, 0.8)] == [None, 0, None]
    several = [SAID + " or two of them", SAID + " or one of", SAID + " or one of them"]
    assert jaccard(*several[1:]) > jaccard(*several[::2]) > 0.8 > jaccard(*several[:2])
    found = near(several, 0.8)
    assert [hit and hit[0] for hit in found] == [None, None, 1]


def test_another_answer_is_not_a_near_duplicate():
    assert (
        near(["What is the capital of France?\nParis", "What is the capital of Spain?\nMadrid"])
        == [None] * 2
    )
    asked = "Which planet of the solar system is that?\n"
    assert near([asked + "Jupiter, the largest", asked + "Mercury, the smallest"]) == [None] * 2


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("ما هي العضية التي تنتج معظم الطاقة في الخلية الحية؟ الميتوكوندريا", "ما هي العضيه التي تنتج معظم الطاقة في الخلية الحية؟ الميتوكوندريا"),
        ("细胞里的哪一个部分生产大部分的能量我们在学校学过它的名字是线粒体", "细胞里的哪一个部分生产大部分的能量我们在学校学过它的名字是线粒体吗"),
        ("🙂 " + SAID, SAID + " 🙃"),
    ],
)  # fmt: skip
def test_other_scripts(text, other):
    (first, second) = near([text, other], 0.7)
    assert first is None and second is not None and second[0] == 0
    assert split_form(text)


def test_a_long_text_among_short_ones():
    long = " ".join(made(6000))
    assert len(long) > 500_000
    assert [hit and hit[0] for hit in near([long, "short", long + " end", "short one"])] == [
        None,
        None,
        0,
        None,
    ]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ValueError):
        near(["a"], threshold)
    with pytest.raises(ValueError):
        semantic(["a"], threshold)


class Angles:
    """A fake encoder: a text is an angle in degrees."""

    def encode(self, texts):
        turned = np.radians([float(text) for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


@pytest.mark.parametrize("block", [1, 2, 3, 1024])
def test_semantic_names_the_nearest_kept_one(monkeypatch, block):
    monkeypatch.setattr("quality.gate.dedup._BLOCK", block)
    texts = ["0", " ", "90", "5", "12", "92", "0", "", "8"]
    found = semantic(texts, 0.99, Angles())  # 8.1 degrees
    assert [hit and hit[0] for hit in found] == [None, None, None, 0, None, 2, 0, None, 4]
    assert found[6][1] == 1.0
    assert found[3][1] == pytest.approx(np.cos(np.radians(5)))
    assert semantic(["0", "0"], 1.0, Angles())[1] == (0, 1.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A sentence-transformers model with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    return make_encoder(folder, sorted(set(split_form(SAID).split())))


def test_the_encoder_gives_vectors_of_length_one(tiny, capfd):
    texts = ["the cell", "", SAID * 20, "🙂 \ud800", "مرحبا", "the cell"]
    vectors = Encoder(str(tiny)).encode(texts)
    assert vectors.shape == (6, 16) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[5], atol=1e-5)
    assert Encoder(str(tiny)).encode([]).shape == (0, 16)
    assert capfd.readouterr() == ("", "")


def test_texts_that_only_begin_alike_stay_apart(tiny):
    begin = "the cell needs energy " * 8
    one, other = Encoder(str(tiny)).encode([begin + "organelle " * 9, begin + "x y z " * 9])
    assert one @ other < 0.999
    of, similarity = semantic([begin, "living", begin], 0.95, Encoder(str(tiny)))[2]
    assert (of, similarity) == (0, pytest.approx(1.0))


def test_a_missing_model_and_a_pickle_are_told_in_one_line(tiny, tmp_path, monkeypatch):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "nothing").mkdir()
    for name, told in {
        str(tmp_path / "absent"): "could not be downloaded",
        "nobody/has-this": "could not be downloaded",
        str(tmp_path / "nothing"): "cannot be loaded",
        str(tmp_path / "pickled"): "only safetensors",
    }.items():
        with pytest.raises(AssetError, match=told) as caught:
            Encoder(name).encode(["a"])
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(AssetError, match="pip install"):
        Encoder(str(tiny) + "/").encode(["a"])
