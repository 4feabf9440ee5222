"""Several processes learn what one learns, also where the last batch is not whole."""

import pytest

from distill.learning.multiprocess import train_in_processes
from distill.learning.objective import TrainingInputs
from distill.objectives.logits import Logits
from distill.objectives.preference import Preference
from distill.objectives.sequence import Sequence
from tests.support.teaching import make_teacher, sample, stored
from tests.support.tiny import make_tiny
from train.config import SftConfig
from train.loop.trainer import Shares
from train.tuners.lora import Lora

CONFIG = SftConfig(epochs=3, batch_size=4, learning_rate=1e-2, max_length=128, save_steps=0)
LORA = Lora(rank=4, dropout=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("base") / "tiny"))


def curve(result):
    return [entry["loss"] for entry in result.losses]


def both(objective, base, number, folder, logprobs=None, **options):
    """The losses of one process and of two."""
    found = []
    for processes in (1, 2):
        config = CONFIG.model_copy(update={"processes": processes, **options})
        samples = [sample(n) for n in range(number)]
        material = TrainingInputs(
            base, LORA, samples, config, folder / str(processes), logprobs=logprobs or {}
        )
        found.append(curve(train_in_processes(objective, material)))
    return found


@pytest.mark.parametrize(
    ("rows", "accumulation", "steps"),
    [
        pytest.param(14, 1, 4, marks=pytest.mark.slow),
        pytest.param(13, 1, 4, marks=pytest.mark.slow),
        (13, 3, 2),
    ],
    ids=["half-a-batch", "one-row-for-two", "accumulated"],
)
def test_an_uneven_last_batch_is_learned_as_in_one_process(
    base, tmp_path, rows, accumulation, steps
):
    one, two = both(Sequence(), base, rows, tmp_path, gradient_accumulation=accumulation)
    assert len(one) == 3 * steps
    assert two == pytest.approx(one, rel=2e-3)


def test_files_of_the_working_directory_do_not_replace_our_packages(base, tmp_path, monkeypatch):
    for name in ("train", "quality", "distill", "datagen"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    one, two = both(Sequence(), base, 8, tmp_path)
    assert len(one) == len(two) == 6


@pytest.mark.slow
def test_stored_distributions_of_an_uneven_last_batch(base, tmp_path):
    teacher = make_teacher(tmp_path / "teacher")
    samples = [sample(n) for n in range(9)]
    logprobs = {one.sample_id: stored(teacher, one, 8) for one in samples}
    one, two = both(Logits(), base, 9, tmp_path, logprobs)
    assert two == pytest.approx(one, rel=2e-3)


@pytest.mark.parametrize(
    ("rows", "accumulation"), [pytest.param(9, 1, marks=pytest.mark.slow), (11, 2)]
)
def test_pairs_of_an_uneven_last_batch(base, tmp_path, rows, accumulation):
    preference = Preference(max_new_tokens=8, beta=0.3, sft=0.2)
    one, two = both(preference, base, rows, tmp_path, gradient_accumulation=accumulation)
    assert two == pytest.approx(one, rel=2e-3, abs=1e-4)


def test_shares_are_the_batch_and_whoever_has_no_row_gets_one_to_stay_in_step():
    def shares(rows, processes):
        each = [list(Shares(range(rows), 6, mine, processes)) for mine in range(processes)]
        return list(zip(*each, strict=True))

    for rows in (12, 10, 7, 1):
        for processes in (2, 3):
            for number, batch in enumerate(shares(rows, processes)):
                real = sorted(row for share in batch for row in share if row >= 0)
                assert real == list(range(6 * number, min(6 * number + 6, rows)))
                assert all(share for share in batch)
    assert shares(7, 3)[1] == ([6], [~6], [~6])
