"""The tuners whose students are weights by name: full, partial and adapter."""

import pytest

from tests.support.tiny import make_tiny
from tests.train.test_tuners import CONFIG, ROWS, far, logits_of
from train.loop.sft import train_student
from train.methods.own_weights import trained_of
from train.methods.tuner import Setting
from train.model.student import load
from train.tuners.adapter import Adapter
from train.tuners.full import Full
from train.tuners.partial import Partial
from warehouse.errors import ModelError

SETTING = Setting(tokenizer=None, rows=[], steps=10)
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DENSE = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 1}
FAMILIES = {
    "Llama": DENSE,
    "Mistral": DENSE,
    "Qwen2": DENSE,
    "Qwen3": {**DENSE, "head_dim": 16},
    "Qwen3Moe": {**DENSE, "head_dim": 16, "num_experts": 2, "num_experts_per_tok": 1},
    "Gemma2": {**DENSE, "head_dim": 16},
    "Gemma3": {**DENSE, "head_dim": 16},
    "Phi3": {**DENSE, "pad_token_id": 0},
    "GPT2": SMALL,
    "GPTNeoX": {**SMALL, "intermediate_size": 64},
    "Falcon": SMALL,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A tiny base whose output layer is its input embeddings, as in many small models."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = make_tiny(tmp_path_factory.mktemp("tied") / "tiny")
    model = AutoModelForCausalLM.from_pretrained(plain, tie_word_embeddings=True)
    model.tie_weights()
    folder = plain.parent / "tied"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    return str(folder)


def model_of(family):
    import torch
    import transformers

    torch.manual_seed(0)
    name = "Gemma3Text" if family == "Gemma3" else family
    config = getattr(transformers, f"{name}Config")(**FAMILIES[family])
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def said(model):
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([[3, 9, 27, 4]]), use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_stands_in_every_sublayer_and_starts_as_the_identity(family):
    import torch

    model = model_of(family)
    before = said(model)
    adapted = Adapter(width=4).attach(model, SETTING)
    trained = trained_of(adapted)
    assert torch.equal(said(adapted), before)
    places = {name.rpartition(".bottleneck.")[0] for name in trained}
    assert len(places) == 2 * 2
    assert len({name.split(".layers.")[-1].split(".h.")[-1][0] for name in places}) == 2
    assert sum(p.numel() for p in trained.values()) == 4 * (2 * 4 * 32 + 4 + 32)
    adapted(input_ids=torch.tensor([[3, 9, 27]])).logits.sum().backward()
    assert all(p.grad is not None for p in trained.values())
    with torch.no_grad():
        for name, p in trained.items():
            if name.endswith("bottleneck.up.bias"):
                p.add_(torch.randn_like(p))
    assert far(said(adapted), before) > 1e-3


def test_an_adapter_adds_to_the_sublayers_output_before_the_residual():
    """Houlsby et al. 2019, figure 2: with attention and feed-forward silenced by an adapter that
    takes their output away, the hidden state passes through every block unchanged."""
    import torch

    model = model_of("Llama")
    adapted = Adapter(width=32, activation="relu").attach(model, SETTING)
    with torch.no_grad():
        for module in adapted.modules():
            if type(module).__name__ == "Bottleneck":
                # relu(h + 100) - 100 is h, and the adapter takes it away
                module.down.weight.copy_(torch.eye(32))
                module.down.bias.fill_(100.0)
                module.up.weight.copy_(-torch.eye(32))
                module.up.bias.fill_(100.0)
        ids = torch.tensor([[3, 9, 27]])
        hidden = adapted.model.embed_tokens(ids)
        expected = adapted.lm_head(adapted.model.norm(hidden))
        assert far(adapted(input_ids=ids).logits, expected) < 1e-3


@pytest.mark.parametrize(
    ("family", "options", "why"),
    [
        ("OPT", {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}, "has 0 parts"),
        ("Bloom", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2}, "residual"),
        ("Mamba", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}, "has 0 parts"),
    ],
)
def test_a_base_whose_sublayers_can_not_be_told_is_one_line(family, options, why):
    import transformers

    config = getattr(transformers, f"{family}Config")(**options)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=why) as caught:
        Adapter().attach(model, SETTING)
    assert "\n" not in str(caught.value)


def test_full_trains_every_weight_in_float32(base, tied):
    import torch

    assert Full().loading(training=True) == {"dtype": torch.float32}
    assert Full().loading(training=False) == {}
    for folder in (base, tied):
        model = Full().attach(load(folder, tuner=Full())[0], SETTING)
        assert set(trained_of(model)) == {name for name, _ in model.named_parameters()}
        assert all(p.dtype == torch.float32 for p in trained_of(model).values())


def test_full_keeps_tied_weights_tied(tied, tmp_path):
    result = train_student(tied, Full(), ROWS, CONFIG, tmp_path / "s")
    model, _ = load(tied, result.path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in trained_of(model)


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("last:1", {"layers.1."}),
        ("first:1", {"layers.0."}),
        ("0, -1", {"layers.0.", "layers.1."}),
        ("last:5", {"layers.0.", "layers.1."}),
        ("head", {"lm_head."}),
        ("norm", {"layernorm.", "model.norm."}),
        ("last:1, head", {"layers.1.", "lm_head."}),
        ("mlp.up_proj", {"mlp.up_proj."}),
    ],
)
def test_partial_trains_what_was_chosen_and_no_more(base, layers, trained):
    model = Partial(layers=layers).attach(load(base)[0], SETTING)
    for name, p in model.named_parameters():
        assert p.requires_grad == any(part in name for part in trained), name


@pytest.mark.parametrize("layers", ["7", "nope", "head, -3"])
def test_partial_says_what_a_base_has_instead(base, layers):
    with pytest.raises(ModelError, match=r"\(it has blocks 0 to 1, 'head', and") as caught:
        Partial(layers=layers).attach(load(base)[0], SETTING)
    assert "\n" not in str(caught.value)


def test_partial_takes_no_mistyped_word_beside_a_right_one(base):
    with pytest.raises(ModelError, match="'up_prj' of .* did you mean 'up_proj'"):
        Partial(layers="last:1, up_prj").attach(load(base)[0], SETTING)


def test_nothing_chosen_is_a_fault():
    assert "chooses nothing" in Partial(layers=" ,").faults(CONFIG)[0]


def test_a_trained_head_is_parted_from_the_embeddings_it_was_tied_to(tied, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    before = load(tied)[0].model.embed_tokens.weight
    tuner = Partial(layers="head")
    result = train_student(tied, tuner, ROWS, CONFIG, tmp_path / "s")
    student, tokenizer = load(tied, result.path)
    assert torch.equal(student.model.embed_tokens.weight, before)
    assert far(student.lm_head.weight, before) > 1e-3
    tuner.merged(student).save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert far(logits_of(merged, tokenizer), logits_of(student, tokenizer)) < 1e-5
