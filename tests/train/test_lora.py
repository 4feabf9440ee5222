import importlib.util

import pytest

from tests.support.tiny import make_tiny
from tests.train.test_tuners import CONFIG, ROWS, far, logits_of
from train.methods.own_weights import trained_of
from train.methods.tuner import Setting
from train.model.student import load
from train.tuners.adalora import Adalora
from train.tuners.ia3 import Ia3
from train.tuners.lora import Lora
from train.tuners.qlora import Qlora
from warehouse import catalog
from warehouse.errors import MissingExtraError, ModelError, PlanError

SETTING = Setting(tokenizer=None, rows=[], steps=10)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def test_lora_trains_rank_times_in_plus_out_of_every_linear_layer_and_no_more(base):
    model, _ = load(base)
    linear = {
        name: module
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear" and name != "lm_head"
    }
    expected = sum(4 * (m.in_features + m.out_features) for m in linear.values())
    adapted = Lora(rank=4).attach(model, SETTING)
    trained = trained_of(adapted)
    assert sum(p.numel() for p in trained.values()) == expected
    assert all(".lora_" in name for name in trained)


@pytest.mark.parametrize(
    "tuner",
    [
        Lora(),
        Lora(init="gaussian"),
        Lora(init="pissa", rank=8),
        Lora(init="olora", rank=8),
        Lora(rslora=True, init="pissa"),
        Lora(dora=True),
        Ia3(),
        Adalora(),
    ],
)
def test_training_starts_at_the_base(base, tuner):
    model, tokenizer = load(base)
    before = logits_of(model, tokenizer)
    assert far(logits_of(tuner.attach(model, SETTING), tokenizer), before) < 1e-4


def test_starts_differ_and_those_from_the_base_take_a_part_of_it(base):
    plain = dict(load(base)[0].named_parameters())["model.layers.0.mlp.up_proj.weight"]
    for init, taken in (("default", 0), ("gaussian", 0), ("pissa", 4), ("olora", 4)):
        layer = Lora(rank=4, alpha=8, init=init).attach(load(base)[0], SETTING)
        layer = layer.base_model.model.model.layers[0].mlp.up_proj
        change = plain - layer.base_layer.weight
        assert int(change.norm() > 1e-3) * 4 == taken
        import torch

        assert int(torch.linalg.matrix_rank(change, tol=1e-3)) == taken


def test_pissa_takes_the_largest_singular_values(base):
    import torch

    plain = dict(load(base)[0].named_parameters())["model.layers.0.mlp.up_proj.weight"]
    adapted = Lora(rank=4, init="pissa").attach(load(base)[0], SETTING)
    left = adapted.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight
    whole, rest = torch.linalg.svdvals(plain), torch.linalg.svdvals(left)
    assert torch.allclose(rest[: len(whole) - 4], whole[4:], atol=1e-4)


def test_rslora_scales_by_the_root_of_the_rank(base):
    for stable, scale in ((False, 32 / 16), (True, 32 / 4)):
        adapted = Lora(rank=16, alpha=32, rslora=stable).attach(load(base)[0], SETTING)
        layer = adapted.base_model.model.model.layers[0].mlp.up_proj
        assert layer.scaling["default"] == scale


def test_what_is_taken_from_the_base_is_moved_with_a_lower_rate():
    assert Lora().learning_rate == Lora(init="gaussian").learning_rate == Qlora().learning_rate
    assert Lora(init="pissa").learning_rate == Lora(init="olora").learning_rate == 2e-4


def test_tied_embeddings_are_no_target(base):
    model = load(base)[0]
    Lora(targets="q_proj, embed_tokens").attach(load(base)[0], SETTING)  # not tied: its own weights
    model.lm_head.weight = model.model.embed_tokens.weight
    for targets in ("q_proj, embed_tokens", "lm_head"):
        with pytest.raises(
            ModelError, match=r"\(tied\), so they cannot be adapted; allowed: q_proj"
        ):
            Lora(targets=targets).attach(model, SETTING)
    Lora(targets="q_proj").attach(model, SETTING)


def test_targets_by_name(base):
    adapted = Lora(targets="q_proj, v_proj").attach(load(base)[0], SETTING)
    trained = trained_of(adapted)
    assert trained
    assert all("q_proj" in name or "v_proj" in name for name in trained)
    scaled = trained_of(Ia3(targets="up_proj", feedforward="").attach(load(base)[0], SETTING))
    assert len(scaled) == 2
    assert all("up_proj" in name for name in scaled)


