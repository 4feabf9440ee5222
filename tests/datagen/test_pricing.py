import subprocess
import sys
import tomllib
from datetime import date
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from datagen.spending.estimate import Estimate, Experience, estimate
from datagen.spending.pricing import (
    PER_TEMPLATE_MOST,
    Price,
    Usage,
    as_of,
    batch_factor_of,
    count_prompt_tokens,
    load_tokenizer,
    most_prompt_tokens,
    price_of,
)
from warehouse.errors import AssetError

OPENAI = "https://api.openai.com/v1"
BOOK = tomllib.loads(
    resources.files("datagen.spending").joinpath("pricing.toml").read_text("utf-8")
)
FULL = Price(2.0, 10.0, cached_input=0.5, cache_write=3.0, long_from=5_000, long_input=2.0, long_output=1.5)  # fmt: skip
TOKENS = st.integers(0, 20_000)


def said(content, role="user"):
    return [{"role": role, "content": content}]


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE that knows little, so that rare text falls apart into its bytes."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["the cat sat on the mat and the dog saw it"] * 20, trainer)
    return made


def rendered(messages):
    """A chat template of the common kind, with a system text of its own."""
    system = "<|im_start|>system\nYou are helpful.<|im_end|>\n"
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return system + "".join(turns) + "<|im_start|>assistant\n"


# prices


def test_cost_of_a_reply():
    price = Price(2.0, 10.0, cached_input=0.5)
    assert price.cost(Usage(1_000_000, 100_000)) == 3.0
    assert price.cost(Usage(1_000_000, 0, 400_000)) == pytest.approx(1.2 + 0.2)
    assert Price(2.0, 10.0).cost(Usage(1_000_000, 0, 400_000)) == 2.0
    assert price.cost(Usage()) == 0.0 == Price(0.0, 0.0).most(10**6, 10**6)
    assert price.cost(Usage(10, 0, 99)) == pytest.approx(10 * 0.5 / 1e6)


def test_writing_to_the_cache_is_paid_for_and_the_worst_where_it_is_not_told():
    price = Price(2.0, 10.0, cached_input=0.5, cache_write=3.0)
    assert price.cost(Usage(2_000, 0, 1_000, 600)) == pytest.approx((800 + 1_800 + 500) / 1e6)
    assert price.cost(Usage(2_000, 0, 0, None)) == pytest.approx(0.006)
    assert price.cost(Usage(2_000, 0, 0, 0)) == pytest.approx(0.004)
    assert price.cost(Usage(1_000)) == pytest.approx(0.002)  # too short to be cached
    assert Price(2.0, 10.0).cost(Usage(2_000, 0, 0, 600)) == pytest.approx(0.004)


def test_a_long_prompt_is_billed_whole_by_its_factors():
    price = Price(2.0, 10.0, long_from=100, long_input=2.0, long_output=1.5)
    assert price.most(100, 10) == pytest.approx(300e-6)
    assert price.most(101, 10) == pytest.approx((404 + 150) / 1e6)


def test_scaled_halves_every_price():
    half = FULL.scaled(0.5)
    assert (half.input, half.output, half.cached_input, half.cache_write) == (1.0, 5.0, 0.25, 1.5)
    assert half.most(9_000, 50) == pytest.approx(FULL.most(9_000, 50) / 2)
    assert Price(1.0, 1.0).scaled(0.5) == Price(0.5, 0.5)


@given(TOKENS, TOKENS, TOKENS, TOKENS, st.none() | TOKENS)
def test_most_is_never_below_the_cost_and_never_falls(prompt, more, completion, cached, written):
    assert FULL.most(prompt, completion) <= FULL.most(prompt + more, completion + more)
    cost = FULL.cost(Usage(prompt, completion, cached, written))
    assert 0 <= cost <= FULL.most(prompt + more, completion + more) * (1 + 1e-12)


# the book of prices


def test_known_prices_by_host_and_model():
    assert price_of("gpt-4o-mini", OPENAI) == Price(0.15, 0.6, cached_input=0.075)
    assert price_of("gpt-6-luna", "https://API.openai.com:443/v1/") == Price(
        0.1, 0.5, 0.01, 0.125, 272_000, 2, 1.5
    )
    assert batch_factor_of("gpt-4o-mini", OPENAI) == 0.5
    assert batch_factor_of("deepseek-v4-pro", "https://api.deepseek.com") is None
    assert price_of("gpt-4o-mini", OPENAI).as_of == as_of()


