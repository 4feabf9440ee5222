import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny import CHAT_TEMPLATE, make_tiny
from train.audit.audit import audit_rows, refusal
from train.dataset import render
from train.model import base_model
from train.model.base_model import base_fingerprint, resolve_base
from train.model.inference import Generator
from train.model.student import FLASH, load
from train.tuners.full import Full
from warehouse.errors import AssetError, ModelError, NotFoundError

QUESTIONS = [
    [{"role": "user", "content": "What gas do plants take in?"}],
    [{"role": "user", "content": "Which organ pumps blood through the body? " * 3}],
    [{"role": "user", "content": "Water?"}],
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def reader(tiny):
    return Generator(str(tiny))


def test_importing_the_room_needs_no_torch():
    code = (
        "import sys, train.model.student, train.model.inference, train.loop.sft, train.audit.audit, train.tuners.lora, "
        "distill.objectives.sequence; "
        "print([m for m in ('torch', 'transformers', 'trl', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_batch_says_what_each_conversation_alone_says(reader):
    together = {g.index: g for g in reader.answer(QUESTIONS, 8, batch_size=3)}
    assert sorted(together) == [0, 1, 2]
    for index, conversation in enumerate(QUESTIONS):
        (alone,) = reader.answer([conversation], 8)
        assert (alone.text, alone.finish_reason) == (
            together[index].text,
            together[index].finish_reason,
        )
        assert alone.prompt_tokens == together[index].prompt_tokens


def test_longest_prompts_come_first_and_every_batch_advances(reader):
    steps = []
    found = list(reader.answer(QUESTIONS, 2, batch_size=2, advance=steps.append))
    assert steps == [2, 1]
    assert [g.index for g in found] == [1, 0, 2]
    assert all(g.latency_s > 0 for g in found)
    assert found[0].latency_s == found[1].latency_s
    batches = [g.batch for g in found]
    assert batches == [found[2 * (n // 2)].index for n in range(len(found))]


def test_an_answer_without_an_end_is_of_reason_length(reader):
    (cut,) = reader.answer(QUESTIONS[:1], 3)
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 3)


def test_an_answer_stops_at_any_end_token_and_shows_no_special_token(tiny):
    model, tokenizer = load(str(tiny))
    asked = tokenizer(render(tokenizer, QUESTIONS[0]), return_tensors="pt")
    third = model.generate(**asked, max_new_tokens=6)[0, asked["input_ids"].shape[1] + 2].item()
    (free,) = Generator(str(tiny), loaded=(model, tokenizer)).answer(QUESTIONS[:1], 6)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, third]
    (said,) = Generator(str(tiny), loaded=(model, tokenizer)).answer(QUESTIONS[:1], 6)
    assert (free.finish_reason, said.finish_reason) == ("length", "stop")
    assert said.completion_tokens <= 3
    assert "<|" not in said.text
    assert free.text.startswith(said.text) and free.text != said.text


def test_a_prompt_beyond_the_context_is_named_before_anything_is_asked(reader):
    long = [{"role": "user", "content": "blood " * 600}]
    with pytest.raises(ModelError, match=r"conversation 1 has \d+ tokens.*context of 512"):
        next(reader.answer([QUESTIONS[0], long], 8))


def test_fingerprint_follows_content_not_place(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    assert base_fingerprint(str(copy)) == base_fingerprint(str(tiny))
    (copy / "chat_template.jinja").write_text(CHAT_TEMPLATE + " ")
    assert base_fingerprint(str(copy)) != base_fingerprint(str(tiny))
    (copy / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert base_fingerprint(str(copy)) == base_fingerprint(str(tiny))
    (copy / "generation_config.json").write_text('{"eos_token_id": 0}')  # where answers end
    assert base_fingerprint(str(copy)) != base_fingerprint(str(tiny))
    other = make_tiny(tmp_path / "other", seed=1)
    assert base_fingerprint(str(other)) != base_fingerprint(str(tiny))
    assert base_fingerprint("someone/some-model") == "someone/some-model"


def test_a_base_that_is_nowhere_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(AssetError, match="allowed: an asset") as caught:
        resolve_base("./nowhere/at/all")
    assert "\n" not in str(caught.value)

    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(AssetError, match="someone/none': no route; allowed") as caught:
        resolve_base("someone/none")
    assert "\n" not in str(caught.value)


def test_a_folder_with_pickled_weights_only_is_refused(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    os.replace(copy / "model.safetensors", copy / "pytorch_model.bin")
    with pytest.raises(AssetError, match=r"needs config.json and \*.safetensors"):
        resolve_base(str(copy))


def test_a_base_without_a_chat_template_is_refused(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(AssetError, match="has no chat template"):
        load(str(copy))


def test_a_gpu_answers_in_bfloat16_unless_it_is_to_be_exact(tiny, monkeypatch):
    import torch

    assert load(str(tiny))[0].dtype == torch.float32
    monkeypatch.setattr("train.model.student.has_bfloat16", lambda: True)
    assert load(str(tiny))[0].dtype == torch.bfloat16
    assert load(str(tiny), exact=True)[0].dtype == torch.float32


def test_a_base_that_knows_no_flash_attention_is_loaded_without(tiny, monkeypatch):
    from transformers import AutoModelForCausalLM

    asked = []
    whole = AutoModelForCausalLM.from_pretrained

    def some(folder, **arguments):
        asked.append(arguments.get("attn_implementation"))
        if asked[-1]:
            raise ValueError("LlamaForCausalLM does not support Flash Attention 2 yet")
        return whole(folder, **arguments)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", some)
    monkeypatch.setattr("train.model.student.has_flash_attention", lambda: True)
    load(str(tiny), tuner=Full())  # float32: no FlashAttention outside of training
    assert asked == [None]
    load(str(tiny), tuner=Full(), packing=True)
    assert asked == [None, FLASH, None]


def test_a_conversation_that_the_template_refuses_is_one_line(tmp_path):
    strict = (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}" + CHAT_TEMPLATE
    )
    reader = Generator(str(make_tiny(tmp_path / "strict", chat_template=strict)))
    said = [{"role": "system", "content": "Be brief."}, *QUESTIONS[0]]
    with pytest.raises(
        ModelError, match=r"refuses a conversation of system, user: System role not supported"
    ) as caught:
        next(reader.answer([said], 8))
    assert "\n" not in str(caught.value)
    row = {"prompt": said, "completion": [{"role": "assistant", "content": "yes"}]}
    figures = audit_rows([row], reader.tokenizer, 128).figures
    assert "System role not supported" in refusal(figures)


def test_a_student_that_is_not_there_is_named(tiny, tmp_path):
    with pytest.raises(NotFoundError, match="no student in"):
        Generator(str(tiny), tmp_path)


def test_an_asset_is_unpacked_once_and_never_half(monkeypatch, tmp_path):
    from warehouse.inputs import assets

    name = assets.names("model")[0]
    monkeypatch.setattr(assets, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(assets, "path", lambda name: tmp_path / "weights.gguf")
    made = []

    def killed(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(base_model, "_dequantise", killed)
    with pytest.raises(KeyboardInterrupt):
        resolve_base(name)
    target = tmp_path / "models" / f"{assets.entry(name).sha256}-f32"
    assert not target.exists()
    (tmp_path / "models" / f"{target.name}.part-left-by-a-kill").mkdir()

    def whole(source: Path, folder: Path) -> None:
        made.append(source.name)
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(base_model, "_dequantise", whole)
    assert resolve_base(name) == resolve_base(name) == target
    assert made == ["weights.gguf"]
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == [target.name]
