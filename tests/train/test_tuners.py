"""What holds for every tuner in the folder: a new file there is tested without a word here."""

import copy
import dataclasses
import json
import re
import subprocess
import sys

import pytest

from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.conformance import (
    MIXED_CONVERSATIONS,
    check_student,
    check_tuner_settings,
    logits_of,
)
from train.loop.sft import TrainingHooks, sft_trainer, train_student
from train.methods.own_weights import trained_of
from train.methods.tuner import Tuner
from train.model.inference import Generator
from train.model.student import load
from warehouse import catalog

NAMES = catalog.names("tuner")
FORMS = {  # what a tuner's options change in how it is trained, saved or merged
    "lora-gaussian": {"use": "lora", "init": "gaussian"},
    "lora-pissa": {"use": "lora", "init": "pissa", "rslora": True, "dropout": 0.0},
    "lora-olora": {"use": "lora", "init": "olora", "dropout": 0.0},
    "lora-dora": {"use": "lora", "dora": True},
    "qlora-dora": {"use": "qlora", "dora": True},
    "partial-head": {"use": "partial", "layers": "head, 0, norm"},
    "prefix-mlp": {"use": "prefix", "reparametrise": True},
    "p_tuning-mlp": {"use": "p_tuning", "encoder": "mlp"},
}
ALL = {name: {"use": name} for name in NAMES} | FORMS
ANSWERS = ["The heart", "oxygen", "carbon dioxide", "zero"]
QUESTIONS = ["Which organ pumps blood?", "What gas do plants give off?", "And take in?", "Water?"]
CONFIG = SftConfig(epochs=2, batch_size=10, learning_rate=1e-2, max_length=128)
MIXED = MIXED_CONVERSATIONS


def row(n):
    question = QUESTIONS[n % 4] + " Answer in a few words." * (n % 3)
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": ANSWERS[n % 4]}],
    }


ROWS = [row(n) for n in range(60)]


def tuner_of(form):
    return catalog.build("tuner", ALL[form])


def far(one, other):
    return (one - other).abs().max().item()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="module")
def students(base, tmp_path_factory):
    """Makes a student of a form once: (what fit says, the model that was trained)."""
    folder, made = tmp_path_factory.mktemp("students"), {}

    def student(form):
        if form not in made:
            models = []

            def build(job):
                models.append(job.model)
                return sft_trainer(job)

            result = train_student(
                base,
                tuner_of(form),
                ROWS,
                CONFIG,
                folder / form,
                hooks=TrainingHooks(build_trainer=build),
            )
            made[form] = result, models[0].eval()
        return made[form]

    return student


@pytest.fixture(scope="module")
def elsewhere(base, students, tmp_path_factory):
    """The logits of every student, as another process that loads it finds them."""
    from safetensors.torch import load_file

    paths = {form: str(students(form)[0].path) for form in ALL}
    out = tmp_path_factory.mktemp("elsewhere") / "logits.safetensors"
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "from tests.train.test_tuners import logits_of\n"
        "from train.model.student import load\n"
        "base, paths, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]\n"
        "found = {f: logits_of(*load(base, Path(p))) for f, p in paths.items()}\n"
        "save_file(found, out)\n"
    )
    subprocess.run([sys.executable, "-c", code, base, json.dumps(paths), str(out)], check=True)
    return load_file(str(out))


@pytest.mark.parametrize("form", ALL)
def test_it_learns(base, students, form):
    def surprise(reader):
        rows = [(r["prompt"], r["completion"][0]["content"]) for r in ROWS[:12]]
        found = list(reader.likelihood(rows))
        return -sum(total for total, _ in found) / sum(tokens for _, tokens in found)

    result, _ = students(form)
    assert [entry["step"] for entry in result.losses] == list(range(1, 13))
    assert surprise(Generator(base, result.path)) < 0.97 * surprise(Generator(base))
    assert 0 < result.trainable_parameters == result.audit["trainable_parameters"]


@pytest.mark.parametrize("form", ALL)
def test_a_student_is_safetensors_and_json_and_another_process_says_the_same(
    base, students, elsewhere, form
):
    result, model = students(form)
    check_student(base, tuner_of(form), result, model)
    here = logits_of(model, load(base)[1])
    assert far(here, elsewhere[form]) < 1e-4
    untrained = logits_of(*load(base))
    assert far(here, untrained) > 1e-2


@pytest.mark.parametrize("form", ALL)
def test_a_batch_says_what_single_rows_say(base, students, form):
    reader = Generator(base, students(form)[0].path)
    together = {g.index: g for g in reader.answer(MIXED, 8)}
    pairs = [(conversation, "The heart") for conversation in MIXED]
    likely = list(reader.likelihood(pairs))
    for index, conversation in enumerate(MIXED):
        (alone,) = reader.answer([conversation], 8)
        assert alone.text == together[index].text
        assert alone.completion_tokens == together[index].completion_tokens
        ((found, tokens),) = reader.likelihood([pairs[index]])
        assert tokens == likely[index][1]
        assert found == pytest.approx(likely[index][0], abs=1e-4)