@pytest.mark.parametrize(
    ("snapshot", "base", "host"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini", OPENAI),
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini", OPENAI),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5", "https://api.anthropic.com/v1"),
    ],
)
def test_a_dated_snapshot_costs_what_its_base_costs(snapshot, base, host):
    assert price_of(snapshot, host) == price_of(base, host) is not None
    assert batch_factor_of(snapshot, host) == batch_factor_of(base, host)


def test_a_snapshot_with_its_own_line_goes_before_its_base():
    assert price_of("gpt-4o-2024-05-13", OPENAI).input == 5
    assert price_of("gpt-4o-2024-11-20", OPENAI).input == 2.5


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-4o-minim", OPENAI),
        ("gpt-4o-mini-7", OPENAI),
        ("ft:gpt-4o-mini-2024-07-18:me::abc", OPENAI),
        ("gpt-4o-mini", "http://localhost:8000/v1"),
        ("gpt-4o-mini", "https://api.openai.com.example.org/v1"),
        ("gpt-4o-mini", "https://eu.api.openai.com/v1"),
        ("", ""),
    ],
)
def test_what_is_not_in_the_book_has_no_price(model, url):
    assert price_of(model, url) is None and batch_factor_of(model, url) is None


def test_the_book_is_well_formed():
    names = [(entry["host"], entry["model"]) for entry in BOOK["model"]]
    assert len(set(names)) == len(names) >= 20
    assert date.fromisoformat(BOOK["as_of"]) == as_of() >= date(2026, 1, 1)
    for entry in BOOK["model"]:
        assert set(entry) <= {"host", "model", "input", "output", "cached_input", "cache_write", "long", "batch"}  # fmt: skip
        assert entry["host"] == entry["host"].lower() and "/" not in entry["host"]
        assert 0 < entry["input"] <= entry["output"] < 1_000
        assert 0 < entry.get("cached_input", entry["input"]) <= entry["input"]
        assert entry["input"] <= entry.get("cache_write", entry["input"]) <= 2 * entry["input"]
        assert 0 < entry.get("batch", 1) <= 1
        start, *factors = entry.get("long", [10**5, 1, 1])
        assert start >= 10**5 and len(factors) == 2 and min(factors) >= 1
        price = price_of(entry["model"], f"https://{entry['host']}/v1")
        assert price.most(10**6, 0) >= entry["input"]


# counting tokens

