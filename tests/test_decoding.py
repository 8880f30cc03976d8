"""Search: cached equals uncached, batched equals alone, wide equals all."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from minitransformer import Transformer, TransformerConfig
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.decoding import (
    MANY,
    beam_search,
    best_words,
    greedy_decode,
    length_divisor,
    length_limit,
)
from minitransformer.errors import UserError
from minitransformer.sampling import sample


def tiny(vocab_size, seed=0, **sizes):
    """Make a model whose choices are spread out, and differ by source."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        source_vocab_size=vocab_size,
        **{
            "d_model": 12,
            "num_heads": 3,
            "d_ff": 20,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "max_len": 40,
            # A random model that is tied repeats its last token for ever.
            "tie_embeddings": False,
            **sizes,
        },
    )
    model = Transformer(config).eval()
    with torch.no_grad():
        model.output.weight *= 2  # far from a flat softmax
    return model


def sources(vocab_size, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), PAD_ID)
    for row, length in zip(rows, lengths, strict=True):
        ids = torch.randint(4, vocab_size, (length - 1,), generator=generator)
        row[: length - 1] = ids
        row[length - 1] = EOS_ID
    return rows


@torch.no_grad()
def greedy_without_cache(model, source, limit):
    """Decode one sentence by reading all of it again at every step."""
    target = [BOS_ID]
    for _ in range(limit):
        logits = model(source[None], torch.tensor([target]))
        target.append(int(logits[0, -1].argmax()))
        if target[-1] == EOS_ID:
            return target[1:-1]
    return target[1:]


def test_no_sentence(make_model):
    model = make_model().eval()
    nothing = torch.empty(0, 5, dtype=torch.int64)
    assert greedy_decode(model, nothing) == []
    assert beam_search(model, nothing, 3) == []


# Parity: with the slow, plain ways ---


@given(
    st.integers(40, 200),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(0, 2**16),
)
def test_the_best_words_are_the_best(vocabulary, rows, count, seed):
    torch.manual_seed(seed)
    rows = rows * (MANY // vocabulary + 1)  # or plain topk is faster
    logits = torch.randn(rows, vocabulary).double()
    count = min(count, vocabulary)
    values, words = best_words(logits, count)
    expected = logits.topk(count)
    assert torch.equal(values, expected.values)
    assert torch.equal(words, expected.indices)


def test_equal_words_are_told_apart():
    logits = torch.zeros(MANY // 150 + 1, 150)
    values, words = best_words(logits, 70)
    assert not values.any()
    assert all(len(set(row)) == 70 for row in words.tolist())


@pytest.mark.parametrize("seed", [1, 4, 6, 7])  # their lengths differ
@pytest.mark.parametrize("norm_first", [True, False])
def test_batched_cached_greedy_equals_one_at_a_time(seed, norm_first):
    model = tiny(17, seed, norm_first=norm_first).double()
    lengths = [7, 2, 5, 3, 11]
    source = sources(17, lengths, seed)
    together = greedy_decode(model, source, max_len=19)
    alone = [
        greedy_without_cache(model, row[:length], 19)
        for row, length in zip(source, lengths, strict=True)
    ]
    assert together == alone


def test_some_sentences_end_before_others():
    # What the test above stands on: rows are dropped at different steps.
    model = tiny(17, 1).double()
    source = sources(17, [7, 2, 5, 3, 11], 1)
    lengths = {len(ids) for ids in greedy_decode(model, source, max_len=19)}
    assert len(lengths) > 1


def test_cached_logits_agree_in_single_precision():
    model = tiny(17, num_decoder_layers=3)
    source = sources(17, [6, 4, 9])
    target = torch.randint(4, 17, (3, 13))
    with torch.no_grad():
        whole = model(source, target)
        state = model.start(source)
        for t in range(target.shape[1]):
            step = model.step(target[:, t], state)
            assert_close(step, whole[:, t], rtol=0, atol=1e-5)


@torch.no_grad()
def all_translations(model, source, limit):
    """Score every sequence that ends within ``limit`` tokens."""
    words = [
        word
        for word in range(model.config.source_vocab_size)
        if word != EOS_ID
    ]
    scored = {}
    for length in range(1, limit + 1):
        every = list(itertools.product(words, repeat=length - 1))
        target = torch.tensor([[BOS_ID, *ids] for ids in every])
        labels = torch.tensor([[*ids, EOS_ID] for ids in every])
        steps = model(source.expand(len(every), -1), target).log_softmax(-1)
        totals = steps.gather(2, labels[:, :, None]).sum(dim=(1, 2))
        scored.update(zip(every, totals.tolist(), strict=True))
    return scored


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.7])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_wide_enough_equals_exhaustive_search(alpha, seed):
    model = tiny(5, seed).double()
    batch = sources(5, [4, 2, 3], seed)
    limit = 4
    # 1 + 4 + 16 + 64 sequences end; as many beginnings can be kept.
    found = beam_search(model, batch, 128, alpha, max_len=limit)
    for row, hypotheses in zip(batch, found, strict=True):
        source = row[row != PAD_ID]
        scores = {
            ids: total / length_divisor(len(ids) + 1, alpha)
            for ids, total in all_translations(model, source, limit).items()
        }
        assert tuple(hypotheses[0].ids) == max(scores, key=scores.get)
        assert len({tuple(one.ids) for one in hypotheses}) == len(hypotheses)
        for one in hypotheses:
            expected = scores[tuple(one.ids)]
            assert one.score == pytest.approx(expected, abs=1e-5)


