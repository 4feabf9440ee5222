import math

import pytest

from distill.learning.stored_logprobs import Aligned, Aligner, figures_of, refuse_misaligned
from distill.learning.vocabulary import Vocabulary
from tests.support.teaching import make_stranger, model_of, row, sample, stored
from tests.support.tiny import make_tiny, make_tokenizer
from warehouse.errors import TrainingError


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return str(make_tiny(tmp_path_factory.mktemp("teacher") / "tiny", seed=1))


@pytest.fixture(scope="module")
def aligner(teacher):
    _, tokenizer = model_of(teacher)
    return Aligner(tokenizer, [tokenizer.eos_token_id])


def texts(tokens, top=()):
    """Stored log-probabilities of these tokens, all alike."""
    return {"tokens": tokens, "logprobs": [-0.5] * len(tokens), "top": [list(top)] * len(tokens)}


def pieces(text):
    tokenizer = make_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode([number]) for number in ids]


def test_every_token_of_the_answer_has_the_teachers_distribution(teacher, aligner):
    import torch

    one = sample(1)
    model, tokenizer = model_of(teacher)
    aligned = aligner.align(row(one), stored(teacher, one, k=8))
    assert aligned.missing == 0
    assert aligned.answer == len(pieces(one.completion))
    assert aligned.at[aligned.answer :] == [None, None]  # <|im_end|> and the line's end
    ids = tokenizer(one.completion, add_special_tokens=False)["input_ids"]
    assert [next(iter(found)) for found in aligned.at[: aligned.answer]] == ids
    asked = tokenizer.apply_chat_template(one.messages, tokenize=False, add_generation_prompt=True)
    start = tokenizer(asked, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        scores = model(start).logits[0, -1].log_softmax(-1)
    for number, logprob in aligned.at[0].items():
        assert logprob == pytest.approx(float(scores[number]), abs=1e-4)


def test_a_server_that_gives_numbers_is_understood_with_the_end_of_the_answer(teacher, aligner):
    one = sample(2)
    aligned = aligner.align(row(one), stored(teacher, one, k=384, by_number=True))
    assert None not in aligned.at
    vocabulary = len(model_of(teacher)[1])
    assert all(len(found) == vocabulary for found in aligned.at)


def test_an_empty_text_at_the_end_is_the_end_of_the_answer(aligner):
    said = texts([*pieces("carbon dioxide"), ""], top=[["", -0.5], [" carbon", -1.5]])
    aligned = aligner.align(row(sample(0)), said)
    assert aligned.missing == 0
    end, line = aligned.at[aligned.answer :]
    tokenizer = make_tokenizer()
    (carbon,) = tokenizer(" carbon", add_special_tokens=False)["input_ids"]
    assert end == {tokenizer.eos_token_id: -0.5, carbon: -1.5}
    assert line is None
    cut = texts([*pieces("carbon dioxide"), "", *pieces(" gas")])  # it went on
    assert aligner.align(row(sample(0)), cut).at[aligned.answer] is None


def test_texts_that_are_no_token_of_the_student_stay_with_the_others(aligner):
    said = texts(
        pieces("carbon dioxide"), top=[[" carbon", -1.0], ["Sternlein", -1.2], ["\ufffd", -1.3]]
    )
    found = aligner.align(row(sample(0)), said).at[1]
    carbon = make_tokenizer()(" carbon", add_special_tokens=False)["input_ids"]
    assert len(carbon) == 1
    assert found[carbon[0]] == -1.0
    assert len(found) == 2


def test_a_log_probability_that_a_server_does_not_tell_is_none(aligner):
    said = texts(pieces("carbon dioxide"))
    said["logprobs"] = [-9999.0] * len(said["tokens"])
    assert aligner.align(row(sample(0)), said).at[0] is None


def test_blanks_before_an_answer_and_text_around_it_are_found(aligner):
    for around in ("  ", "Answer: "):
        said = texts([around, *pieces("carbon dioxide"), ". So it is."])
        assert aligner.align(row(sample(0)), said).missing == 0


def test_behind_an_edit_nothing_is_the_teachers(aligner):
    said = texts(pieces("The heart pumps water."))
    aligned = aligner.align(row(sample(1)), said)  # The heart pumps blood.
    first = [found is not None for found in aligned.at[: aligned.answer]]
    assert first == sorted(first, reverse=True)
    assert 0 < sum(first) < aligned.answer


def test_other_cuts_of_the_same_text_meet_again(aligner):
    whole = pieces("The heart pumps blood.")
    said = texts([whole[0][:1], whole[0][1:], *whole[1:]])
    aligned = aligner.align(row(sample(1)), said)
    assert [found is None for found in aligned.at[: aligned.answer]] == [True] + [False] * (
        aligned.answer - 1
    )


def test_a_character_of_several_tokens_has_none_and_hides_nothing_behind_it(aligner):
    said = texts(["🎉", *pieces(" carbon dioxide")])
    aligned = aligner.align(row(sample(0, "🎉 carbon dioxide")), said)
    several = len(make_tokenizer()("🎉", add_special_tokens=False)["input_ids"])
    assert several > 1
    found = [found is not None for found in aligned.at[: aligned.answer]]
    assert found == [False] * several + [True] * (aligned.answer - several)


def test_a_row_is_cut_off_as_the_trainer_does(teacher, aligner):
    one = sample(1)
    whole = aligner.align(row(one), stored(teacher, one, k=2))
    length = len(make_tokenizer().apply_chat_template([*one.messages], tokenize=True)["input_ids"])
    cut = aligner.align(row(one), stored(teacher, one, k=2), max_length=length + 8)
    assert 0 < len(cut.at) < len(whole.at)
    assert cut.at == whole.at[: len(cut.at)]


def test_figures_count_what_is_missing_and_what_is_known():
    half = {1: math.log(0.5)}
    rows = [
        Aligned([half, half, None], 2, stored=True),
        Aligned([half, None], 2, stored=True),
        Aligned([None, None], 1, stored=False),
    ]
    assert figures_of(rows) == {
        "rows": 3,
        "rows_without_logprobs": 1,
        "rows_not_lined_up": 1,
        "tokens": 5,
        "tokens_without_logprobs": 2,
        "mean_mass_known": pytest.approx(0.5),
    }


def test_too_much_missing_is_refused_with_numbers_and_what_to_do():
    whole, none = Aligned([{1: 0.0}], 1, stored=True), Aligned([None], 1, stored=False)
    refuse_misaligned(figures_of([*[whole] * 19, none]))
    with pytest.raises(TrainingError, match=r"2 of 20 .*datagen\.sampling\.top_logprobs = 20"):
        refuse_misaligned(figures_of([*[whole] * 18, none, none]))


def test_another_vocabulary_is_refused(tmp_path, monkeypatch, aligner):
    stranger = make_stranger(tmp_path / "stranger", monkeypatch)
    rows = [aligner.align(row(one), stored(stranger, one, k=5)) for one in map(sample, range(8))]
    with pytest.raises(
        TrainingError, match=r"of \d+ answer tokens, in 8 of 8 rows, do not line up"
    ):
        refuse_misaligned(figures_of(rows))


def test_a_token_says_what_it_adds_to_a_text():
    tokenizer = make_tokenizer()
    vocabulary = Vocabulary(tokenizer)
    ids = tokenizer("Plants give off oxygen. 🎉 So", add_special_tokens=False)["input_ids"]
    pieces = vocabulary.pieces(ids)
    assert "".join(text for _, text in pieces) == "Plants give off oxygen. 🎉 So"
    assert (None, "🎉") in [(position, text.strip()) for position, text in pieces]
    for position, text in pieces:
        if position is not None:
            assert vocabulary.id_of(text) == ids[position]
    assert vocabulary.id_of("<|im_end|>") == tokenizer.eos_token_id
    assert vocabulary.id_of("Sternlein") is None
