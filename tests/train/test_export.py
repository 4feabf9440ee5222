import json
import shutil

import pytest

from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.export.safetensors import export_adapter, export_merged, needs_only_peft
from train.loop.sft import train_student
from train.model.base_model import public_base
from train.model.inference import Generator
from train.model.student import load
from warehouse import catalog
from warehouse.errors import ExportError, ModelError, NotFoundError

ROWS = [
    {
        "prompt": [{"role": "user", "content": f"Which organ pumps blood? {n % 3}"}],
        "completion": [{"role": "assistant", "content": "The heart"}],
    }
    for n in range(8)
]
QUESTIONS = [row["prompt"] for row in ROWS[:3]]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = make_tiny(tmp_path_factory.mktemp("base") / "tiny")
    for name in ("config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        named = {"AutoConfig": "evil--code.Config", "AutoTokenizer": ["evil--code.T", None]}
        (folder / name).write_text(json.dumps({**config, "auto_map": named}))
    return str(folder)


@pytest.fixture(scope="module")
def students(base, tmp_path_factory):
    """Students by tuner, fitted once each."""
    folder, made = tmp_path_factory.mktemp("students"), {}

    def student(**table):
        name = table["use"]
        if name not in made:
            config = SftConfig(epochs=2, batch_size=4, learning_rate=2e-2, max_length=128)
            made[name] = train_student(
                base, catalog.build("tuner", table), ROWS, config, folder / name
            ).path
        return made[name]

    return student


def logits(model, tokenizer):
    import torch

    asked = tokenizer.apply_chat_template(
        QUESTIONS[0], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        return model(**asked).logits


@pytest.mark.parametrize(
    "tuner", [{"use": "lora", "rank": 4}, {"use": "full"}, {"use": "qlora", "rank": 4}]
)
def test_a_merged_folder_alone_says_what_the_adapter_says(base, students, tuner, tmp_path):
    if tuner["use"] == "qlora":
        pytest.importorskip("bitsandbytes")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = students(**tuner)
    export_merged(base, student, tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert type(plain).__name__ == "LlamaForCausalLM"
    untuned, learned = load(base)[0], load(base, student)[0]
    difference = (logits(plain, tokenizer) - logits(learned, tokenizer)).abs().max()
    assert difference < 1e-4
    assert (logits(untuned, tokenizer) - logits(learned, tokenizer)).abs().max() > 100 * difference
    texts = [[one.text for one in Generator(str(where), who).answer(QUESTIONS, 8)]
             for where, who in ((base, student), (tmp_path / "merged", None))]  # fmt: skip
    assert texts[0] == texts[1]
    assert not plain.generation_config.do_sample
    assert plain.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert all(p.dtype == torch.float32 for p in plain.parameters())


def test_merged_weights_can_be_rounded(base, students, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    export_merged(base, students(use="lora", rank=4), tmp_path / "merged", "bfloat16")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}


def test_what_is_exported_names_no_code_and_no_place(base, students, tmp_path):
    student = students(use="lora", rank=4)
    export_merged(base, student, tmp_path / "merged")
    export_adapter(base, student, tmp_path / "adapter")
    for folder in ("merged", "adapter"):
        for file in (tmp_path / folder).glob("*.json"):
            assert "evil" not in file.read_text()
            if folder == "merged":
                assert base not in file.read_text(), file
        assert not list((tmp_path / folder).glob("*.py"))


def test_an_adapter_folder_is_a_student_and_loads_with_peft_alone(base, students, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = students(use="lora", rank=4)
    export_adapter(base, student, tmp_path / "adapter")
    assert needs_only_peft(tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    by_peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
    )
    by_us = load(base, tmp_path / "adapter")[0]
    assert torch.equal(logits(by_peft.eval(), tokenizer), logits(by_us, tokenizer))
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert {"chat_template.jinja", "tokenizer.json", "tuner.json"} <= names
    assert "README.md" not in names


def test_an_adapter_of_our_own_needs_us(base, students, tmp_path):
    export_adapter(base, students(use="full"), tmp_path / "adapter")
    assert not needs_only_peft(tmp_path / "adapter")
    assert Generator(base, tmp_path / "adapter").model is not None


@pytest.mark.parametrize("tuner", [{"use": "prompt"}, {"use": "adapter"}])
def test_what_can_not_be_merged_is_one_line_that_says_what_can_be_had(
    base, students, tuner, tmp_path
):
    student = students(**tuner)
    with pytest.raises(ExportError, match=f"'{tuner['use']}' .* allowed: --to adapter") as caught:
        export_merged(base, student, tmp_path / "merged")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "merged").exists()
    export_adapter(base, student, tmp_path / "adapter")
    shutil.move(tmp_path / "adapter", tmp_path / "elsewhere")
    texts = [[one.text for one in Generator(base, where).answer(QUESTIONS, 8)]
             for where in (student, tmp_path / "elsewhere")]  # fmt: skip
    assert texts[0] == texts[1]


def test_a_folder_without_a_student_is_told(base, tmp_path):
    with pytest.raises(NotFoundError, match=r"tuner\.json is missing"):
        export_adapter(base, tmp_path, tmp_path / "adapter")


@pytest.mark.parametrize("tuner", ["lora", "adapter"])
def test_an_exported_adapter_names_no_path_of_this_machine(base, students, tuner, tmp_path):
    export_adapter(base, students(use=tuner), tmp_path / "adapter")
    texts = [file.read_text() for file in (tmp_path / "adapter").glob("*.json")]
    assert any('"tiny"' in text for text in texts)
    assert not any(base in text for text in texts)
    assert load(base, tmp_path / "adapter")


def test_a_student_with_pickled_weights_is_refused_unread(students, base, tmp_path):
    copy = shutil.copytree(students(use="lora"), tmp_path / "copy")
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds adapter_model.bin, a pickle") as caught:
        load(base, copy)
    assert "\n" not in str(caught.value)


def test_a_base_that_names_code_is_loaded_without_it_and_without_a_question(base, monkeypatch):
    def asked(*prompt):
        raise AssertionError("a library asked on stdin")

    monkeypatch.setattr("builtins.input", asked)
    model, _ = load(base)
    assert type(model).__module__.startswith("transformers.models.")


def test_an_adapter_of_a_hub_base_loads_with_peft_and_transformers_alone(
    base, tmp_path, monkeypatch
):
    import huggingface_hub
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--someone--tiny"
    snapshot = shutil.copytree(base, cached / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    config = SftConfig(epochs=1, batch_size=4, learning_rate=2e-2, max_length=128)
    tuner = catalog.build("tuner", {"use": "lora", "rank": 4})
    student = train_student("someone/tiny", tuner, ROWS, config, tmp_path / "student").path
    export_adapter("someone/tiny", student, tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (described["base_model_name_or_path"], described["revision"]) == ("someone/tiny", commit)

    by_peft = AutoPeftModelForCausalLM.from_pretrained(
        tmp_path / "adapter", cache_dir=tmp_path / "hub", local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    by_us = load("someone/tiny", tmp_path / "adapter")[0]
    assert torch.equal(logits(by_peft.eval(), tokenizer), logits(by_us, tokenizer))


def test_bases_are_named_as_others_can_load_them(base):
    asset = public_base("smollm2-135m-instruct")
    assert asset.on_hub and asset.gguf_file.endswith(".gguf") and "/" in asset.repo
    folder = public_base(base)
    assert (folder.repo, folder.on_hub) == ("tiny", False)
