"""Scorers with a model run in workers: loaded once in each, with the scores of one process."""

import pickle
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from distill.plan.plan import load_plan
from flows.engines import worker_model as models
from flows.engines.worker_model import worker_model
from flows.engines.workers import WorkerEngine
from flows.stages import curate as stage
from flows.stages.curate import curate
from flows.stages.generate import generate
from flows.stages.likelihood import BaseLikelihood
from flows.stages.score_shard import OtherModel, score_in_worker, sent_scorer
from quality.scoring.scorer import ScorerContext
from tests.bench.toxicity import make_checkpoint
from tests.support.plans import COLOURS, scripted, write_plan
from warehouse.catalog import build
from warehouse.db.store import Store
from warehouse.errors import AssetError
from warehouse.inputs import assets
from warehouse.records import Sample, Score

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "initializer_range": 0.3,
}  # fmt: skip
COUNTED = '''
"""Note each load of a model."""

import os
from dataclasses import dataclass
from functools import cached_property

from quality.scoring.scorer import Scorer, Verdict


@dataclass
class Counted(Scorer):
    """Characters, by a model that takes long to load."""

    version = "1"
    log: str = ""

    @property
    def model(self):
        return "characters"

    @cached_property
    def weight(self):
        with open(self.log, "a") as log:
            log.write(f"load {os.getpid()}\\n")
        return 2.0

    def score_batch(self, samples):
        weight = self.weight
        with open(self.log, "a") as log:
            log.write(f"shard {os.getpid()}\\n")
        for sample in samples:
            yield Verdict(weight * len(sample.completion))
'''
READS_PROMPTS = '''
"""How long the teacher's question was."""

from dataclasses import dataclass

from quality.scoring.scorer import Scorer, Verdict


@dataclass
class Asked(Scorer):
    """Messages of the prompt."""

    version = "1"
    reads_prompts = True

    @property
    def model(self):
        return "messages"

    def score_batch(self, samples):
        found = self.tools.prompt_messages([sample.prompt_id for sample in samples])
        for sample in samples:
            yield Verdict(float(len(found[sample.prompt_id])))
'''


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """A project with replies and no scores yet."""
    folder = tmp_path_factory.mktemp("models") / "p"
    plan = write_plan(folder, scripted(folder / "asked.log"))
    checkpoint = make_checkpoint(folder, COLOURS, ("toxic", "insult"), **SMALL)
    (folder / "counted.py").write_text(COUNTED)
    (folder / "asked.py").write_text(READS_PROMPTS)
    scorers = (
        f"scorers = [{{ use = 'toxicity', checkpoint = '{checkpoint.name}', checkpoint_config = '.', "
        f"sha256 = '{assets.file_sha256(checkpoint)}' }}, {{ use = 'perplexity' }}, "
        "{ use = './counted.py:Counted', log = 'LOG' }, { use = './asked.py:Asked' }, 'style']\n"
    )
    text = plan.read_text().replace('scorers = [{ use = "grounded" }]\n', scorers)
    text = text.replace("gate = { grounded_min = 1.0 }\n", "")
    text = text.replace(f'"{folder / "w.duckdb"}"', '"w.duckdb"')
    plan.write_text(text.replace(f'"{folder / "tiny"}"', '"tiny"'))
    generate(str(plan))
    return folder


def project(generated: Path, folder: Path) -> Path:
    """A copy of it; `counted` notes its loads in `loads.log` there."""
    shutil.copytree(generated, folder)
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("LOG", str(folder / "loads.log")))
    return plan


def scores_of(plan: Path) -> dict[tuple[str, str], Score]:
    scores = Store(plan.parent / "w.duckdb").read(Score)
    return {(score.scorer, score.sample_id): score for score in scores}


def require_equal_scores(ours: Path, theirs: Path, rel: float) -> None:
    """The same scores, values of a model to `rel`."""
    here, there = scores_of(ours), scores_of(theirs)
    assert len(here) == 24 * 5 and here.keys() == there.keys()
    for key, score in here.items():
        other = there[key]
        assert other.value == pytest.approx(score.value, rel=rel)
        if score.scorer == "counted":
            continue  # its option `log` is of its project
        labels = [dict((one.details or {}).get("labels", {})) for one in (score, other)]
        assert labels[1] == pytest.approx(labels[0], rel=rel)
        changing = {"value": None, "why": None, "details": None}
        assert replace(other, **changing) == replace(score, **changing)
    assert len({score.value for score in here.values() if score.scorer == "perplexity"}) > 5