@pytest.mark.parametrize("form", ALL)
def test_an_answer_is_what_the_likelihood_finds_most_likely(base, students, form):
    """The cached way through `generate` and the way of one forward pass agree on each token."""
    import torch

    from train.dataset import render, token_ids

    reader = Generator(base, students(form)[0].path)
    (said,) = reader.answer(MIXED[1:2], 4)
    ids = token_ids(reader.tokenizer, render(reader.tokenizer, MIXED[1]))
    for _ in range(said.completion_tokens):
        inputs = torch.tensor([ids])
        with torch.inference_mode():
            logits = reader.model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
        ids.append(int(logits[0, -1].argmax()))
    new = ids[-said.completion_tokens :]
    if said.finish_reason == "stop":
        assert new.pop() == reader.tokenizer.eos_token_id
    assert reader.tokenizer.decode(new, skip_special_tokens=True) == said.text


@pytest.mark.parametrize("form", [f for f in ALL if f not in ("full", "lora-pissa", "lora-olora")])
def test_what_is_not_trained_stays_as_the_base_has_it(base, students, form):
    import torch

    def plain(name):
        return re.sub(r"^(base_model\.|model\.)+|\.base_layer", "", name)

    fresh = {plain(n): p for n, p in load(base, tuner=tuner_of(form))[0].named_parameters()}
    _, model = students(form)
    trained = trained_of(model)
    frozen = {plain(n): p for n, p in model.named_parameters() if n not in trained}
    shared = [name for name in frozen if name in fresh]
    assert len(shared) >= 2
    assert all(torch.equal(frozen[name], fresh[name]) for name in shared)


@pytest.mark.parametrize("form", [form for form in ALL if tuner_of(form).mergeable])
def test_a_merged_student_is_a_plain_model_that_says_the_same(base, students, form, tmp_path):
    from transformers import AutoModelForCausalLM

    result, _ = students(form)
    model, tokenizer = load(base, result.path)
    before = logits_of(model, tokenizer)
    merged = tuner_of(form).merged(model)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(again).__name__ == "LlamaForCausalLM"
    assert not hasattr(again.config, "quantization_config")
    assert {name for name, _ in again.named_parameters()} <= {
        *(name for name, _ in load(base)[0].named_parameters()),
        "lm_head.weight",
    }
    assert far(logits_of(again, tokenizer), before) < 1e-3


@pytest.mark.parametrize("form", ALL)
def test_a_training_that_was_cut_off_goes_on_to_the_same_losses(base, students, form, tmp_path):
    def killed_at(stop):
        def kill(step):
            if step.done == stop:
                raise KeyboardInterrupt

        return kill

    config = CONFIG.model_copy(update={"save_steps": 3})
    for stop in (5, 11):  # adalora still drops entries at the first, and has settled at the other
        with pytest.raises(KeyboardInterrupt):
            train_student(base, tuner_of(form), ROWS, config, tmp_path / "s", killed_at(stop))
    steps = []
    again = train_student(base, tuner_of(form), ROWS, config, tmp_path / "s", steps.append)
    assert steps[0].done == 10
    whole = [entry["loss"] for entry in students(form)[0].losses]
    assert [entry["loss"] for entry in again.losses] == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_activations_give_the_same_losses_or_are_refused(base, students, name, tmp_path):
    config = CONFIG.model_copy(update={"gradient_checkpointing": True})
    tuner = tuner_of(name)
    if tuner.faults(config):
        assert "gradient_checkpointing" in tuner.faults(config)[0]
        return
    short = config.model_copy(update={"epochs": 1, "schedule": "constant", "warmup_ratio": 0.0})
    plain = short.model_copy(update={"gradient_checkpointing": False})
    one, other = (
        train_student(base, tuner, ROWS[:12], c, tmp_path / str(n))
        for n, c in enumerate((short, plain))
    )
    assert [e["loss"] for e in one.losses] == pytest.approx([e["loss"] for e in other.losses])
    assert one.losses[-1]["loss"] != one.losses[0]["loss"]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_is_from_and_takes_the_plain_settings(name):
    tuner = tuner_of(name)
    assert isinstance(tuner, Tuner)
    check_tuner_settings(tuner)
    assert tuner.faults(CONFIG) == []
    assert dataclasses.replace(tuner) == tuner == copy.deepcopy(tuner)
    packed = CONFIG.model_copy(update={"packing": True})
    assert bool(tuner.faults(packed)) == (tuner.prompt_learning or name == "adalora")


def test_checking_a_plan_of_any_tuner_needs_no_torch():
    code = (
        "import json, sys\n"
        "from train.config import SftConfig\n"
        "from warehouse import catalog\n"
        "for table in json.loads(sys.argv[1]):\n"
        "    tuner = catalog.build('tuner', table)\n"
        "    tuner.faults(SftConfig())\n"
        "    tuner.ready()\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'bitsandbytes') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, json.dumps(list(ALL.values()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
