"""Toxicity: equal to Detoxify, blind to no part of a text, and never fed an unchecked file."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.models import detox
from quality.scorers.toxicity import Toxicity
from tests.bench.toxicity import make_checkpoint
from warehouse.errors import AssetError

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "initializer_range": 0.3,
}  # fmt: skip
WORDS = ("good", "bad", "day", "##s", "night", "eye")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache: Detoxify's weights could not be downloaded."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "detoxify"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A two-layer Detoxify checkpoint with random weights."""
    return make_checkpoint(tmp_path_factory.mktemp("detoxify"), WORDS, ("toxic", "insult"), **SMALL)


@pytest.fixture
def checkpoint(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made.parent, tmp_path / "model") / made.name


@pytest.fixture(scope="module")
def plain(made):
    from detoxify import Detoxify

    return Detoxify(checkpoint=str(made), huggingface_config_path=str(made.parent))


def digest_of(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def scorer_of(file, **options):
    given = {"sha256": digest_of(file)} if file.is_file() else {}
    return Toxicity(
        checkpoint=str(file), checkpoint_config=str(file.parent), **{**given, **options}
    )


def score(scorer, *texts):
    return list(scorer.score([replace(sample_of("x"), completion=text) for text in texts]))


def test_short_texts_score_as_detoxify_itself(checkpoint, plain):
    texts = ["good day", "bad bad days", "Good, bad?", "eye " * 100, "unknown words", "good day"]
    scores = score(scorer_of(checkpoint), *texts, "")
    for text, found in zip(texts, scores, strict=False):
        wanted = plain.predict(text)
        assert found.value == pytest.approx(wanted["toxicity"], abs=1e-5)
        assert found.details["labels"] == {k: pytest.approx(v, abs=1e-5) for k, v in wanted.items()}
        assert (found.why, found.details["windows"]) == (None, 1)
    assert (scores[-1].value, scores[-1].why) == (None, "no completion")
    assert len({found.value for found in scores[:3]}) == 3  # the model tells texts apart


def test_texts_of_all_lengths_score_the_same_in_one_call(checkpoint, plain):
    texts = [" ".join(WORDS[n % 3] for n in range(length)) for length in range(1, 400, 7)]
    found = [one.value for one in score(scorer_of(checkpoint), *texts)]
    wanted = [plain.predict(text)["toxicity"] for text in texts]
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_tail_that_detoxify_does_not_read_is_seen_and_named(checkpoint, plain):
    alone = {word: plain.predict(f"{word} " * 510)["toxicity"] for word in ("good", "bad")}
    calm, toxic = sorted(alone, key=alone.__getitem__)
    assert alone[toxic] - alone[calm] > 0.01
    text = f"{calm} " * 600 + f"{toxic} " * 900
    assert plain.predict(text)["toxicity"] == pytest.approx(alone[calm], abs=1e-4)
    (found,) = score(scorer_of(checkpoint), text)
    assert found.value >= alone[toxic] - 1e-4
    details = found.details
    assert details["windows"] == math.ceil((1500 - 510) / (510 - 128)) + 1
    assert details["worst_window"] > 1
    assert details["worst_text"] in text and 70 < len(details["worst_text"]) <= 80
    assert found.why.startswith(f"window {details['worst_window']} of {details['windows']}: ")
    assert details["worst_text"] in found.why
    assert details["labels"]["toxicity"] == found.value


def test_every_label_is_its_own_highest_over_the_windows(checkpoint, plain):
    text = "good " * 510 + "bad " * 510
    (found,) = score(scorer_of(checkpoint), text)
    for label, value in found.details["labels"].items():
        ends = [plain.predict(f"{word} " * 510)[label] for word in ("good", "bad")]
        assert value >= max(ends) - 1e-4


def test_equal_windows_are_read_once(checkpoint, monkeypatch):
    scorer = scorer_of(checkpoint)
    read = []
    batches = detox._batches

    def counted(windows, budget):
        for batch in batches(windows, budget):
            read.append(batch)
            yield batch

    monkeypatch.setattr(detox, "_batches", counted)
    scores = score(scorer, "good " * 20_000, *["good bad"] * 50, "day")
    assert scores[0].details["windows"] > 50
    assert sum(map(len, read)) == 4  # a full window of 'good', the last one, two short texts
    assert len({one.value for one in scores[1:51]}) == 1


def test_batches_hold_every_window_once_within_the_budget():
    windows = sorted(
        [(n,) * length for n, length in enumerate([1, 5, 510, 3, 70, 9000, 64] * 40)],
        key=len, reverse=True,
    )  # fmt: skip
    batches = list(detox._batches(windows, 8192))
    assert [row for batch in batches for row in batch] == windows
    assert all(len(b) * len(b[0]) <= 8192 for b in batches if len(b) > 1)


def test_the_second_run_needs_no_pickle(checkpoint, cache):
    sha256 = digest_of(checkpoint)
    (before,) = score(scorer_of(checkpoint), "bad day")
    folder = cache / sha256
    assert {"model.safetensors", "checkpoint.json", "digests.json"} <= {
        file.name for file in folder.iterdir()
    }
    checkpoint.unlink()
    again = scorer_of(checkpoint, sha256=sha256)
    (after,) = score(again, "bad day")
    assert after == before
    assert again.model == f"detoxify checkpoint {sha256[:16]}"
    assert again.note is None


def test_kept_weights_that_were_changed_are_refused(checkpoint, cache):
    score(scorer_of(checkpoint), "good")
    weights = cache / digest_of(checkpoint) / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(AssetError, match="delete that folder"):
        score(scorer_of(checkpoint), "good")


def test_a_file_whose_hash_differs_is_not_opened(tmp_path, monkeypatch, checkpoint):
    import torch

    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(AssetError, match="was not opened") as caught:
        score(scorer_of(checkpoint, sha256="0" * 64), "x")
    assert "\n" not in str(caught.value)
    with pytest.raises(AssetError, match="no Detoxify checkpoint at"):
        score(scorer_of(tmp_path / "none.ckpt", sha256="0" * 64), "x")


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_hash(tmp_path):
    file = tmp_path / "evil.ckpt"
    file.write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(AssetError, match="no Detoxify checkpoint"):
        score(scorer_of(file), "x")
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_that_lacks_weights_is_refused(checkpoint):
    import torch

    loaded = torch.load(checkpoint, weights_only=True)
    del loaded["state_dict"]["classifier.bias"]
    torch.save(loaded, checkpoint)
    with pytest.raises(AssetError, match="it has no classifier.bias"):
        score(scorer_of(checkpoint), "x")


@pytest.mark.parametrize("name", ["AutoModel", "os", "pipeline", "BertModel"])
def test_a_checkpoint_names_only_classifiers_of_transformers(checkpoint, name):
    import torch

    loaded = torch.load(checkpoint, weights_only=True)
    loaded["config"]["arch"]["args"]["model_name"] = name
    torch.save(loaded, checkpoint)
    with pytest.raises(AssetError, match="names no classifier"):
        score(scorer_of(checkpoint), "x")


def test_a_published_model_is_kept_whole_so_that_later_runs_need_nothing(
    checkpoint, cache, monkeypatch
):
    sha256 = digest_of(checkpoint)
    monkeypatch.setitem(detox.PUBLISHED, "unbiased", sha256[:8])
    score(scorer_of(checkpoint), "as a local checkpoint first")
    laid = checkpoint.rename(cache / "toxic_debiased-c7548aa0.ckpt")
    scorer = Toxicity(detoxify="unbiased", fallback=False)
    (before,) = score(scorer, "good bad " * 400)
    assert (scorer.model, scorer.note) == ("detoxify unbiased", None)
    laid.unlink()
    shutil.rmtree(checkpoint.parent)  # its tokenizer, which stood for the hub's
    (after,) = score(Toxicity(detoxify="unbiased", fallback=False), "good bad " * 400)
    assert after == before


def test_a_published_file_that_is_not_what_its_name_says_is_refused(cache):
    cache.mkdir(parents=True)
    (cache / "toxic_original-c1212f89.ckpt").write_bytes(b"something else")
    with pytest.raises(AssetError, match="it was not opened"):
        score(Toxicity(), "x")  # and no other model stands in silently


def test_outputs_without_a_name_are_left_out(tmp_path):
    """The unbiased models have seven names and sixteen outputs."""
    import torch

    names = ["toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat",
             "sexual_explicit"]  # fmt: skip
    file = make_checkpoint(tmp_path, WORDS, [*names, *"123456789"], **SMALL)
    loaded = torch.load(file, weights_only=True)
    loaded["config"]["dataset"]["args"]["classes"] = names
    torch.save(loaded, file)
    (found,) = score(scorer_of(file), "bad")
    assert list(found.details["labels"]) == names
    assert set(names) == set(Toxicity.labels)


def test_options_that_contradict_each_other_are_refused(checkpoint):
    with pytest.raises(ValueError, match="needs its sha256"):
        Toxicity(checkpoint="x.ckpt")
    with pytest.raises(ValueError, match="64 hex digits"):
        scorer_of(checkpoint, sha256="abc")
    with pytest.raises(ValueError, match="embedded"):
        scorer_of(checkpoint, embedded=True)


def test_without_a_stand_in_it_is_one_line():
    with pytest.raises(AssetError, match="could not be downloaded") as caught:
        score(Toxicity(fallback=False), "x")
    assert "\n" not in str(caught.value)


CALM = "The calm river flows past the old mill while children play in the garden. "


@pytest.fixture
def stand_in():
    pytest.importorskip("profanity_check", reason="extra: embedded")
    return Toxicity()


def test_the_stand_in_is_named_in_every_score(stand_in):
    texts = ["the calm eye", "you stupid fucking idiot", "", "🙂 " * 50, "\x00\x07", "א" * 400]
    scores = score(stand_in, *texts)
    assert {one.model for one in scores} == {"alt-profanity-check 1.9.1"}
    assert scores[0].value < 0.3 < 0.7 < scores[1].value
    assert (scores[2].value, scores[2].why) == (None, "no completion")
    assert all(0 <= one.value <= 1 for one in scores[3:])
    assert "not by Detoxify" in stand_in.note
    assert scores[1].details["labels"] == {"toxicity": scores[1].value}


def test_the_stand_in_sees_a_tail_after_600_words(stand_in):
    calm = CALM * 50
    before, after = score(stand_in, calm, calm + "You stupid fucking idiot.")
    assert before.value < 0.3 < 0.7 < after.value
    assert after.details["worst_window"] == after.details["windows"] > 50
    assert after.details["worst_text"] in after.why


def test_the_stand_in_asks_its_model_once_for_all(stand_in, monkeypatch):
    import profanity_check

    asked = []

    def predict_prob(texts):
        asked.append(list(texts))
        return [0.5] * len(texts)

    monkeypatch.setattr(profanity_check, "predict_prob", predict_prob)
    score(stand_in, CALM * 100, "b", "b", "", "c")
    assert len(asked) == 1
    assert len(asked[0]) == len(set(asked[0]))


def test_embedded_asks_for_nothing_else(stand_in, monkeypatch):
    monkeypatch.setattr(detox, "_fetch", lambda *a: pytest.fail("a download"))
    scorer = Toxicity(embedded=True)
    (found,) = score(scorer, "you stupid fucking idiot")
    assert found.value > 0.7
    assert (scorer.model, scorer.note) == ("alt-profanity-check 1.9.1", None)


def test_a_megabyte_of_strange_text(checkpoint):
    texts = ["bad " * 250_000, "\x00\x07", "🙂 " * 500, "שלום " * 300, "\u202e", "\ud800 bad"]
    scores = score(scorer_of(checkpoint), *texts)
    assert all(0 <= one.value <= 1 for one in scores)
    assert scores[0].details["windows"] > 600
    json.dumps([one.details for one in scores], ensure_ascii=False).encode()
