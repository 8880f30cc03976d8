"""From sentence pairs to padded batches of ids, bucketed by length."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.corpora import Pair
from minitransformer.errors import UserError
from minitransformer.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Example:
    """One pair as ids: the source ends with EOS, the target has BOS and EOS.

    Attributes:
        source: Source ids.
        target: Target ids.
    """

    source: list[int]
    target: list[int]


@dataclass(frozen=True)
class Batch:
    """Some examples, padded to rectangles on the right.

    Attributes:
        source: ``(B, S)`` ids.
        target: ``(B, T + 1)`` ids, from BOS to EOS.
    """

    source: Tensor
    target: Tensor

    @property
    def decoder_input(self) -> Tensor:
        """What the decoder reads: all but the last token, ``(B, T)``."""
        return self.target[:, :-1]

    @property
    def labels(self) -> Tensor:
        """What it must predict: all but the first token, ``(B, T)``."""
        return self.target[:, 1:]

    @property
    def num_tokens(self) -> int:
        """Number of labels that are not padding."""
        return int((self.labels != PAD_ID).sum())

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        return Batch(self.source.to(device), self.target.to(device))


def pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Stack sequences of ids, filling up with PAD on the right.

    Returns:
        ``(B, S)``, as wide as the longest sequence.

    >>> pad([[5, 6], [7]])
    tensor([[5, 6],
            [7, 0]])
    """
    width = max(len(ids) for ids in sequences)
    rows = [[*ids, *[PAD_ID] * (width - len(ids))] for ids in sequences]
    return torch.tensor(rows, dtype=torch.int64)


def make_batch(examples: Sequence[Example]) -> Batch:
    """Pad some examples to one batch."""
    return Batch(
        pad([example.source for example in examples]),
        pad([example.target for example in examples]),
    )


def encode_source(
    tokenizer: Tokenizer, lines: Sequence[str]
) -> list[list[int]]:
    """Turn source sentences into ids that end with EOS."""
    return [[*ids, EOS_ID] for ids in tokenizer.encode_batch(lines)]


def encode_pairs(
    pairs: Sequence[Pair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    max_len: int,
) -> list[Example]:
    """Turn sentence pairs into ids; pairs over ``max_len`` are left out.

    Raises:
        UserError: If no pair is short enough.
    """
    sources = encode_source(source_tokenizer, [pair.source for pair in pairs])
    targets = target_tokenizer.encode_batch([pair.target for pair in pairs])
    examples = [
        Example(source, [BOS_ID, *target, EOS_ID])
        for source, target in zip(sources, targets, strict=True)
        if len(source) <= max_len and len(target) < max_len
    ]
    if not examples:
        raise UserError(
            f"No sentence pair fits into {max_len=} tokens: raise max_len or"
            " shorten the sentences."
        )
    return examples


def bucketed(
    examples: Sequence[Example], batch_tokens: int, seed: int
) -> list[list[Example]]:
    """Group examples of like length, in an order that ``seed`` decides.

    Sorting by length first leaves little to pad; shuffling among equals and
    then shuffling the groups keeps every epoch different.

    Args:
        examples: What to group.
        batch_tokens: Most ids in the target rectangle, or the source's if
            that is larger; one long example may exceed it alone.
        seed: Decides the order.

    Returns:
        The groups; together they hold every example once.
    """
    rng = random.Random(seed)
    order = sorted(
        (len(example.source), len(example.target), rng.random(), index)
        for index, example in enumerate(examples)
    )
    groups: list[list[Example]] = []
    group: list[Example] = []
    longest = 0
    for source_len, target_len, _, index in order:
        longest = max(longest, source_len, target_len - 1)
        if group and longest * (len(group) + 1) > batch_tokens:
            groups.append(group)
            group, longest = [], max(source_len, target_len - 1)
        group.append(examples[index])
    if group:
        groups.append(group)
    rng.shuffle(groups)
    return groups


def endless_batches(
    examples: Sequence[Example], batch_tokens: int, seed: int, skip: int = 0
) -> Iterator[Batch]:
    """Yield batches, epoch after epoch, each in an order of its own.

    Args:
        examples: What to train on.
        batch_tokens: As in `bucketed`.
        seed: Decides every epoch's order.
        skip: How many batches to pass over, cheaply: those that a run did
            before it was interrupted.
    """
    epoch = 0
    while True:
        groups = bucketed(examples, batch_tokens, seed * 1_000_003 + epoch)
        for group in groups[skip:]:
            yield make_batch(group)
        skip = max(0, skip - len(groups))
        epoch += 1


def padding_share(groups: Iterable[Sequence[Example]]) -> float:
    """Return the share of ids, sources and labels, that are padding.

    >>> short, long = Example([4, 2], [1, 2]), Example([4, 5, 6, 2], [1, 5, 2])
    >>> padding_share([[short, long]])  # 2 of 8 source ids, 1 of 4 labels
    0.25
    """
    real = rectangle = 0
    for group in groups:
        sources = [len(example.source) for example in group]
        labels = [len(example.target) - 1 for example in group]
        real += sum(sources) + sum(labels)
        rectangle += len(group) * (max(sources) + max(labels))
    return 1 - real / rectangle
