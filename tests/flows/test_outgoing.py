"""`distill check` names what a plan sends, reads and runs before it does."""

from __future__ import annotations

from distill.plan.plan import load_plan
from flows.stages.outgoing import outgoing_lines
from tests.support.plans import write_plan

TEACHER = """
[teacher]
use = "openai_chat"
model = "big"
base_url = "https://api.example/v1"
more_urls = ["https://two.example/v1"]
api_key_env = "MY_KEY"
headers = { X-Team = { env = "TEAM_TOKEN" } }
"""
MORE = """
[evaluate.endpoints]
small = { use = "openai_chat", model = "small", base_url = "http://127.0.0.1:9/v1" }
[quality.judge]
use = "openai_chat"
model = "strict"
"""
SCORER = '''
from dataclasses import dataclass

from quality.scoring.scorer import Scorer


@dataclass
class Mine(Scorer):
    """Scores nothing."""

    version = "1"

    def score_batch(self, samples):
        return []
'''


def test_hosts_models_counts_files_variables_and_code_are_named(tmp_path):
    plan = write_plan(tmp_path, TEACHER, prompts=7, held_out=5)
    (tmp_path / "mine.py").write_text(SCORER)
    text = plan.read_text().replace('{ use = "grounded" }', '"grounded", "judge", "./mine.py"')
    text = text.replace("[evaluate]", '[evaluate]\ncontestants = ["teacher", "student", "small"]')
    plan.write_text(text + MORE)
    lines = outgoing_lines(load_plan(plan))
    assert lines[:2] == [
        f"runs      {tmp_path / 'mine.py'} for mine",
        "reads     prompts.jsonl, held_out.jsonl, $MY_KEY, $TEAM_TOKEN, $OPENAI_API_KEY",
    ]
    assert lines[2:] == [
        "sends     7 prompts and 5 held-out items to https://api.example/v1: the teacher (big)",
        "sends     7 prompts and 5 held-out items to https://two.example/v1: the teacher (big)",
        "sends     7 prompts with their replies, for judge, to https://api.openai.com/v1: "
        "the judge (strict)",
        "sends     5 held-out items to http://127.0.0.1:9/v1: endpoint 'small' (small)",
    ]


def test_a_teacher_on_this_machine_and_a_base_of_a_hub(tmp_path):
    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=7, held_out=5)
    lines = outgoing_lines(load_plan(plan, ["train.base=someone/model"]))
    assert lines[1:] == [
        "sends     7 prompts and 5 held-out items to no other machine: the teacher, scripted",
        "sends     the name of base 'someone/model' to its hub, to download it",
    ]


def test_a_data_set_of_the_hub_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **o: iter([{"prompt": "one?"}]))
    text = write_plan(tmp_path, TEACHER, prompts=7, held_out=5).read_text()
    (tmp_path / "plan.toml").write_text(text.replace('"prompts.jsonl"', '"hf:org/name@v1"'))
    lines = outgoing_lines(load_plan(tmp_path / "plan.toml"))
    assert "sends     the name of data set 'hf:org/name@v1' to its hub, to stream it" in lines