def test_the_output_layer_is_no_target(base):
    for targets in ("lm_head", "q_proj, lm_head"):
        with pytest.raises(ModelError, match=r"names the output layer.*allowed: q_proj") as caught:
            Lora(targets=targets).attach(load(base)[0], SETTING)
        assert "lm_head" not in str(caught.value).partition("allowed")[2]


@pytest.mark.parametrize(
    "tuner",
    [
        Lora(targets="q_proj, qq_proj"),
        Qlora(targets="q_proj, qq_proj"),
        Adalora(targets="qq_proj, q_proj"),
        Ia3(targets="v_proj, qq_proj"),
        Ia3(targets="all-linear", feedforward="qq_proj"),
    ],
    ids=["lora", "qlora", "adalora", "ia3", "ia3-feedforward"],
)
def test_a_target_that_is_not_there_is_one_line_also_beside_one_that_is(base, tuner):
    with pytest.raises(ModelError, match=r"is called 'qq_proj'; did you mean 'q_proj'\?") as caught:
        tuner.attach(load(base)[0], SETTING)
    assert "\n" not in str(caught.value)
    assert "(there are q_proj, k_proj, v_proj, o_proj, gate_proj, " in str(caught.value)


def test_a_target_like_none_that_is_there_gets_their_names(base):
    with pytest.raises(ModelError, match=r"called 'nope' \(there are q_proj, ") as caught:
        Lora(targets="nope").attach(load(base)[0], SETTING)
    assert "did you mean" not in str(caught.value)


def test_a_target_may_say_where_it_is(base):
    adapted = Lora(targets="layers.1.self_attn.q_proj").attach(load(base)[0], SETTING)
    assert trained_of(adapted)
    assert all(".layers.1.self_attn.q_proj." in name for name in trained_of(adapted))


def test_what_is_no_layer_that_can_be_adapted_is_one_line(base):
    with pytest.raises(ModelError, match="targets = 'mlp' does not fit this base") as caught:
        Lora(targets="mlp").attach(load(base)[0], SETTING)
    assert "\n" not in str(caught.value)


def test_a_rank_that_no_layer_has_is_refused_where_it_is_taken_from_the_layer(base):
    with pytest.raises(ModelError, match="takes at most rank 32 .* not 40"):
        Lora(rank=40, init="pissa").attach(load(base)[0], SETTING)


def test_options_are_checked():
    assert catalog.build("tuner", {"use": "lora", "rank": 8}) == Lora(rank=8)
    with pytest.raises(PlanError) as caught:
        catalog.build("tuner", {"use": "lora", "rank": 0, "dropout": 1.0, "init": "svd"})
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("tuner", "fault"),
    [
        (Lora(dora=True, init="pissa", dropout=0.0), "init = 'pissa' changes the weights"),
        (Lora(init="olora"), "which dropout would drop"),
        (Qlora(init="olora", dropout=0.0), "weights that are quantised"),
        (Ia3(feedforward="down_proj"), "'down_proj', which is not one of targets"),
        (Adalora(rank=8, start_rank=8), "leaves nothing to drop"),
        (Adalora(warmup=0.5, settled=0.5), "leave no steps between"),
        (Adalora(), "which packing changes"),
    ],
)
def test_options_that_do_not_go_together_are_faults(tuner, fault):
    packed = CONFIG.model_copy(update={"packing": "packing" in fault})
    (found,) = tuner.faults(packed)
    assert "\n" not in found
    assert fault in found


def test_adalora_drops_entries_down_to_the_budget_and_keeps_only_the_others(base, tmp_path):
    from safetensors.torch import load_file

    from train.loop.sft import TrainingHooks, sft_trainer, train_student

    models = []

    def build(job):
        models.append(job.model)
        return sft_trainer(job)

    tuner = Adalora(rank=2, start_rank=6)
    train_student(
        base, tuner, ROWS, CONFIG, tmp_path / "s", hooks=TrainingHooks(build_trainer=build)
    )
    student, tokenizer = load(base, tmp_path / "s")
    assert far(logits_of(student, tokenizer), logits_of(models[0], tokenizer)) < 1e-4
    learned = load_file(tmp_path / "s" / "adapter_model.safetensors")
    ranks = [len(tensor) for name, tensor in learned.items() if "lora_E" in name]
    assert len(ranks) == 14
    assert sum(ranks) == 2 * 14  # the budget as a whole, shared out unevenly
    assert 0 in ranks and max(ranks) > 2