@pytest.fixture(scope="module")
def alone(generated, tmp_path_factory) -> Path:
    """As one process scores it."""
    plan = project(generated, tmp_path_factory.mktemp("alone") / "p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "SCORED_AT_ONCE", 5)
        curate(str(plan))
    return plan


@pytest.mark.parametrize(
    "name",
    [
        "process",
        pytest.param("dask", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.slow),
    ],
)
def test_models_score_in_workers_what_they_score_in_one_process(
    name, generated, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 5)
    sent = []
    map_ = WorkerEngine.map

    def noting(self, task, shared, shards, finished=None):
        sent.append((task.__name__, len(shared) if isinstance(shared, list) else 0))
        return map_(self, task, shared, shards, finished)

    monkeypatch.setattr(WorkerEngine, "map", noting)
    monkeypatch.chdir(generated)  # workers have a working directory of their own
    plan = project(generated, tmp_path / "p")
    curate(str(plan), [f"run.engine={name}", "run.workers=2"])
    # Each model by itself; the teacher's messages are in the warehouse, so `asked` stays.
    assert sent[:4] == [("score_in_worker", 1)] * 4
    require_equal_scores(alone, plan, rel=1e-6)
    counts = Counter((plan.parent / "loads.log").read_text().splitlines())
    shards = {line.split()[1]: n for line, n in counts.items() if line.startswith("shard")}
    assert sum(shards.values()) == 5 and 1 <= len(shards) <= 2
    assert {line: n for line, n in counts.items() if line.startswith("load")} == {
        f"load {pid}": 1 for pid in shards
    }


def test_what_is_scored_together_moves_no_score_by_more_than_its_last_digits(
    generated, alone, tmp_path, monkeypatch
):
    """Padding moves the last bits of a logit; a perplexity of 1,648 moved by 0.002."""
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 7)
    plan = project(generated, tmp_path / "p")
    curate(str(plan))
    require_equal_scores(alone, plan, rel=1e-5)


def test_few_samples_are_scored_in_the_run_s_process(generated, tmp_path, monkeypatch):
    monkeypatch.setattr(WorkerEngine, "map", lambda *args: pytest.fail("workers were started"))
    monkeypatch.setattr(stage, "SCORED_AT_ONCE", 24)
    plan = project(generated, tmp_path / "p")
    curate(str(plan), ['quality.scorers=["perplexity", "style"]', "run.engine=process"])
    assert len(scores_of(plan)) == 48


def test_a_worker_with_another_model_is_refused(generated, tmp_path):
    plan = project(generated, tmp_path / "p")
    samples = Store(plan.parent / "w.duckdb").read(Sample)[:2]
    base = BaseLikelihood(load_plan(plan).training.base)
    tools = ScorerContext(likelihood=base, folder=plan.parent)
    sent = sent_scorer(build("scorer", "perplexity").with_tools(tools))
    assert len(score_in_worker([sent], samples).scores) == 2
    with pytest.raises(
        OtherModel, match="scorer 'perplexity' has the model 'tiny [0-9a-f]{16}' on"
    ):
        score_in_worker([replace(sent, model="tiny 0123456789abcdef")], samples)
    assert pickle.loads(pickle.dumps(sent)) == sent


def test_a_worker_has_one_model_in_memory_and_its_threads_take_turns(monkeypatch):
    monkeypatch.setattr(models, "_MODEL", {})
    made, inside, most = [], [], []

    def take(key):
        with worker_model(key, lambda: made.append(key) or [key]) as model:
            inside.append(key)
            most.append(len(inside))
            assert model == [key]
            inside.remove(key)

    for key in ("a", "a", "b", "a"):
        take(key)
    assert made == ["a", "b", "a"]
    threads = [threading.Thread(target=take, args=("c",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a", "b", "a", "c"] and max(most) == 1 and len(most) == 12
    assert list(models._MODEL) == ["c"]


def test_a_model_that_cannot_be_made_leaves_none(monkeypatch):
    monkeypatch.setattr(models, "_MODEL", {})

    def fail():
        raise AssetError("no such model")

    with pytest.raises(AssetError), worker_model("a", fail):
        pass
    with worker_model("a", lambda: 1) as model:
        assert model == 1
