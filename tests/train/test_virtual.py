"""Prompt learning: what a student starts as, where its tokens stand, what it refuses."""

from dataclasses import replace

import pytest
import torch

from distill.plan.plan import load_plan
from tests.support.plans import scripted, write_plan
from tests.support.tiny import make_tiny, make_tokenizer
from tests.train.test_tuners import CONFIG, ROWS, far
from train.loop.sft import TrainingHooks, train_student
from train.methods.own_weights import trained_of
from train.methods.tuner import Setting
from train.model.inference import Generator
from train.model.student import load
from train.tuners.p_tuning import PTuning
from train.tuners.p_tuning_v2 import PTuningV2
from train.tuners.prefix import Prefix
from train.tuners.prompt import PromptTuner
from warehouse.errors import ModelError, PlanError, TrainingError

TEXT = "Answer in a few words. The heart pumps blood."
STARTED = [
    Prefix(length=9),
    Prefix(length=9, reparametrise=True),
    PromptTuner(length=9),
    PTuning(length=9),
    PTuning(length=9, encoder="mlp"),
]
SMALL = {"vocab_size": 384, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}


def llama_gqa():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2))


def qwen3():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    return Qwen3ForCausalLM(Qwen3Config(**SMALL, **heads))


def gemma3():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16}
    return Gemma3ForCausalLM(Gemma3TextConfig(**SMALL, **heads))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=32, n_layer=2, n_head=2))


FAMILIES = [llama_gqa, qwen3, gemma3, gpt2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def padded(sequences, pad=0):
    import torch

    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tuner", STARTED)
def test_it_starts_as_the_base_that_is_shown_the_text(family, tuner):
    """In a batch of rows of different length, padded on the left, with rotary positions or not."""
    import torch

    torch.manual_seed(0)
    tokenizer, model = make_tokenizer(), family().eval()
    shown = tuner.start_ids(Setting(tokenizer, ROWS, 10), TEXT)
    rows = [[5, 9, 33], [7, 6, 5, 44, 30, 2]]
    with torch.inference_mode():
        expected = [
            model(input_ids=torch.tensor([shown + row])).logits[0, len(shown) :] for row in rows
        ]
    started = replace(tuner, init_text=TEXT).attach(model, Setting(tokenizer, ROWS, 10)).eval()
    inputs = padded(rows)
    with torch.inference_mode():
        logits = started(**inputs).logits[:, -inputs["input_ids"].shape[1] :]
        said = started.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=3,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    for row, want, found, tokens in zip(rows, expected, logits, said, strict=True):
        assert far(found[-len(row) :], want) < 2e-5
        assert int(tokens[inputs["input_ids"].shape[1]]) == int(want[-1].argmax())


def test_left_out_the_text_is_the_shortest_rows_as_they_are_trained_on():
    tokenizer = make_tokenizer()
    shortest = min(ROWS, key=lambda r: len(str(r)))
    text = tokenizer.apply_chat_template(
        [*shortest["prompt"], *shortest["completion"]], tokenize=False
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    setting = Setting(tokenizer, ROWS, 10)
    assert PromptTuner(length=len(ids)).start_ids(setting, "") == ids
    assert PromptTuner(length=len(ids) - 2).start_ids(setting, "") == ids[:-2]
    assert PromptTuner(length=len(ids) + 2).start_ids(setting, "")[: len(ids)] == ids
    two = tokenizer("The heart", add_special_tokens=False)["input_ids"]
    assert PromptTuner(length=5).start_ids(setting, "The heart") == (two * 5)[:5]
    with pytest.raises(TrainingError, match="nothing to start from"):
        PromptTuner().start_ids(Setting(tokenizer, [], 10), "")


@pytest.mark.parametrize("tuner", [Prefix(reparametrise=True), PTuning(), PTuning(encoder="mlp")])
def test_start_and_encoder_both_reach_the_student_and_the_encoder_is_thrown_away(
    base, tuner, tmp_path
):
    from safetensors.torch import load_file

    models = []

    def build(job):
        from train.loop.sft import sft_trainer

        models.append((job.model, {n: p.clone() for n, p in trained_of(job.model).items()}))
        return sft_trainer(job)

    train_student(
        base, tuner, ROWS, CONFIG, tmp_path / "s", hooks=TrainingHooks(build_trainer=build)
    )
    (model, before) = models[0]
    moved = {name for name, p in trained_of(model).items() if far(p, before[name]) > 0}
    assert moved == set(before)  # also what lies behind the last layer, which starts at zero
    learned = load_file(tmp_path / "s" / "adapter_model.safetensors")
    assert list(learned) == ["prompt_embeddings"]
    encoder = model.prompt_encoder["default"].eval()
    made = encoder.start + encoder.share * encoder.encoder(torch.arange(tuner.length))
    assert learned["prompt_embeddings"].shape == encoder.start.shape
    assert far(learned["prompt_embeddings"], made) < 1e-5 < far(made, encoder.start)


def test_deep_prompts_start_at_random_and_apart(base):
    made = PTuningV2(length=8, spread=0.1).attach(load(base)[0], Setting(None, [], 10))
    ((_, prompts),) = trained_of(made).items()
    assert prompts.shape == (8, 2 * 2 * 32)
    assert float(prompts.std()) == pytest.approx(0.1, rel=0.1)
    assert len({tuple(row.tolist()) for row in prompts}) == 8


def test_virtual_tokens_take_room_in_the_context(base, tmp_path):
    result = train_student(base, PromptTuner(length=100), ROWS[:10], CONFIG, tmp_path / "s")
    reader = Generator(base, result.path)
    assert reader.context == Generator(base).context - 100 == 412
    question = [{"role": "user", "content": "blood" * 140}]
    next(iter(Generator(base).answer([question], 8)))
    with pytest.raises(ModelError, match="context of 412"):
        next(iter(reader.answer([question], 8)))


@pytest.mark.parametrize("tuner", [Prefix(), PTuningV2(), PromptTuner(), PTuning()])
def test_what_can_not_be_trained_is_a_fault(tuner):
    packed = tuner.faults(CONFIG.model_copy(update={"packing": True}))
    assert len(packed) == 1 and "virtual tokens" in packed[0]
    recomputed = tuner.faults(CONFIG.model_copy(update={"gradient_checkpointing": True}))
    assert len(recomputed) == (1 if isinstance(tuner, (Prefix, PTuningV2)) else 0)


def test_the_plan_tells_what_can_not_be_trained(tmp_path):
    plan = write_plan(tmp_path, scripted(tmp_path / "log"))
    deep = ["train.tuner={use = 'prefix'}", "train.gradient_checkpointing=true"]
    with pytest.raises(PlanError, match="tuner 'prefix': gradient_checkpointing recomputes"):
        load_plan(plan, deep)
    load_plan(plan, ["train.tuner={use = 'prompt'}", "train.gradient_checkpointing=true"])


def test_a_base_without_keys_and_values_is_one_line():
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=384, hidden_size=32, num_hidden_layers=2))
    for tuner in (Prefix(init_text=TEXT), PTuningV2()):
        with pytest.raises(ModelError) as caught:
            tuner.attach(model, Setting(make_tokenizer(), ROWS, 10))
        assert "\n" not in str(caught.value)
