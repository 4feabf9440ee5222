"""Only whole checkpoints are gone on from, whatever a kill left."""

from __future__ import annotations

import pytest

from train.loop.checkpoints import last_step, prepare_folder


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