# Properties ---


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed):
    model = tiny(17, seed).double()
    source = sources(17, [7, 2, 5, 3], seed)
    beams = beam_search(model, source, 1, max_len=15)
    assert [found[0].ids for found in beams] == greedy_decode(
        model, source, max_len=15
    )


@pytest.mark.parametrize("seed", range(3))
def test_batched_beam_equals_one_at_a_time(seed):
    model = tiny(17, seed).double()
    lengths = [7, 2, 5, 3]
    source = sources(17, lengths, seed)
    together = beam_search(model, source, 3, max_len=15)
    for row, length, found in zip(source, lengths, together, strict=True):
        alone = beam_search(model, row[None, :length], 3, max_len=15)[0]
        assert [one.ids for one in found] == [one.ids for one in alone]


def test_hypotheses_are_scored_and_ranked():
    model = tiny(17, 4).double()
    source = sources(17, [6])
    found = beam_search(model, source, 4, 0.7, max_len=15)[0]
    assert 1 < len(found) <= 4
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    for one in found:
        target = torch.tensor([[BOS_ID, *one.ids]])
        with torch.no_grad():
            steps = model(source, target)[0].log_softmax(-1)
        labels = torch.tensor([*one.ids, EOS_ID])
        total = float(steps.gather(1, labels[:, None]).sum())
        divisor = length_divisor(len(labels), 0.7)
        assert one.score == pytest.approx(total / divisor, abs=1e-5)


def test_a_stronger_length_penalty_never_shortens():
    model = tiny(17, 4).double()
    source = sources(17, [7, 4, 5])
    lengths = [
        [len(found[0].ids) for found in beam_search(model, source, 40, alpha)]
        for alpha in (0.0, 1.0, 3.0)
    ]
    for short, middle, long in zip(*lengths, strict=True):
        assert short <= middle <= long
    assert lengths[0] != lengths[2]


class Scripted(Transformer):
    """Say nothing with a chance of 0.6, or else token 4 five times."""

    def step(self, tokens, state):
        chances = torch.zeros(len(tokens), 5)
        if state.position == 0:
            chances[:, [EOS_ID, 4]] = torch.tensor([0.6, 0.4])
        else:
            chances[:, 4 if state.position < 5 else EOS_ID] = 1.0
        state.position += 1
        return chances.log()


@pytest.mark.parametrize(("alpha", "ids"), [(0.0, []), (2.0, [4] * 5)])
def test_a_search_goes_on_while_a_longer_one_may_win(alpha, ids):
    model = Scripted(tiny(5).config).eval()
    found = beam_search(model, sources(5, [3]), 2, alpha, max_len=6)
    assert found[0][0].ids == ids


# Edges ---


def never_ends(vocab_size=17):
    """Make a model to which EOS is impossible."""
    model = tiny(vocab_size)
    forward = model.output.forward

    def without_end(x):
        logits = forward(x)
        logits[..., EOS_ID] = -math.inf
        return logits

    model.output.forward = without_end
    return model


def test_a_translation_that_never_ends_is_cut_off():
    model, source = never_ends(), sources(17, [5, 3])
    limit = length_limit(model, source)
    assert limit == 20
    assert [len(ids) for ids in greedy_decode(model, source)] == [limit] * 2
    beams = beam_search(model, source, 3)
    assert [len(found[0].ids) for found in beams] == [limit] * 2


def test_the_limit_is_never_over_max_len():
    model = tiny(17, max_len=9)
    assert length_limit(model, sources(17, [8])) == 9


@pytest.mark.parametrize(("beam_size", "penalty"), [(0, 1.0), (4, -0.1)])
def test_impossible_searches_are_named(beam_size, penalty):
    with pytest.raises(UserError, match="beam_size"):
        beam_search(tiny(17), sources(17, [3]), beam_size, penalty)


@pytest.mark.parametrize("search", [greedy_decode, beam_search, sample])
@pytest.mark.parametrize("max_len", [0, -3])
def test_a_translation_has_room_for_a_token(search, max_len):
    model, source = tiny(17), sources(17, [3])
    with pytest.raises(UserError, match=f"max_len={max_len} leaves no room"):
        search(model, source, max_len=max_len)
    assert search(model, source, max_len=1)
