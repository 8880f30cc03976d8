"""How fast is a training step, beside those of other libraries?

    python benchmarks/training_speed.py

All models have the same sizes, drop the same numbers and read the same
batches: a few of those that a corpus as large as Multi30k gives, short and
long ones, with the lengths of image captions. Where a peer can take our
weights it gets them, and its logits are checked before anything is timed. All
keep the memory they free, and multiply by oneDNN where that is faster, as our
training does; before that each runs in a process of its own, where only ours
does. One thread and processor time; with
``--threads 2`` the clock on the wall. With ``--precision bf16`` all compute in
bfloat16, and torch's Transformer once more in float32; that is worth its while
where the processor computes with it.
"""

import argparse
import math
import random
import sys
from collections.abc import Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from measuring import (
    alternate,
    alternate_apart,
    clock_for,
    ratio,
    serve,
    sharp,
    surroundings,
)
from peers import (
    PACKAGES,
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
from minitransformer.onednn import use_onednn
from minitransformer.training import Trainer, TrainingOptions

SMOOTHING, DROPOUT = 0.1, 0.1
OURS, TORCH = "minitransformer", "nn.Transformer"
UNSORTED = "nn.Transformer, unsorted"
AS_IT_COMES = "nn.Transformer, weights dropped too"
EXACT, EXACT_UNSORTED = f"{TORCH}, float32", f"{UNSORTED}, float32"
TOKENS = 4_096  # in a batch
BATCHES = 4  # of all that the pairs give
PEERS = {
    TORCH: TorchTransformer,
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


def shuffled(examples: Sequence[Example], count: int) -> list[list[Example]]:
    """Cut pairs in any order into ``count`` groups of as many."""
    order = random.Random(1).sample(examples, len(examples))
    size = math.ceil(len(order) / count)
    return [
        order[start : start + size] for start in range(0, len(order), size)
    ]


def sizes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the sizes of every model."""
    return SMALL if arguments.small else SIZES


def chosen(
    arguments: argparse.Namespace,
) -> tuple[list[Example], list[Sequence[Example]]]:
    """Return all pairs, and those of the few batches that are timed."""
    vocab_size = sizes_of(arguments)["source_vocab_size"]
    examples = captions(arguments.pairs, vocab_size)
    return examples, spread(bucketed(examples, TOKENS, seed=0), BATCHES)


class Steps:
    """Training steps over a list of batches: one at each call.

    Args:
        batches: Taken in turn, without end.
        step: Makes one update from a batch.
    """

    def __init__(self, batches: Sequence[Batch], step: Any):
        self.batches, self.step = cycle(batches), step

    def __call__(self) -> None:
        self.step(next(self.batches))


def peer_step(peer: Any, precision: str = "fp32") -> Any:
    """Return what makes one update of a peer, as its users would."""
    adamw = torch.optim.AdamW(peer.parameters(), lr=1e-3, fused=True)
    peer.train()
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def step(batch: Batch) -> None:
        with bf16:
            loss = peer.loss(batch, SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    return step


class Race:
    """All candidates, ready to make steps over the same batches.

    Batches of pairs in any order can't be the same. They are as many, drawn
    from all pairs, and count by their target tokens.

    Args:
        arguments: The command line's: sizes, pairs, precision.
    """

    def __init__(self, arguments: argparse.Namespace):
        sizes, precision = sizes_of(arguments), arguments.precision
        examples, groups = chosen(arguments)
        batches = [make_batch(group) for group in groups]
        options = TrainingOptions(
            precision=precision, label_smoothing=SMOOTHING
        )

        torch.manual_seed(0)
        ours = Transformer(TransformerConfig(**sizes, dropout=DROPOUT)).eval()
        everything = bucketed(examples, TOKENS, seed=0)
        all_mixed = shuffled(examples, len(everything))
        mixed = all_mixed[:BATCHES]
        ragged = [make_batch(group) for group in mixed]
        peers, self.missing = installed(PEERS, ours)
        for peer in peers.values():
            peer.eval()
            if hasattr(peer, "logits"):
                check_logits(ours, peer, ragged[0])
        trainer = Trainer(ours, examples, examples[:2], options)

        steps = {
            name: peer_step(peer, precision) for name, peer in peers.items()
        }
        self.candidates = {
            OURS: Steps(batches, lambda b: trainer.update([b])),
            **{name: Steps(batches, step) for name, step in steps.items()},
            UNSORTED: Steps(ragged, steps[TORCH]),
        }
        if precision == "bf16":
            step = peer_step(TorchTransformer(ours))
            self.candidates[EXACT] = Steps(batches, step)
            self.candidates[EXACT_UNSORTED] = Steps(ragged, step)
        self.batches = len(batches)
        self.tokens = dict.fromkeys(self.candidates, count_tokens(batches))
        for name in self.tokens.keys() & {UNSORTED, EXACT_UNSORTED}:
            self.tokens[name] = count_tokens(ragged)
        labels = sum(batch.labels.numel() for batch in batches)
        self.padding = {
            "sorted": round(padding_share(groups), 3),
            "unsorted": round(padding_share(mixed), 3),
            "all_sorted": round(padding_share(everything), 3),
            "all_unsorted": round(padding_share(all_mixed), 3),
            "labels": round(1 - count_tokens(batches) / labels, 3),
        }


def count_tokens(batches: Sequence[Batch]) -> int:
    """Count the target tokens that are learned from."""
    return sum(batch.num_tokens for batch in batches)


def ratios(
    times: dict[str, list[float]], tokens: dict[str, int]
) -> dict[str, dict[str, float]]:
    """Say how many times as long as ours each candidate took for a token.

    Args:
        times: Seconds of each round.
        tokens: How many each candidate learned from in a round.
    """
    each_token = {
        name: [seconds / tokens[name] for seconds in each]
        for name, each in times.items()
    }
    return {
        name: ratio(each, each_token[OURS])
        for name, each in each_token.items()
        if name != OURS
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the steps of every candidate."""
    parts = len(chosen(arguments)[1])
    names = [OURS, TORCH, AS_IT_COMES, UNSORTED]
    if arguments.precision == "bf16":
        names += [EXACT, EXACT_UNSORTED]
    apart = alternate_apart(
        {name: [*again(arguments), "--worker", name] for name in names},
        arguments.rounds,
        parts,
        sharp(OURS),
    )
    keep_memory()
    use_onednn()
    race = Race(arguments)
    times = alternate(
        race.candidates,
        arguments.rounds,
        clock_for(arguments.threads),
        parts,
        sharp(OURS),
    )
    return {
        "surroundings": surroundings(*PACKAGES),
        "sizes": sizes_of(arguments),
        "pairs": arguments.pairs,
        "batches": race.batches,
        "target_tokens": race.tokens,
        "padding": race.padding,
        "clock": "processor" if arguments.threads == 1 else "wall",
        "precision": arguments.precision,
        "not_measured": race.missing,
        "seconds": times,
        "seconds_apart": apart,
        "tokens_per_second": {
            name: round(race.tokens[name] / sorted(each)[len(each) // 2])
            for name, each in times.items()
        },
        "times_as_fast": ratios(times, race.tokens),
        "times_as_fast_apart": ratios(apart, race.tokens),
    }


def again(arguments: argparse.Namespace) -> list[str]:
    """Return the command line of a worker that is asked for the same."""
    wanted = ["pairs", "threads", "precision"]
    options = [(f"--{name}", str(vars(arguments)[name])) for name in wanted]
    return [sys.argv[0], *sum(options, ()), *["--small"] * arguments.small]


def main() -> None:
    """Measure, write the result and show it."""
    parser = CommandLine("training_speed", __doc__, rounds=9, threads=True)
    parser.add_argument("--pairs", type=int, default=29_000)
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.read()
    if arguments.worker:
        if arguments.worker == OURS:
            keep_memory()
            use_onednn()
        race = Race(arguments)
        clock = clock_for(arguments.threads)
        serve(race.candidates[arguments.worker], clock, race.batches)
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
