"""Entailment by a tiny classifier that was really taught to tell supported from unsupported."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import pytest

from quality.conformance import sample_of
from quality.scorers.entailment import Entailment, label_positions
from quality.scoring.scorer import ScorerContext
from warehouse.errors import AssetError
from warehouse.inputs.assets import file_sha256
from warehouse.records import Score

THINGS = ["cat", "dog", "fox", "owl", "hen", "cow"]
FILLER = ["the", "a", "is", "was", "in", "on", "of", "red", "blue", "small", "big", "old", "new"]
NLI = {0: "entailment", 1: "neutral", 2: "contradiction"}
SIZE = 48  # the places of the tiny model
MOST_FILLER = 36


def pair_of(rng, label, filler):
    """A premise with two things in it; the claim has one of them, another one, or a "not"."""
    here = rng.sample(THINGS, 2)
    premise = here + rng.choices(FILLER, k=rng.randint(0, filler))
    rng.shuffle(premise)
    thing = rng.choice([t for t in THINGS if t not in here] if label == 1 else here)
    claim = ["not", thing] if label == 2 else [thing]
    before, after = (rng.choices(FILLER, k=rng.randint(0, 2) * (filler > 5)) for _ in range(2))
    return " ".join(premise), " ".join([*before, *claim, *after])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """With tensors this small, threads only wait for each other on busy cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A two-layer BERT, taught in seconds: a thing that the premise has too is entailed.

    The premises grow as it learns; with long ones from the start it learns nothing.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("nli") / "tiny"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "not", *THINGS, *FILLER]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), model_max_length=SIZE)
    torch.manual_seed(0)
    rng = random.Random(0)
    net = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=128, max_position_embeddings=SIZE, id2label=NLI,
            label2id={name: n for n, name in NLI.items()}, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, initializer_range=0.1,
        )
    )  # fmt: skip
    torch.nn.init.zeros_(net.bert.embeddings.position_embeddings.weight)
    adam = torch.optim.AdamW(net.parameters(), lr=2e-3)
    filler, loss = 0, 9.0
    for _ in range(2000):
        labels = [rng.choice((0, 0, 1, 1, 2)) for _ in range(64)]
        pairs = [pair_of(rng, label, filler) for label in labels]
        coded = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        out = net(**coded, labels=torch.tensor(labels))
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        loss = out.loss.item()
        if loss < 0.02 and filler == MOST_FILLER:
            break
        filler += 4 * (loss < 0.1 and filler < MOST_FILLER)
    assert loss < 0.02, "the tiny classifier did not learn"
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sample(completion, passage, question="the"):
    return replace(sample_of("x"), completion=completion, passage=passage, question=question)


def score(scorer, *samples):
    found = list(scorer.score(samples))
    for one, each in zip(found, samples, strict=True):
        assert isinstance(one, Score), one
        assert one.score_id == scorer.score_id(each)
        json.dumps(one.details)
    return found


def test_it_tells_supported_from_unsupported(taught):
    scorer = Entailment(nli=str(taught))
    rng = random.Random(7)
    asked = [(n % 3, pair_of(rng, n % 3, MOST_FILLER - 4)) for n in range(60)]
    scores = score(scorer, *(sample(claim, premise, "") for _, (premise, claim) in asked))
    right = [
        (found.value > 0.5) == (label == 0) for (label, _), found in zip(asked, scores, strict=True)
    ]
    against = [found.details["labels"]["contradiction"] > 0.5 for found in scores]
    assert sum(right) >= 57
    assert sum(said == (label == 2) for said, (label, _) in zip(against, asked, strict=True)) >= 57
    assert all((found.why is None) == (found.value >= 0.5) for found in scores)


def test_the_lowest_claim_is_the_value_and_each_claim_is_told(taught):
    text = "- the cat\n- an owl\n- the dog"
    one = sample(text, "the cat is in the big old dog")
    (worst,) = score(Entailment(nli=str(taught)), one)
    (mean,) = score(Entailment(nli=str(taught), over="mean"), one)
    values = [row["support"] for row in worst.details["claims"]]
    assert [row["text"] for row in worst.details["claims"]] == ["the cat", "an owl", "the dog"]
    assert values[0] > 0.5 > values[1] and values[2] > 0.5
    assert worst.value == min(values) == mean.details["labels"]["worst"]
    assert mean.value == pytest.approx(sum(values) / 3)
    assert 'claim "an owl"' in worst.why


def test_evidence_far_behind_the_first_window_is_found(taught):
    scorer = Entailment(nli=str(taught))
    filler = "the old red of " * 200  # 800 tokens
    for place, passage in enumerate((f"cat {filler}", f"{filler} cat", f"{filler} cat {filler}")):
        found, missing = score(scorer, sample("cat", passage), sample("owl", passage))
        assert found.value > 0.5 > missing.value, place
    window, count = found.details["claims"][0]["window"].split(" of ")
    assert 1 < int(window) < int(count)
    assert scorer._classifier.count(passage.strip(), ["the cat"]) == int(count)


def test_batches_of_many_lengths_change_nothing(taught, monkeypatch):
    scorer = Entailment(nli=str(taught))
    rng = random.Random(3)
    samples = [
        sample(claim, premise)
        for premise, claim in (pair_of(rng, n % 3, n) for n in range(3, MOST_FILLER))
    ]
    together = [found.value for found in score(scorer, *samples)]
    alone = [score(scorer, one)[0].value for one in samples]
    assert together == pytest.approx(alone, abs=1e-4)
    monkeypatch.setattr("quality.scorers.entailment._TOKENS", {"cpu": 100, "cuda": 100})
    assert [found.value for found in score(scorer, *samples)] == pytest.approx(alone, abs=1e-4)


