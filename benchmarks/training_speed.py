"""How fast is a training step, beside those of other libraries?

    python benchmarks/training_speed.py

All models have the same sizes, drop the same numbers and read the same
batches: a few of those that a corpus as large as Multi30k gives, short and
long ones, with the lengths of image captions. Where a peer can take our
weights it gets them, and its logits are checked before anything is timed. All
keep the memory they free, as our training does; then each runs in a process of
its own, where only ours does. One thread; processor time.
"""

import argparse
import math
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from measuring import (
    alternate,
    alternate_apart,
    ratio,
    serve,
    surroundings,
)
from peers import (
    SIZES,
    SMALL,
    Joey,
    Marian,
    TorchTransformer,
    XTransformers,
    check_logits,
    installed,
)
from places import CommandLine
from torch import nn

from minitransformer import Transformer, TransformerConfig
from minitransformer.allocator import keep_memory
from minitransformer.data import (
    Batch,
    Example,
    bucketed,
    make_batch,
    padding_share,
)
from minitransformer.files import write_json
from minitransformer.training import Trainer, TrainingOptions

SMOOTHING, DROPOUT = 0.1, 0.1
OURS, UNSORTED = "minitransformer", "nn.Transformer, unsorted"
AS_IT_COMES = "nn.Transformer, weights dropped too"
BATCHES = 4  # of all that the pairs give
PEERS = {
    "nn.Transformer": TorchTransformer,
    AS_IT_COMES: partial(TorchTransformer, drop_weights=True),
    "Hugging Face Marian": Marian,
    "JoeyNMT": Joey,
    "x-transformers": XTransformers,
}


def captions(count: int, vocab_size: int) -> list[Example]:
    """Make pairs of random ids with the lengths of image captions.

    Multi30k's English has 14 tokens on average with a deviation of 4.5, and
    its German as many, give or take 15 %.
    """
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(4, vocab_size) for _ in range(length)]

    found = []
    for _ in range(count):
        length = min(60, max(4, round(rng.lognormvariate(2.58, 0.32))))
        other = max(3, round(length * rng.gauss(1.0, 0.15)))
        found.append(Example([*ids(length), 2], [1, *ids(other), 2]))
    return found


def spread(
    groups: Sequence[Sequence[Example]], count: int
) -> list[Sequence[Example]]:
    """Take a few of many groups, from short sentences to long ones.

    Ordered by length and cut into ``count`` equal parts, each part gives the
    group in its middle.
    """
    by_length = sorted(groups, key=lambda each: len(each[0].source))
    count = min(count, len(by_length))
    part = len(by_length) / count
    return [by_length[int((i + 0.5) * part)] for i in range(count)]


class Steps:
    """Training steps over a list of batches, one after the other.

    Args:
        batches: Taken in turn.
        step: Makes one update from a batch.
    """

    def __init__(self, batches: Sequence[Batch], step: Any):
        self.batches, self.step = batches, step

    def __call__(self) -> None:
        for batch in self.batches:
            self.step(batch)


def peer_step(peer: Any) -> Any:
    """Return what makes one update of a peer, as its users would."""
    adamw = torch.optim.AdamW(peer.parameters(), lr=1e-3, fused=True)
    peer.train()

    def step(batch: Batch) -> None:
        peer.loss(batch, SMOOTHING).backward()
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    return step


class Race:
    """All candidates, ready to make steps over the same pairs.

    Args:
        sizes: Of every model.
        pairs: How many.
    """

    def __init__(self, sizes: dict[str, Any], pairs: int):
        examples = captions(pairs, sizes["source_vocab_size"])
        groups = spread(bucketed(examples, 4_096, seed=0), BATCHES)
        batches = [make_batch(group) for group in groups]
        options = TrainingOptions(precision="fp32", label_smoothing=SMOOTHING)

        torch.manual_seed(0)
        ours = Transformer(TransformerConfig(**sizes, dropout=DROPOUT)).eval()
        peers, self.missing = installed(PEERS, ours)
        for peer in peers.values():
            peer.eval()
            if hasattr(peer, "logits"):
                check_logits(ours, peer, batches[0])
        trainer = Trainer(ours, examples, examples[:2], options)

        unsorted = [example for group in groups for example in group]
        random.Random(1).shuffle(unsorted)
        size = math.ceil(len(unsorted) / len(batches))
        mixed = [
            unsorted[start : start + size]
            for start in range(0, len(unsorted), size)
        ]
        shuffled = [make_batch(group) for group in mixed]
        steps = {name: peer_step(peer) for name, peer in peers.items()}
        self.candidates = {
            OURS: Steps(batches, lambda b: trainer.update([b])),
            **{name: Steps(batches, step) for name, step in steps.items()},
            UNSORTED: Steps(shuffled, steps["nn.Transformer"]),
        }
        self.batches = len(batches)
        self.tokens = sum(batch.num_tokens for batch in batches)
        labels = sum(batch.labels.numel() for batch in batches)
        self.padding = {
            "sorted": round(padding_share(groups), 3),
            "unsorted": round(padding_share(mixed), 3),
            "labels": round(1 - self.tokens / labels, 3),
        }


def ratios(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Say how many times as long as ours each candidate took."""
    return {
        name: ratio(each, times[OURS])
        for name, each in times.items()
        if name != OURS
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a pass over the same pairs by every candidate."""
    sizes = SMALL if arguments.small else SIZES
    command = [__file__, "--pairs", str(arguments.pairs)]
    command += ["--small"] * arguments.small
    apart = alternate_apart(
        {
            name: [*command, "--worker", name]
            for name in (OURS, "nn.Transformer", AS_IT_COMES, UNSORTED)
        },
        arguments.rounds,
    )
    keep_memory()
    race = Race(sizes, arguments.pairs)
    times = alternate(race.candidates, arguments.rounds)
    return {
        "surroundings": surroundings(),
        "sizes": sizes,
        "pairs": arguments.pairs,
        "batches": race.batches,
        "target_tokens": race.tokens,
        "padding": race.padding,
        "precision": "fp32",
        "not_measured": race.missing,
        "seconds": times,
        "seconds_apart": apart,
        "tokens_per_second": {
            name: round(race.tokens / sorted(each)[len(each) // 2])
            for name, each in times.items()
        },
        "times_as_fast": ratios(times),
        "times_as_fast_apart": ratios(apart),
    }


def arguments_of(
    name: str, description: str | None, pairs: int
) -> argparse.Namespace:
    """Read the command line of a script that times training steps.

    Args:
        name: Of its result.
        description: What the script is for.
        pairs: How many pairs the batches are made of.
    """
    parser = CommandLine(name, description, rounds=9)
    parser.add_argument("--pairs", type=int, default=pairs)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.read()


def main() -> None:
    """Measure, write the result and show it."""
    arguments = arguments_of("training_speed", __doc__, 29_000)
    if arguments.worker:
        if arguments.worker == OURS:
            keep_memory()
        sizes = SMALL if arguments.small else SIZES
        serve(Race(sizes, arguments.pairs).candidates[arguments.worker])
        return
    result = measure(arguments)
    write_json(arguments.out, result)
    for key in ("times_as_fast", "times_as_fast_apart"):
        for name, found in result[key].items():
            print(
                f"{found['median']} [{found['low']}, {found['high']}] {name}"
            )


if __name__ == "__main__":
    main()
