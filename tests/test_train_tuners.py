import pytest

from tests.tiny import make_tiny
from train.student import load
from train.tuner import Setting
from train.tuners.lora import Lora
from warehouse import catalog
from warehouse.errors import PlanError, StageError


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
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == expected
    assert all(".lora_" in name for name in trained)


def test_lora_starts_at_the_base(base):
    import torch

    model, tokenizer = load(base)
    ids = tokenizer("The heart pumps blood.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        after = Lora().attach(model, SETTING).eval()(input_ids=ids).logits
    assert torch.equal(before, after)


def test_targets_by_name(base):
    adapted = Lora(targets="q_proj, v_proj").attach(load(base)[0], SETTING)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained
    assert all("q_proj" in name or "v_proj" in name for name in trained)


def test_a_target_that_is_not_there_is_one_line(base):
    with pytest.raises(StageError, match="targets = 'nope'") as caught:
        Lora(targets="nope").attach(load(base)[0], SETTING)
    assert "\n" not in str(caught.value)


def test_options_are_checked():
    assert catalog.build("tuner", {"use": "lora", "rank": 8}) == Lora(rank=8)
    with pytest.raises(PlanError) as caught:
        catalog.build("tuner", {"use": "lora", "rank": 0, "dropout": 1.0})
    assert len(caught.value.faults) == 2
