from dataclasses import replace

import pytest

from distill.learning.objective import TrainingInputs, rows_of
from distill.objectives.sequence import Sequence
from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.model.inference import Generator
from train.tuners.lora import Lora
from warehouse import catalog
from warehouse.errors import TrainingError
from warehouse.records import Prompt, Sample


def sample(number, completion="carbon dioxide", status="ok"):
    prompt = Prompt.of(
        recipe="imitation",
        recipe_options={},
        messages=[{"role": "user", "content": f"(context for the teacher) gas? {number}"}],
        student_messages=[{"role": "user", "content": f"What gas do plants take in? {number}"}],
        question="What gas do plants take in?",
    )
    return Sample.of(
        prompt, call_ids=["c"], recipe_version="1", completion=completion, status=status
    )


def test_a_row_is_what_the_student_sees_and_what_the_teacher_said():
    (row,) = rows_of([sample(1)])
    assert row["prompt"] == [{"role": "user", "content": "What gas do plants take in? 1"}]
    assert row["completion"] == [{"role": "assistant", "content": "carbon dioxide"}]


def test_it_is_found_by_name():
    assert catalog.build("objective", {"use": "sequence"}) == Sequence()


@pytest.mark.trains
def test_fitting_teaches_the_completion(tmp_path):
    base = str(make_tiny(tmp_path / "tiny"))
    config = SftConfig(epochs=12, batch_size=4, learning_rate=2e-2, max_length=128)
    samples = [sample(n) for n in range(12)]
    result = Sequence().train(
        TrainingInputs(base, Lora(dropout=0.0), samples, config, tmp_path / "student")
    )
    (said,) = Generator(base, result.path).answer([samples[0].messages], 12)
    assert said.text == "carbon dioxide"
    assert result.audit["rows_in"] == 12


def test_refusals_are_never_trained_on(tmp_path):
    bad = replace(sample(2), status="refused")
    with pytest.raises(TrainingError, match=r"1 of 2 samples cannot be trained on.*'refused'"):
        Sequence().train(
            TrainingInputs("nowhere", Lora(), [sample(1), bad], SftConfig(), tmp_path / "s")
        )
