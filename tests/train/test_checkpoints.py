"""Only whole checkpoints are gone on from, whatever a kill left."""

from __future__ import annotations

import resource

import pytest

from train.loop.checkpoints import Unfinished, last_step, prepare_folder, saving


@pytest.mark.parametrize("left", [None, "", '{"global_step": 1', "\ufffd"])
def test_a_checkpoint_whose_last_file_is_not_whole_is_none(tmp_path, left):
    out = tmp_path / "student"
    work = tmp_path / "student.work"
    prepare_folder(work, "made of this")
    for step, state in ((5, '{"global_step": 5}'), (10, left)):
        (work / f"checkpoint-{step}").mkdir()
        if state is not None:
            (work / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_step(out) == 5
    prepare_folder(work, "made of this")
    assert [folder.name for folder in work.glob("checkpoint-*")] == ["checkpoint-5"]
    prepare_folder(work, "made of that")
    assert last_step(out) is None


@pytest.mark.parametrize("how", ["python", "safetensors", "torch"])
def test_a_full_disk_is_one_line_whoever_writes(tmp_path, how):
    import torch
    from safetensors.torch import save_file

    tensor = torch.zeros(100_000)
    writers = {
        "python": lambda: (tmp_path / "state.json").write_text("x" * 10_000),
        "safetensors": lambda: save_file({"a": tensor}, tmp_path / "a.safetensors"),
        "torch": lambda: torch.save(tensor, tmp_path / "optimizer.pt"),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(Unfinished, match=r"cannot be written .*; free disk space") as error,
            saving(tmp_path),
        ):
            writers[how]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)


def test_another_fault_while_saving_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="shapes differ"), saving(tmp_path):
        raise RuntimeError("shapes differ")