def test_the_penalty_is_no_part_of_the_loss_on_held_out_rows(base, tmp_path):
    from train.config import EarlyStopping
    from train.loop.sft import _split_eval_rows, train_student
    from train.model.inference import Generator

    look = CONFIG.model_copy(update={"epochs": 1, "early_stopping": EarlyStopping(steps=3)})
    result = train_student(base, Adalora(orthogonality=9.0), ROWS, look, tmp_path / "s")
    best = min(entry["held_out_loss"] for entry in result.losses if "held_out_loss" in entry)
    held = [(r["prompt"], r["completion"][0]["content"]) for r in _split_eval_rows(ROWS, look)[1]]
    found = list(Generator(base, result.path).likelihood(held))
    nats = -sum(total for total, _ in found) / sum(tokens for _, tokens in found)
    assert best == pytest.approx(nats, rel=1e-4)
    assert result.losses[0]["loss"] > best + 5


def test_adalora_penalises_what_is_not_orthogonal(base):
    import torch

    adapted = Adalora(orthogonality=0.5).attach(load(base)[0], SETTING)
    with torch.no_grad():
        for name, matrix in adapted.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                torch.nn.init.orthogonal_(matrix)
        assert Adalora().penalty(adapted).item() < 1e-4
        for name, matrix in adapted.named_parameters():
            if ".lora_A." in name:
                matrix.mul_(2**0.5)  # A A^T is 2 I: as far from I as I is from 0
    assert Adalora().penalty(adapted).item() == pytest.approx(0.5 * 0.5 * 12**0.5, rel=1e-4)


def test_ia3_can_be_told_the_layers_of_a_base_that_peft_does_not_know():
    from transformers import Cohere2Config, Cohere2ForCausalLM

    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    model = Cohere2ForCausalLM(Cohere2Config(**small, num_attention_heads=2, num_key_value_heads=2))
    with pytest.raises(ModelError, match="ia3: targets = ''") as caught:
        Ia3().attach(model, SETTING)
    assert "\n" not in str(caught.value)
    told = Ia3(targets="k_proj, v_proj, down_proj", feedforward="down_proj")
    shapes = {
        name.split(".")[-3]: p.numel()
        for name, p in trained_of(told.attach(model, SETTING)).items()
    }
    assert shapes == {"k_proj": 32, "v_proj": 32, "down_proj": 64}


def test_qlora_keeps_the_base_in_nf4_with_quantised_scales_in_training_and_after(base):
    for training in (True, False):
        asked = Qlora().loading(training)["quantization_config"]
        assert (asked.load_in_4bit, asked.bnb_4bit_quant_type) == (True, "nf4")
    adapted = Qlora().attach(load(base, tuner=Qlora())[0], SETTING)
    layer = adapted.base_model.model.model.layers[0].mlp.up_proj.base_layer
    assert type(layer).__name__ == "Linear4bit"
    assert layer.weight.numel() == 32 * 64 // 2  # two weights per byte
    assert layer.weight.quant_state.nested


def test_qlora_trains_on_after_it_answered(base):
    """bitsandbytes' kernel for answers on some CPUs passes no gradient on; it must not stay."""
    model, tokenizer = load(base, tuner=Qlora())
    adapted = Qlora(dropout=0.0).attach(model, SETTING)
    assert not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in model.modules())
    ids = tokenizer("The heart pumps blood.", return_tensors="pt")["input_ids"]

    def gradients():
        adapted.zero_grad()
        adapted.train()(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in trained_of(adapted).items()}

    before = gradients()
    logits_of(adapted, tokenizer)
    after = gradients()
    assert all(far(after[name], before[name]) < 1e-6 for name in before)


def test_qlora_without_bitsandbytes_names_the_extra(base, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "train.tuners.qlora.find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    for asked in (Qlora().ready, lambda: load(base, tuner=Qlora())):
        with pytest.raises(MissingExtraError, match=r"pip install 'stillhouse\[qlora\]'"):
            asked()
