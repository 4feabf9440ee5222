"""Before a teacher is paid: base, template, context, layers, bounds and sampling are checked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from distill.plan.base_check import TokenCounter, check_base
from distill.plan.plan import load_plan
from distill.plan.preflight import check_sampling
from flows.cli import app
from train.conformance import CHAT_TEMPLATE
from train.model import base_model
from train.model.chat_template import ChatTemplate
from warehouse.catalog import build
from warehouse.errors import AssetError, ModelError, PlanError

CHATML = CHAT_TEMPLATE
TURNS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
)
DEAF = (
    "{% for m in messages if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKS = TURNS + "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
THINKS_IN_TRAINING = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}<think>\n\n</think>\n"
    "{% endif %}{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
EMPTY_THOUGHT = THINKS.replace("<think>\n", "<think>\n\n</think>\n").replace(
    "{{ m['content'] }}", "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n{% endif %}{{ m['content'] }}"
)  # fmt: skip
LAYERS = ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj", "model.norm")  # fmt: skip
SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]}  # fmt: skip


def make_base(folder, template=CHATML, layers=LAYERS, **config):
    folder.mkdir()
    weights = {f"{name}.weight": np.zeros((2, 2), np.float32) for name in layers}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 4096, **config}))
    tokenizer = {"chat_template": template, "eos_token": {"content": "</s>"}, "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def make_plan(folder, rows=({"prompt": "q"},), train="", more="", base="base"):
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plan.toml").write_text(
        'name = "x"\n[teacher]\nuse = "scripted"\n[[datagen.recipe]]\nuse = "imitation"\n'
        f'prompts = "prompts.jsonl"\n[train]\nbase = "{base}"\n{train}\n{more}'
    )
    return load_plan(folder / "plan.toml")


def check(plan, **options):
    return check_base(plan, plan.datagen.recipe[0].ask_all(plan.folder), **options)


def test_a_base_that_fits_is_passed_over_in_silence(tmp_path):
    make_base(tmp_path / "base")
    assert check(make_plan(tmp_path, [{"prompt": "q"}, SYSTEM])) == []


def test_the_template_is_rendered_as_transformers_does(tmp_path):
    """The tokenizer's own way is what training uses."""
    from tests.support.tiny import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    template = ChatTemplate.in_folder(tmp_path)
    chat = [*SYSTEM["messages"], {"role": "assistant", "content": " a "}]
    for generation in (True, False):
        own = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generation)
        assert template.render(chat, generation) == own


def test_a_template_without_a_system_role(tmp_path):
    make_base(tmp_path / "base", NO_SYSTEM)
    assert check(make_plan(tmp_path)) == []
    with pytest.raises(ModelError, match="takes no system message .*, and 1 of 2 prompts have one"):
        check(make_plan(tmp_path, [{"prompt": "q"}, SYSTEM]))


def test_a_template_that_leaves_the_system_message_out(tmp_path):
    make_base(tmp_path / "base", DEAF)
    (note,) = check(make_plan(tmp_path, [{"prompt": "q"}, SYSTEM]))
    assert "leaves out the system message, which 1 of 2 prompts have" in note


def test_a_template_that_opens_a_think_block(tmp_path):
    make_base(tmp_path / "base", THINKS_IN_TRAINING)
    make_base(tmp_path / "other", THINKS)
    with pytest.raises(ModelError, match="opens a think block"):
        check(make_plan(tmp_path, base="other"))
    (tmp_path / "base" / "chat_template.jinja").write_text(
        THINKS_IN_TRAINING.replace("<think>\n\n</think>\n", "<think>\n")
    )
    (note,) = check(make_plan(tmp_path))
    assert "opens a think block before each answer" in note


def test_a_think_block_that_is_closed_is_no_fault(tmp_path):
    make_base(tmp_path / "base", EMPTY_THOUGHT)
    assert check(make_plan(tmp_path)) == []


TOOLS = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    + TURNS.replace("{{ m['content'] }}", "{{ m['content'] }}{{ (m.tool_calls or []) | tojson }}")
    + "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(("template", "told"), [(CHATML, ["leaves out the tools"]), (TOOLS, [])])