def test_a_short_answer_is_joined_to_its_question(taught):
    scorer = Entailment(nli=str(taught))
    seen = []
    read = scorer._classifier.read
    scorer._classifier.read = lambda pairs: seen.extend(pairs) or read(pairs)
    statement = "The old cat is in the big red house of a new small owl."
    score(scorer, sample("cat", "the cat", "the big"), sample(statement, "the cat", "the big"))
    assert seen == [("the cat", "the big cat"), ("the cat", statement)]


def test_what_can_not_be_read_is_abstained_on(taught):
    scorer = Entailment(nli=str(taught), most=20)
    texts = {
        "no completion": sample("", "the cat"),
        "no passage": sample("cat", None),
        "30 claims, more than most": sample("- cat\n" * 30, "the cat"),
        "pairs of claim and window": sample("cat", "the old " * 2000),
        "a claim of": sample("cat " * 40, "the cat"),
    }
    for why, found in zip(texts, score(scorer, *texts.values()), strict=True):
        assert found.value is None and why in found.why
    strange = [
        "\x00\x07",
        "🙂 cat",
        "مرحبا " * 30,
        "half \ud83d cat",
        "cat " * 250_000,
        "a" * 10**6,
    ]
    for found in score(scorer, *(sample(text, "the cat") for text in strange)):
        assert found.value is None or 0 <= found.value <= 1
        assert found.why or found.value >= 0.5
    (found,) = score(scorer, sample("cat", "the \ud83d cat"))
    assert found.value > 0.5


def test_labels_are_read_by_name():
    assert label_positions(NLI, "x") == (0, 2)
    assert label_positions({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}, "x") == (2, 0)
    assert label_positions({0: "entailment", 1: "not_entailment"}, "x") == (0, None)
    assert label_positions({0: "SUPPORTS", 1: "REFUTES", 2: "NOT ENOUGH INFO"}, "x") == (0, 1)
    assert label_positions({0: "LABEL_0", 1: "LABEL_1"}, "MiniCheck") == (1, None)
    for strange in (
        {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"},
        {0: "LABEL_0"},
        {0: "negative", 1: "positive"},
        {0: "entailment", 1: "entailed too"},
    ):
        with pytest.raises(AssetError, match="'entail' or 'support'"):
            label_positions(strange, "x")


def test_a_model_whose_labels_are_in_another_order_scores_the_same(taught, tmp_path):
    from safetensors.torch import load_file, save_file

    turned = shutil.copytree(taught, tmp_path / "turned")
    config = json.loads((turned / "config.json").read_text())
    config["id2label"] = {"0": "contradiction", "1": "neutral", "2": "entailment"}
    config["label2id"] = {name: int(n) for n, name in config["id2label"].items()}
    (turned / "config.json").write_text(json.dumps(config))
    weights = load_file(turned / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, turned / "model.safetensors", {"format": "pt"})
    one = sample("cat", "the cat")
    (first,) = score(Entailment(nli=str(taught)), one)
    (second,) = score(Entailment(nli="turned").with_tools(ScorerContext(folder=tmp_path)), one)
    assert first.value == pytest.approx(second.value, abs=1e-5)
    assert first.model != second.model


def test_the_model_is_named_by_its_weights(taught, tmp_path):
    digest = file_sha256(taught / "model.safetensors")
    scorer = Entailment(nli="tiny").with_tools(ScorerContext(folder=taught.parent))
    assert scorer.model == f"tiny {digest[:16]}"
    assert Entailment().model == "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli"
    assert Entailment(nli="a/b", revision="abc").model == "a/b@abc"
    elsewhere = scorer.with_tools(ScorerContext(folder=tmp_path))
    assert elsewhere.model == "tiny"  # no such folder there: a hub id


def test_a_missing_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for nli in ("no-such-owner/no-such-model", "./no/such/folder"):
        with pytest.raises(AssetError, match="give `nli` a folder") as caught:
            list(Entailment(nli=nli).score([sample("cat", "the cat")]))
        assert "\n" not in str(caught.value) and nli in str(caught.value)


def test_weights_that_are_a_pickle_are_not_opened(taught, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match="safetensors"):
        list(Entailment(nli=str(folder)).score([sample("cat", "the cat")]))


def test_a_hub_id_is_fetched_without_what_is_pickled(taught, monkeypatch):
    """The hub stands for a folder; the fetching call is the real one's."""
    asked = {}

    def fake_snapshot_download(repo_id, **options):
        asked.update(options, repo_id=repo_id)
        return str(taught)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fake_snapshot_download)
    (found,) = score(Entailment(nli="owner/tiny", revision="v1"), sample("cat", "the cat"))
    assert found.value > 0.5 and found.model == "owner/tiny@v1"
    assert asked["repo_id"] == "owner/tiny" and asked["revision"] == "v1"
    assert not {"*.bin", "*.py", "*"} & set(asked["allow_patterns"])


@pytest.mark.parametrize("options", [{"nli": " "}, {"window": 8}, {"most": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError):
        Entailment(**options)
