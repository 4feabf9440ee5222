"""Scorers: known texts, abstentions with a reason, a checkpoint whose hash differs."""

import hashlib
import importlib.util

import pytest

from quality.scorers.grounded import Grounded
from quality.scorers.toxicity import Toxicity
from warehouse.errors import AssetError
from warehouse.records import Prompt, Sample

PASSAGE = "The eye of a hurricane is calm. Iron-deficiency anemia is common."


def sample(completion, passage=PASSAGE):
    messages = [{"role": "user", "content": "q"}]
    prompt = Prompt.of(
        recipe="imitation",
        recipe_options={},
        messages=messages,
        student_messages=messages,
        question="q",
        passage=passage,
    )
    return Sample.of(prompt, call_ids=["c"], recipe_version="1", completion=completion, status="ok")


def value(scorer, one):
    (score,) = scorer.score([one])
    assert score.score_id == scorer.score_id(one)
    return score.value, score.why


def test_grounded_by_hand():
    assert value(Grounded(), sample("The eye")) == (1.0, None)
    assert value(Grounded(), sample("iron-deficiency anemia")) == (1.0, None)
    share, why = value(Grounded(), sample("calm eye"))
    assert 0 < share < 1
    assert why
    assert value(Grounded(), sample("penguins"))[0] == 0.0
    assert value(Grounded(), sample("eye", passage=None)) == (None, "no passage")
    assert value(Grounded(), sample("..."))[0] is None


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Detoxify's weights can not be had: an empty cache, and no network in tests."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path))


def test_the_stand_in_is_named_in_every_score(offline):
    if importlib.util.find_spec("profanity_check") is None:
        pytest.skip("alt-profanity-check is not installed (extra: embedded)")
    scorer = Toxicity()
    texts = ["the calm eye", "you stupid fucking idiot", "", "🙂 " * 50, "\x00\x07", "א" * 400]
    scores = list(scorer.score([sample(text) for text in texts]))
    assert {score.model for score in scores} == {"alt-profanity-check 1.9.1"}
    assert scores[0].value < 0.3 < 0.7 < scores[1].value
    assert (scores[2].value, scores[2].why) == (None, "no completion")
    assert all(0 <= score.value <= 1 for score in scores[3:] if score.value is not None)
    assert "not by Detoxify" in scorer.note


def test_without_a_stand_in_it_is_one_line(offline):
    with pytest.raises(AssetError, match="can not be had"):
        list(Toxicity(fallback=False).score([sample("x")]))


def test_a_checkpoint_whose_hash_differs_is_not_opened(tmp_path):
    file = tmp_path / "evil.ckpt"
    file.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    scorer = Toxicity(checkpoint=str(file), checkpoint_config=str(tmp_path), sha256="0" * 64)
    with pytest.raises(AssetError, match="not opened"):
        list(scorer.score([sample("x")]))
    with pytest.raises(ValueError, match="sha256"):
        Toxicity(checkpoint=str(file))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A two-layer Detoxify checkpoint with random weights and a small word-piece vocabulary."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("detoxify")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, num_labels=2, initializer_range=0.3,
    )  # fmt: skip
    config.save_pretrained(folder)
    made = {
        "config": {
            "arch": {
                "args": {
                    "model_type": str(folder),
                    "model_name": "BertForSequenceClassification",
                    "tokenizer_name": "BertTokenizer",
                    "num_classes": 2,
                }
            },
            "dataset": {"args": {"classes": ["toxic", "insult"]}},
        },
        "state_dict": BertForSequenceClassification(config).state_dict(),
    }
    file = folder / "small.ckpt"
    torch.save(made, file)
    return file


def test_a_local_checkpoint_scores_as_detoxify_itself(checkpoint):
    from detoxify import Detoxify

    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    scorer = Toxicity(
        checkpoint=str(checkpoint), checkpoint_config=str(checkpoint.parent), sha256=digest
    )
    plain = Detoxify(checkpoint=str(checkpoint), huggingface_config_path=str(checkpoint.parent))
    for text in ("good day", "bad bad day"):
        assert value(scorer, sample(text))[0] == pytest.approx(
            plain.predict(text)["toxicity"], abs=1e-5
        )
    assert scorer.model.startswith("detoxify checkpoint")
    assert scorer.note is None


def test_a_tail_after_512_tokens_is_seen(checkpoint):
    from detoxify import Detoxify

    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    scorer = Toxicity(
        checkpoint=str(checkpoint), checkpoint_config=str(checkpoint.parent), sha256=digest
    )
    plain = Detoxify(checkpoint=str(checkpoint), huggingface_config_path=str(checkpoint.parent))
    alone = {word: plain.predict(f"{word} " * 510)["toxicity"] for word in ("good", "bad")}
    calm, toxic = sorted(alone, key=alone.__getitem__)
    assert alone[toxic] - alone[calm] > 0.01
    text = f"{calm} " * 600 + f"{toxic} " * 900
    assert plain.predict(text)["toxicity"] == pytest.approx(alone[calm], abs=1e-4)
    worst, where = value(scorer, sample(text))
    assert worst >= alone[toxic] - 1e-4
    assert where.startswith("window")


def test_one_text_that_breaks_the_model_does_not_cost_the_others(offline, monkeypatch):
    scorer = Toxicity()

    def judge(text):
        if text == "break":
            raise RuntimeError("boom")
        return 0.1, None

    object.__setattr__(scorer, "_resolved", ("fake", judge, None))
    scores = list(scorer.score([sample("a"), sample("break"), sample("b")]))
    assert [score.value for score in scores] == [0.1, None, 0.1]
    assert "RuntimeError" in scores[1].why