def test_a_template_without_tools_is_told_where_a_recipe_makes_them(tmp_path, template, told):
    make_base(tmp_path / "base", template)
    plan = make_plan(tmp_path)
    assert check(plan) == []
    tools = build(
        "recipe", {"use": "tools", "tools": [{"type": "function", "function": {"name": "a"}}]}
    )
    plan = plan.model_copy(update={"datagen": plan.datagen.model_copy(update={"recipe": [tools]})})
    notes = check_base(plan, [])
    assert [
        ("leaves out the tools, so what recipe 'tools' makes cannot be trained on" in n)
        for n in notes
    ] == [True] * len(told)


def test_a_base_without_a_template(tmp_path):
    make_base(tmp_path / "base", None)
    with pytest.raises(AssetError, match="has no chat template"):
        check(make_plan(tmp_path))


@pytest.mark.parametrize(
    ("targets", "config", "why"),
    [
        ("q_proj, embed_tokens", {}, "'embed_tokens', the embeddings .* tied"),
        ("q_proj,lm_head", {"tie_word_embeddings": True}, "'lm_head', the output layer .* tied"),
        ("q_porj", {}, "called 'q_porj'; did you mean 'q_proj'"),
    ],
)
def test_targets_that_a_tuner_may_not_have(tmp_path, targets, config, why):
    make_base(tmp_path / "base", **config)
    plan = make_plan(tmp_path, train=f'tuner = {{ use = "lora", targets = "{targets}" }}')
    with pytest.raises(ModelError, match=why) as caught:
        check(plan)
    assert "q_proj, up_proj" in str(caught.value)


def test_targets_that_are_layers(tmp_path):
    make_base(tmp_path / "base", layers=(*LAYERS, "lm_head"))
    for targets in ("all-linear", "q_proj,up_proj", "self_attn.q_proj", "embed_tokens"):
        tuner = f'tuner = {{ use = "lora", targets = "{targets}" }}'
        assert check(make_plan(tmp_path, train=tuner)) == []


def test_a_context_that_is_too_short(tmp_path):
    make_base(tmp_path / "base", max_position_embeddings=128)
    sampling = "[datagen.sampling]\nmax_tokens = 16"
    assert check(make_plan(tmp_path, more=sampling)) == []
    long = {"prompt": "word " * 80}
    (note,) = check(make_plan(tmp_path, [{"prompt": "q"}, long], more=sampling))
    assert (
        "holds 128 tokens, and 1 of 2 prompts need more with evaluate.max_new_tokens = 64" in note
    )
    with pytest.raises(ModelError, match="2 of 2 prompts|1 of 1 prompt"):
        check(make_plan(tmp_path, [long], more=sampling))
    (note,) = check(make_plan(tmp_path, more="[datagen.sampling]\nmax_tokens = 500"))
    assert "holds 128 tokens" in note
    assert "with a reply of datagen.sampling.max_tokens = 500" in note


def test_rows_over_max_length_are_counted(tmp_path):
    make_base(tmp_path / "base")
    rows = [{"prompt": "q"}, {"prompt": "word " * 80}, {"prompt": "x" * 1_000_000}]
    make_plan(tmp_path, rows, train="max_length = 64", more="[datagen.sampling]\nmax_tokens = 16")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "plan.toml")])
    assert "3 rows, 0 with reference" in result.stdout
    assert "2 over max_length = 64 tokens (bytes / 4" in result.stdout


def test_tokens_are_counted_with_the_bases_tokenizer(tmp_path):
    from tests.support.tiny import make_tokenizer

    make_tokenizer().save_pretrained(tmp_path)
    counter = TokenCounter.in_folder(tmp_path)
    assert counter.how == ""
    assert counter.count([{"role": "user", "content": "otter heron"}]) != TokenCounter().count(
        [{"role": "user", "content": "otter heron"}]
    )


@pytest.mark.parametrize("base", ["./no/such", "a b", "owner/name/more"])
def test_a_base_that_can_be_nothing(tmp_path, base):
    with pytest.raises(AssetError, match="no base model .*allowed: an asset"):
        check(make_plan(tmp_path, base=base))


def test_an_empty_folder_is_no_base(tmp_path):
    (tmp_path / "base").mkdir()
    with pytest.raises(AssetError, match="holds no model; it needs config.json"):
        check(make_plan(tmp_path))


