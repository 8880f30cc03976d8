"""Sampling: what is drawn from, how often, and the same by the same seed."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.decoding import Hypothesis, greedy_decode
from minitransformer.errors import UserError
from minitransformer.recurrent import RecurrentConfig, RecurrentTranslator
from minitransformer.sampling import next_probabilities, sample

FOUR = torch.tensor([0.1, 0.4, 0.2, 0.3])


# What is drawn from ---


@pytest.mark.parametrize(
    ("choices", "parts"),
    [
        ({}, [1, 4, 2, 3]),
        ({"temperature": 0.5}, [1, 16, 4, 9]),
        ({"temperature": 2.0}, [1, 2, math.sqrt(2), math.sqrt(3)]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4, 0, 3]),
        ({"top_k": 9}, [1, 4, 2, 3]),
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_p": 0.65}, [0, 4, 0, 3]),  # 0.4 is not enough
        ({"top_p": 1.0}, [1, 4, 2, 3]),
        # Of the two that are left, the first has 4 / 7.
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0]),
        ({"top_k": 2, "top_p": 0.6}, [0, 4, 0, 3]),
        # And first of all comes the temperature: 16 / 30.
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0]),
    ],
)
def test_probabilities_by_hand(choices, parts):
    wanted = torch.tensor(parts) / sum(parts)
    assert_close(next_probabilities(FOUR.log(), **choices), wanted)
    # The same for any constant more, and for every row of a batch.
    rows = torch.stack([FOUR.log() + 7, FOUR.log().flip(0)])[None]
    found = next_probabilities(rows, **choices)
    assert_close(found, torch.stack([wanted, wanted.flip(0)])[None])


@given(st.integers(0, 2**16), st.floats(0.05, 1.0), st.integers(2, 40))
def test_a_nucleus_has_no_word_too_many(seed, top_p, vocabulary):
    torch.manual_seed(seed)
    logits = torch.randn(vocabulary) * 3
    chances = logits.softmax(0)
    kept = next_probabilities(logits, top_p=top_p) > 0
    assert chances[kept].sum() >= top_p - 1e-5
    assert chances[kept].sum() - chances[kept].min() < top_p + 1e-5
    assert chances[~kept].sum() == 0 or (
        chances[~kept].max() <= chances[kept].min()
    )


def test_a_temperature_near_nought_is_greedy():
    logits = torch.tensor([[3.0, 3.1, -50.0], [1e4, 0.0, -1e4]])
    found = next_probabilities(logits, temperature=1e-30)
    assert_close(found, torch.tensor([[0.0, 1, 0], [1, 0, 0]]))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
        ({"temperature": math.inf}, "above 0"),
        ({"top_k": 0}, "keeps no word"),
        ({"top_p": 0.0}, "no probability"),
        ({"top_p": 1.1}, "no probability"),
    ],
)
def test_impossible_choices_are_refused(make_model, choices, words):
    with pytest.raises(UserError, match=words):
        next_probabilities(FOUR, **choices)
    with pytest.raises(UserError, match=words):
        sample(make_model(), torch.tensor([[4, 2]]), **choices)


# Drawing ---


SOURCE = torch.tensor([[4, 9, 2, 0], [7, 2, 0, 0], [5, 6, 8, 2]])


def test_a_top_k_of_one_is_greedy(make_model):
    model = make_model(tie_embeddings=False).double()
    found = sample(model, SOURCE, count=2, top_k=1, max_len=9)
    greedy = greedy_decode(model, SOURCE, max_len=9)
    assert [[one.ids for one in two] for two in found] == [
        [ids, ids] for ids in greedy
    ]


def small(make_model):
    model = make_model(
        source_vocab_size=5, target_vocab_size=5, tie_embeddings=False
    )
    with torch.no_grad():
        model.output.weight *= 2
    return model


@torch.no_grad()
def exact(model, source, limit):
    """Return the chance of each list of ids that a draw can give."""
    found, going = {}, {(): 1.0}
    for length in range(limit):
        longer = {}
        for said, chance in going.items():
            target = torch.tensor([[BOS_ID, *said]])
            step = model(source, target)[0, -1].softmax(0).tolist()
            for word, p in enumerate(step):
                if word == EOS_ID:
                    found[said] = found.get(said, 0.0) + chance * p
                elif length == limit - 1:  # cut off
                    found[*said, word] = chance * p
                else:
                    longer[*said, word] = chance * p
        going = longer
    return found


def test_translations_come_as_often_as_they_should(make_model):
    model, count = small(make_model), 4000
    source = torch.tensor([[4, 2, 0], [3, 4, 2]])
    drawn = sample(model, source, count, max_len=3)
    for row, length in enumerate((2, 3)):
        chances = exact(model, source[row : row + 1, :length], 3)
        assert sum(chances.values()) == pytest.approx(1)
        seen = Counter(tuple(one.ids) for one in drawn[row])
        assert seen.keys() <= chances.keys()
        for ids, p in chances.items():
            slack = 5 * math.sqrt(count * p * (1 - p)) + 1
            assert abs(seen[ids] - count * p) < slack


def test_scores_are_log_probabilities_at_temperature_one(make_model):
    model = small(make_model)
    source = torch.tensor([[4, 2, 0], [3, 4, 2]])
    drawn = sample(model, source, 5, temperature=2.0, top_k=4, max_len=8)
    for row, length in enumerate((2, 3)):
        for one in drawn[row]:
            target = torch.tensor([[BOS_ID, *one.ids]])
            labels = [*one.ids, EOS_ID][:8]
            with torch.no_grad():
                steps = model(source[row : row + 1, :length], target)[0]
            steps = steps.log_softmax(-1)[range(len(labels)), labels]
            assert one.score == pytest.approx(steps.sum().item(), abs=1e-4)


def test_a_sentence_that_ended_leaves_the_others_alone(make_model):
    model = small(make_model)
    source = SOURCE.clamp(max=4)
    ended = set()
    for seed in range(6):
        drawn = sample(model, source, 1, seed=seed, max_len=20)
        ended.add(tuple(len(one.ids) < 20 for (one,) in drawn))
        for row, (one,) in enumerate(drawn):  # scored on the right sentence
            target = torch.tensor([[BOS_ID, *one.ids]])
            labels = [*one.ids, EOS_ID][:20]
            with torch.no_grad():
                steps = model(source[row : row + 1], target)[0]
            steps = steps.log_softmax(-1)[range(len(labels)), labels]
            assert one.score == pytest.approx(steps.sum().item(), abs=1e-4)
    assert any(len(set(each)) > 1 for each in ended)


def test_the_seed_decides(make_model):
    model = small(make_model)
    source = SOURCE.clamp(max=4)
    before = torch.random.get_rng_state()
    once = sample(model, source, 4, seed=5)
    assert sample(model, source, 4, seed=5) == once
    assert sample(model, source, 4, seed=6) != once
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(each) for each in once] == [4, 4, 4]
    assert all(isinstance(one, Hypothesis) for each in once for one in each)


def test_a_recurrent_translator_is_drawn_from_too():
    config = RecurrentConfig(source_vocab_size=9, d_model=8)
    model = RecurrentTranslator(config).double().eval()
    found = sample(model, SOURCE.clamp(max=8), 2, top_k=1, max_len=7)
    greedy = greedy_decode(model, SOURCE.clamp(max=8), max_len=7)
    assert [two[0].ids for two in found] == greedy


def test_no_translations_at_all_are_refused(make_model):
    with pytest.raises(UserError, match="ask for 1"):
        sample(make_model(), SOURCE, count=0)


# Translator ---


def test_a_text_is_drawn(translator):
    text = "the cat sees the dog."
    found = translator.sample(text, count=3, seed=1)
    assert len(found) == 3
    assert all(isinstance(one, str) for one in found)
    assert translator.sample(text, count=3, seed=1) == found
    assert translator.sample(text, count=3, seed=2) != found


@pytest.mark.parametrize(
    "choice", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-30}]
)
def test_each_sentence_of_a_text_is_drawn(translator, choice):
    text = "We eat bread. The boy is tired!"
    greedy = translator.translate(text, beam_size=1)
    assert translator.sample(text, count=2, **choice) == [greedy, greedy]
    assert greedy not in translator.sample(text, count=2)


@pytest.mark.parametrize("text", ["", ["a text"], 3])
def test_no_text_is_refused(translator, text):
    with pytest.raises(UserError, match="The text is"):
        translator.sample(text)
