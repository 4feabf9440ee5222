import pytest

from warehouse.text.finish_reasons import is_cut, is_incomplete, is_known, read_finish_reason


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("stop", "stop"), ("EOS_TOKEN", "stop"), ("end_turn", "stop"), (None, "stop"), ("", "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("FinishReason.MAX_TOKENS", "length"), ("FINISH_REASON_MAX_TOKENS", "length"),
        ("max-output tokens", "length"), ({"type": "length"}, "length"),
        ("content_filter: HATE", "content_filter"), ("SAFETY", "content_filter"),
        ("refusal", "content_filter"), ("tool_calls", "tool_calls"), ("error", "error"),
        ("abort", "aborted"), ("CANCELLED", "aborted"), ("FinishReason.TIMEOUT", "aborted"),
        ("aborted", "aborted"), ("timed out", "aborted"),
    ],
)  # fmt: skip
def test_every_spelling_has_one_meaning(reason, meaning):
    assert read_finish_reason(reason) == meaning
    assert is_known(read_finish_reason(reason))
    assert is_cut(meaning) == (meaning == "length")
    assert is_incomplete(meaning) == (meaning in ("length", "aborted"))


@pytest.mark.parametrize("reason", ["sunspots", 7, [1], "x" * 10_000])
def test_an_unknown_reason_is_kept_in_short(reason):
    read = read_finish_reason(reason)
    assert read and len(read) <= 80 and not is_known(read)
    assert read_finish_reason(read) == read