def test_the_hub_is_asked_for_a_base_that_is_not_here(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    answers: list[Exception | None] = [None, ConnectionError("no route")]

    def answer(*_, **__):
        if (error := answers.pop(0)) is not None:
            raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    plan = make_plan(tmp_path, base="owner/no-such-model")
    assert check(plan, ask_hub=True) == []
    (note,) = check(plan, ask_hub=True)
    assert "the hub does not answer (ConnectionError)" in note
    assert check(plan) == []  # nobody is asked
    gone = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    monkeypatch.setattr(base_model, "HUB_PATIENCE_S", 0.1)
    answers.append(gone)
    with pytest.raises(AssetError, match="the hub has no such model"):
        check(plan, ask_hub=True)


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        ("grounded_min = 95", "grounded_min = 95 would keep nothing: .* from 0 to 1"),
        ("grounded_max = 50", "grounded_max = 50 would drop nothing"),
        ("grounded_max = -0.1", "would keep nothing"),
        ("grounded.worst_min = 1.5", "grounded.worst_min = 1.5 would keep nothing"),
        ("recipe.imitation.grounded_min = 2", "recipe.imitation.grounded_min = 2"),
        ("grounded_min = 0.9, grounded_max = 0.5", "is below grounded_min = 0.9"),
        ("pii_max = -1", "would keep nothing: scores of 'pii' are from 0 to inf"),
    ],
)
def test_bounds_that_no_score_can_meet(tmp_path, gate, why):
    quality = f'[quality]\nscorers = ["grounded", "pii"]\ngate = {{ {gate} }}'
    with pytest.raises(PlanError, match=why):
        make_plan(tmp_path, more=quality).require("generate")


def test_bounds_at_the_ends_of_a_scale_are_bounds(tmp_path):
    quality = '[quality]\nscorers = ["grounded", "style"]\ngate = { grounded_min = 1, grounded_max = 1, style_max = 300 }'
    make_plan(tmp_path, more=quality).require("generate")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("temperature = -0.1", "0 or more"),
        ("temperature = nan", "0 or more"),
        ("temperature = inf", "0 or more"),
        ("top_p = -0.1", "from 0 to 1"),
        ("top_p = 95.0", "from 0 to 1"),
        ("max_tokens = 0", "1 or more"),
        ("top_logprobs = -1", "0 or more"),
    ],
)
def test_sampling_that_every_api_refuses(tmp_path, option, why):
    with pytest.raises(PlanError) as caught:
        make_plan(tmp_path, more=f"[datagen.sampling]\n{option}")
    assert why in str(caught.value)


def test_sampling_that_one_api_refuses(tmp_path):
    def plan_for(model, url, temperature, more=""):
        table = f'{{ use = "openai_chat", model = "{model}", base_url = "{url}"{more} }}'
        overrides = [f"teacher={table}", f"datagen.sampling.temperature={temperature}"]
        return load_plan(tmp_path / "plan.toml", overrides)

    make_plan(tmp_path)
    with pytest.raises(PlanError, match="takes 0 to 1"):
        check_sampling(plan_for("m", "https://api.anthropic.com/v1", 1.5))
    openai = "https://api.openai.com/v1"
    with pytest.raises(PlanError, match="takes 0 to 2"):
        check_sampling(plan_for("gpt-4o", openai, 2.5))
    (note,) = check_sampling(plan_for("m", "http://127.0.0.1:8000/v1", 2.5))  # vLLM takes it
    assert note == "datagen.sampling.temperature = 2.5: many servers take 0 to 2"
    (note,) = check_sampling(plan_for("o3-mini", openai, 0.7))
    assert 'omit = ["temperature", "top_p"]' in note
    for model, temperature, more in (
        ("gpt-4o", 0.7, ""),
        ("o3-mini", 1.0, ""),
        ("o3-mini", 0.7, ', omit = ["temperature", "top_p"]'),
    ):
        assert check_sampling(plan_for(model, openai, temperature, more)) == []


def test_check_and_run_tell_of_an_unread_column(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who?", "answer": "Bob", "id": 1}\n')
    (tmp_path / "plan.toml").write_text(
        'name = "x"\nteacher = { use = "scripted", default = "Bob" }\n[[datagen.recipe]]\nuse = "imitation"\n'
        'prompts = "prompts.jsonl"\n'
    )
    told = "nobody reads the column 'answer'; did you mean 'reference'?"
    for verb in ("check", "generate"):
        result = CliRunner().invoke(app, [verb, str(tmp_path / "plan.toml")])
        assert result.exit_code == 0, result.output
        assert " ".join(result.output.split()).count(told) == 1