TEXTS = [
    "", " ", "\n" * 50, "the cat sat on the mat", "naïve café", "漢字とかな交じり文", "👩‍👩‍👧‍👦🏳️‍🌈" * 9,
    "\x00\x07\x1b", "क़ख़ग़", "\U0001d15e" * 20, "<|im_start|><|im_end|>", "مرحبا بالعالم", "½ﬀ№",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_the_bound_holds_for_a_rendered_chat(tokenizer, text):
    for messages in (said(text), said("be brief", "system") + said(text) + said(text, "assistant")):
        real = len(tokenizer.encode(rendered(messages)).ids)
        assert real <= most_prompt_tokens(messages)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_the_bound_holds_for_any_text(tokenizer, texts):
    messages = [message for text in texts for message in said(text)]
    assert len(tokenizer.encode(rendered(messages)).ids) <= most_prompt_tokens(messages)
    counted = count_prompt_tokens(messages, tokenizer)
    assert 0 < counted <= most_prompt_tokens(messages)


@given(st.text(), st.text())
def test_the_bound_grows_with_the_prompt(text, more):
    assert most_prompt_tokens(said(text)) <= most_prompt_tokens(said(text) + said(more))


def test_the_bound_counts_bytes_messages_and_template():
    assert most_prompt_tokens([]) == PER_TEMPLATE_MOST
    assert most_prompt_tokens(said("abc")) == 3 + 8 + PER_TEMPLATE_MOST
    assert most_prompt_tokens(said("漢")) == 3 + 8 + PER_TEMPLATE_MOST
    assert (
        most_prompt_tokens(said("क़")) == 6 + 8 + PER_TEMPLATE_MOST
    )  # some servers compose text in this way
    assert most_prompt_tokens(said("\ud800")) == 3 + 8 + PER_TEMPLATE_MOST
    assert most_prompt_tokens(said(None)) == most_prompt_tokens(said("")) == 8 + PER_TEMPLATE_MOST
    assert most_prompt_tokens([]) + len('{"type": "json_object"}') == most_prompt_tokens(
        [], {"type": "json_object"}
    )


def test_parts_and_further_fields_count():
    text = {"type": "text", "text": "abc"}
    other = {"type": "input_audio", "input_audio": {"data": "x" * 99}}
    assert most_prompt_tokens(said([text, text])) == 6 + 8 + PER_TEMPLATE_MOST
    assert most_prompt_tokens(said([text, other])) > 3 + 99 + 8 + PER_TEMPLATE_MOST
    assert most_prompt_tokens([{**said("abc")[0], "name": "Ann"}]) > most_prompt_tokens(said("abc"))


def test_counting_by_tokenizer_or_by_bytes(tokenizer):
    text = "the cat sat on the mat"
    ids = tokenizer.encode(text).ids
    assert count_prompt_tokens(said(text), tokenizer) == len(ids) + 4
    assert count_prompt_tokens(said(text), None) == 6 + 4
    assert count_prompt_tokens(said("") + said("漢字"), None) == 2 + 8


def test_a_tokenizer_is_found_in_its_folder_and_does_not_truncate(tokenizer, tmp_path):
    cut = Tokenizer.from_str(tokenizer.to_str())
    cut.enable_truncation(5)
    cut.enable_padding(length=5)
    cut.save(str(tmp_path / "tokenizer.json"))
    for where in (tmp_path, str(tmp_path / "tokenizer.json")):
        loaded = load_tokenizer(where)
        assert len(loaded.encode("the cat " * 50).ids) > 50
        assert len(loaded.encode("").ids) == 0


def test_what_is_no_tokenizer_is_told(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    for where in (tmp_path, tmp_path / "bad.json", tmp_path / "no" / "such"):
        with pytest.raises(AssetError, match=r"tokenizer\.json or its folder"):
            load_tokenizer(where)


def test_neither_torch_nor_transformers_nor_tokenizers_is_imported():
    code = (
        "import sys, datagen.spending.estimate, datagen.spending.pricing as p;"
        "p.price_of('gpt-4o', 'https://api.openai.com/v1');"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# experience and estimate


def learned(calls=64, reply=100, latency_s=2.0):
    return Experience.learn([50] * calls, [60] * calls, [reply] * calls, [latency_s] * calls)


def estimated(**changed) -> Estimate:
    given_ = {
        "prompts": 1_000,
        "paid": 200,
        "counted": [100] * 800,
        "max_tokens": 200,
        "price": Price(1.0, 4.0),
        "priced_as": "some-model",
        "in_flight": 32,
        "experience": None,
        "with_tokenizer": False,
    }
    return estimate(**{**given_, **changed})


def test_experience_of_calls():
    found = Experience.learn([10, 10, 20], [12, 12, 24], [1, 2, 6], [1.0, 0.0, 3.0])
    assert found.calls == 3 and found.prompt_ratio == pytest.approx(1.2)
    assert (found.completion_p50, found.completion_mean, found.latency_s) == (2, 3, 2.0)
    assert found.completion_p10 == pytest.approx(1.2) and found.completion_p90 == pytest.approx(5.2)
    assert Experience.learn([], [], [], []) is None
    assert Experience.learn([10], [0], [0], [1.0]) is None  # told no usage
    assert Experience.learn([10], [12], [5], [0.0]).latency_s == 0.0


def test_estimate_without_experience():
    found = estimated()
    assert (found.calls, found.prompt_tokens) == (800, 80_000)
    assert (found.completion_low, found.completion_high) == (8_000, 160_000)
    assert found.usd_low == pytest.approx(0.08 + 0.032)
    assert found.usd_high == pytest.approx(0.08 + 0.64)
    assert found.seconds_low == pytest.approx(800 * (0.3 + 10 / 80) / 32)
    assert found.seconds_high == pytest.approx(800 * (1 + 200 / 20) / 32)
    assert estimated(experience=learned(calls=7)) == found  # too few to teach anything


def test_estimate_with_experience():
    found = estimated(experience=learned())
    assert found.prompt_tokens == 96_000
    assert (found.completion_low, found.completion_high) == (800 * 90, 800 * 110)
    assert (found.seconds_low, found.seconds_high) == pytest.approx((40.0, 80.0))
    wide = Experience.learn([50] * 8, [60] * 8, [10, 400] * 4, [1.0] * 8)
    assert estimated(experience=wide).completion_low == 800
    assert estimated(experience=wide).completion_high == 800 * 200  # never above max_tokens


def test_a_large_price_step_is_counted_for_each_call():
    price = Price(1.0, 1.0, long_from=1_000, long_input=2.0)
    found = estimated(counted=[900, 1_100], max_tokens=[20, 10], price=price)
    assert found.usd_low == pytest.approx((900 + 1 + 2_200 + 1) / 1e6)
    assert found.usd_high == pytest.approx((900 + 20 + 2_200 + 10) / 1e6)


def test_rates_bound_the_time():
    assert estimated(requests_per_minute=10.0).seconds_low == pytest.approx(800 / 10 * 60)
    assert estimated(tokens_per_minute=1_000.0).seconds_low == pytest.approx(88 * 60)
    one = estimated(counted=[10], experience=learned())
    assert one.seconds_low == pytest.approx(1.6)  # one call is no faster for 32 places


@given(
    st.lists(st.integers(1, 3_000), max_size=20),
    st.integers(1, 500),
    st.integers(1, 64),
    st.none() | st.lists(st.tuples(st.integers(1, 500), st.integers(0, 900)), min_size=1, max_size=30),
)  # fmt: skip
def test_low_is_never_above_high_and_more_calls_never_take_less(counted, limit, at_once, seen):
    known = None
    if seen:
        real, replies = zip(*seen, strict=True)
        known = Experience.learn([40] * len(seen), real, replies, [0.5] * len(seen))
    options = {"max_tokens": limit, "in_flight": at_once, "experience": known, "price": FULL}
    found, more = estimated(counted=counted, **options), estimated(counted=[*counted, 9], **options)
    assert len(counted) <= found.completion_low <= found.completion_high <= limit * len(counted)
    assert 0 <= found.usd_low <= found.usd_high and found.seconds_low <= found.seconds_high
    assert more.prompt_tokens >= found.prompt_tokens
    if known is None:
        assert more.usd_high >= found.usd_high and more.completion_low > found.completion_low


def test_lines_without_experience():
    assert estimated().lines() == [
        "1,000 prompts, 200 already paid for, 800 to ask",
        "tokens in 80 k, out 8-160 k (bytes / 4, replies of 5% to 100% of max_tokens)",
        "cost   0.11-0.72 USD (some-model, price given)",
        "time   0.2-4.6 min at 32 in flight, speed assumed",
    ]


def test_lines_with_experience_and_a_list_price():
    price = price_of("gpt-4o-mini", OPENAI)
    found = estimated(
        prompts=10_000, paid=3_200, counted=[150] * 6_800, price=price, priced_as="gpt-4o-mini",
        experience=learned(), with_tokenizer=True,
    )  # fmt: skip
    assert found.lines() == [
        "10,000 prompts, 3,200 already paid for, 6,800 to ask",
        "tokens in 1.2 M, out 612-748 k (tokenizer, corrected by 64 replies of mostly 100)",
        f"cost   0.55-0.63 USD (gpt-4o-mini, prices of {as_of()})",
        "time   5.7-11 min at 32 in flight",
    ]


def test_lines_of_an_unknown_and_of_no_price():
    assert estimated(price=None).lines()[2] == (
        "cost   unknown: no price for model 'some-model'; give input_usd_per_million and "
        "output_usd_per_million in [teacher]"
    )
    assert estimated(price=Price(0, 0)).lines()[2] == "cost   0 USD (some-model, price given)"
    cheap = estimated(counted=[100], price=Price(1.0, 4.0)).lines()[2]
    assert cheap == "cost   0.000140-0.000900 USD (some-model, price given)"


def test_nothing_to_ask_is_one_line():
    found = estimated(paid=1_000, counted=[])
    assert found.lines() == ["1,000 prompts, 1,000 already paid for, 0 to ask"]
    assert (found.usd_low, found.usd_high, found.seconds_high) == (0, 0, 0)
