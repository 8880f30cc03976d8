"""Batches: nothing lost, little padded, the same again for a seed."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.corpora import Pair
from minitransformer.data import (
    Example,
    bucketed,
    encode_pairs,
    endless_batches,
    make_batch,
    pad,
    padding_share,
)
from minitransformer.errors import UserError
from minitransformer.text import Tokenizer


def example(source_len, target_len, mark=7):
    """Make an example whose lengths count EOS, and BOS for the target."""
    return Example(
        [mark] * (source_len - 1) + [EOS_ID],
        [BOS_ID] + [mark + 1] * (target_len - 2) + [EOS_ID],
    )


def mixed():
    """Make examples of five lengths, each marked by a number of its own."""
    lengths = [3, 5, 7, 11, 13] * 20
    return [example(n, n + 2, mark=9 + i) for i, n in enumerate(lengths)]


lengths = st.lists(
    st.tuples(st.integers(1, 23), st.integers(2, 29)), min_size=1, max_size=60
)

# By hand ---


def test_batch_of_two_pairs():
    batch = make_batch(
        [Example([5, 6, EOS_ID], [BOS_ID, 8, EOS_ID]), example(2, 5)]
    )
    assert batch.source.tolist() == [[5, 6, 2], [7, 2, 0]]
    assert batch.decoder_input.tolist() == [[1, 8, 2, 0], [1, 8, 8, 8]]
    assert batch.labels.tolist() == [[8, 2, 0, 0], [8, 8, 8, 2]]
    assert batch.num_tokens == 6


def test_padding_share_of_two_rectangles():
    # Sources 3 + 2 of 6, labels 2 + 4 of 8; then a full rectangle of 1 + 1.
    groups = [[example(3, 3), example(2, 5)], [example(1, 2)]]
    assert padding_share(groups) == pytest.approx(1 - 13 / 16)


# Properties ---


@given(lengths, st.integers(1, 200), st.integers(0, 9))
def test_every_example_is_in_one_group(sizes, batch_tokens, seed):
    examples = [example(*size, mark=9 + i) for i, size in enumerate(sizes)]
    groups = bucketed(examples, batch_tokens, seed)
    found = sorted(one.source for group in groups for one in group)
    assert found == sorted(one.source for one in examples)


@given(lengths, st.integers(1, 200))
def test_a_group_fits_unless_it_is_one_long_example(sizes, batch_tokens):
    groups = bucketed([example(*size) for size in sizes], batch_tokens, 3)
    for group in groups:
        source = max(len(one.source) for one in group)
        target = max(len(one.target) - 1 for one in group)
        assert (
            len(group) == 1 or len(group) * max(source, target) <= batch_tokens
        )


@given(lengths)
def test_padding_share_counts_what_pad_adds(sizes):
    examples = [example(*size) for size in sizes]
    batch = make_batch(examples)
    labels = batch.labels
    padding = (batch.source == PAD_ID).sum() + (labels == PAD_ID).sum()
    total = batch.source.numel() + labels.numel()
    assert padding_share([examples]) == pytest.approx(float(padding / total))


def test_buckets_pad_less_than_a_shuffle():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(3, 40, (500,), generator=generator).tolist()
    examples = [example(size, size + 2) for size in sizes]
    shuffled = [examples[i : i + 20] for i in range(0, 500, 20)]
    assert padding_share(bucketed(examples, 400, 0)) < 0.1
    assert padding_share(shuffled) > 0.3


def test_a_seed_decides_the_order_and_epochs_differ():
    examples = [example(5, 6, mark=9 + i) for i in range(40)]
    first = list(islice(endless_batches(examples, 30, seed=4), 40))
    again = list(islice(endless_batches(examples, 30, seed=4), 40))
    other = list(islice(endless_batches(examples, 30, seed=5), 40))
    per_epoch = len(bucketed(examples, 30, 4))
    assert all(
        torch.equal(a.source, b.source)
        for a, b in zip(first, again, strict=True)
    )
    assert not all(
        torch.equal(a.source, b.source)
        for a, b in zip(first, other, strict=True)
    )
    epochs = first[:per_epoch], first[per_epoch : 2 * per_epoch]
    seen = [torch.cat([batch.source for batch in epoch]) for epoch in epochs]
    assert not torch.equal(*seen)
    assert sorted(seen[0].tolist()) == sorted(seen[1].tolist())


def test_groups_come_in_no_order_of_length():
    lengths = [len(group[0].source) for group in bucketed(mixed(), 50, 4)]
    assert lengths != sorted(lengths)
    assert lengths != sorted(lengths, reverse=True)


def test_a_seed_decides_the_company_of_a_sentence():
    def company(seed):
        return {
            frozenset(one.source[0] for one in group)
            for group in bucketed(mixed(), 50, seed)
        }

    assert company(0) == company(0)
    assert company(0) != company(1)


def test_no_seed_repeats_the_epochs_of_another():
    per_epoch = len(bucketed(mixed(), 50, 0))
    second = list(
        islice(endless_batches(mixed(), 50, seed=4, skip=per_epoch), per_epoch)
    )
    first = list(islice(endless_batches(mixed(), 50, seed=5), per_epoch))
    assert not all(
        torch.equal(a.source, b.source)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("skip", [0, 1, 6, 7, 8, 30])
def test_skipping_passes_over_what_was_done(skip):
    examples = [example(5, 6, mark=9 + i) for i in range(40)]
    assert len(bucketed(examples, 30, 0)) == 7
    whole = list(islice(endless_batches(examples, 30, seed=1), 40))
    rest = islice(endless_batches(examples, 30, seed=1, skip=skip), 5)
    for ours, theirs in zip(rest, whole[skip:], strict=False):
        assert torch.equal(ours.source, theirs.source)


def test_pairs_become_ids_with_their_ends():
    pairs = [Pair("a cat sat", "un chat"), Pair("a dog", "un chien noir")]
    tokenizer = Tokenizer.train(
        [text for pair in pairs for text in (pair.source, pair.target)], 60
    )
    first, second = encode_pairs(pairs, tokenizer, tokenizer, max_len=50)
    assert first.source == [*tokenizer.encode("a cat sat"), EOS_ID]
    assert second.target == [
        BOS_ID,
        *tokenizer.encode("un chien noir"),
        EOS_ID,
    ]


# Edges ---


def test_pairs_that_are_too_long_are_left_out():
    pairs = [
        *(Pair("a a a a", "b"), Pair("a", "b b b")),
        *(Pair("a", "b"), Pair("a a", "b b")),  # the last just fits
    ]
    tokenizer = Tokenizer.train(["a b a b"], 20)
    kept = encode_pairs(pairs, tokenizer, tokenizer, max_len=3)
    assert [len(one.source) for one in kept] == [2, 3]
    with pytest.raises(UserError, match="max_len=1"):
        encode_pairs(pairs, tokenizer, tokenizer, max_len=1)


def test_pad_keeps_the_longest_whole():
    assert pad([[1], [2, 3, 4], []]).tolist() == [
        [1, 0, 0],
        [2, 3, 4],
        [0, 0, 0],
    ]
