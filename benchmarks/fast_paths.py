"""What does each fast path gain, alone?

    python benchmarks/fast_paths.py

Each is replaced by the readable form it equals, while the others stay; the
two take turns. What keeps memory can't be taken back in a process, so there
processes take turns, and with them one that trains with ``--recompute``, which
takes longer to save memory. It is the same with what multiplies in training.
What decodes is timed before any of this is arranged. One thread; processor
time.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from measuring import (
    alternate,
    alternate_apart,
    ratio,
    serve,
    sharp,
    surroundings,
)
from peers import SIZES, SMALL
from places import CommandLine
from torch import Tensor
from training_speed import DROPOUT, SMOOTHING, captions

from minitransformer import Transformer, TransformerConfig
from minitransformer.allocator import keep_memory, return_memory
from minitransformer.data import bucketed, make_batch, pad
from minitransformer.decoding import beam_search, greedy_decode
from minitransformer.dropout import dropout
from minitransformer.files import write_json
from minitransformer.loss import smoothed_cross_entropy
from minitransformer.onednn import use_onednn
from minitransformer.packed_decoder import lay_out
from minitransformer.training import Trainer, TrainingOptions

Work = Callable[[], object]
ALONE = "greedy, batch 1"


def readable_loss(
    hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float
) -> Tensor:
    """Make all logits, then the loss."""
    return smoothed_cross_entropy(hidden @ weight.T, labels, smoothing)


# torch's fused kernel, whatever the lengths.
FUSED = {"attention.suits_products": lambda q, k, v, mask: False}
TRAINING: dict[str, dict[str, Any]] = {
    "attend": FUSED,
    "output_loss": {"training.output_loss": readable_loss},
    "dropout, relu_dropout": {
        "dropout.dropout": F.dropout,
        "feed_forward.relu_dropout": lambda x, p: F.dropout(x.relu(), p),
    },
    "relu_dropout": {
        "feed_forward.relu_dropout": lambda x, p: dropout(x.relu(), p)
    },
}
# What a training process does at its start, and what without a fast path.
STARTS: dict[str, Sequence[Work]] = {
    "all": (keep_memory, use_onednn),
    "keep_memory": (use_onednn,),
    "use_onednn": (keep_memory,),
    "recomputing": (return_memory, use_onednn),
}
PACKED: dict[str, dict[str, Any]] = {
    "packed_decoder": {
        "packed_decoder.fast_step": lambda model, _: model.step
    },
    "onednn": {
        "onednn.mkl_is_slow": lambda: False,
        "packed_decoder.mkl_is_slow": lambda: False,
    },
}
# A sentence alone has no mask and few logits: there neither way differs.
DECODING: dict[str, dict[str, Any]] = {
    "attend": FUSED,
    **PACKED,
    "best_words": {"decoding.best_words": Tensor.topk},
}


def without(replacements: dict[str, Any], work: Work) -> Work:
    """Return ``work`` with some functions replaced while it runs."""

    def worked() -> None:
        with ExitStack() as stack:
            for place, readable in replacements.items():
                stack.enter_context(
                    patch(f"minitransformer.{place}", readable)
                )
            work()

    return worked


def gains(
    work: Work,
    paths: dict[str, dict[str, Any]],
    rounds: int,
    **lacking: Work,
) -> dict[str, dict[str, float]]:
    """Time some work as it is, and without each fast path.

    Args:
        work: With all of them.
        paths: What replaces each.
        rounds: How often each candidate is timed.
        lacking: The same work without a path that can't be replaced so.
    """
    for name, each in paths.items():
        lacking[name] = without(each, work)
    times = alternate({"": work, **lacking}, rounds, enough=sharp(""))
    return {name: ratio(times[name], times[""]) for name in lacking}


def training_steps(
    sizes: dict[str, Any], pairs: int, recompute: bool = False
) -> Work:
    """Return a pass over some pairs, as in ``training_speed.py``."""
    torch.manual_seed(0)
    examples = captions(pairs, sizes["source_vocab_size"])
    model = Transformer(TransformerConfig(**sizes, dropout=DROPOUT))
    options = TrainingOptions(precision="fp32", label_smoothing=SMOOTHING)
    trainer = Trainer(
        model, examples, examples[:2], options, recompute=recompute
    )
    groups = bucketed(examples, 1_536, seed=0)
    batches = [make_batch(group) for group in groups]
    return lambda: [trainer.update([batch]) for batch in batches]


def searches(
    sizes: dict[str, Any], sentences: int, laid_out: bool = True
) -> dict[str, Work]:
    """Return searches through a model that has learned nothing.

    All its translations are as long as they may be: 14 tokens.

    Args:
        sizes: The model's.
        sentences: How many make a batch.
        laid_out: Whether its matrices lie as those of one that was loaded.
    """
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**sizes)).eval()
    if laid_out:
        lay_out(model)
    sources = [
        example.source
        for example in captions(sentences, sizes["source_vocab_size"])
    ]
    ones = [pad([source]) for source in sources[:8]]
    many = pad(sorted(sources, key=len))
    return {
        ALONE: lambda: [
            greedy_decode(model, each, max_len=14) for each in ones
        ],
        "greedy, a batch": lambda: greedy_decode(model, many, max_len=14),
        "beam 4, a batch": lambda: beam_search(model, many, 4, max_len=14),
    }


def starts(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Say how many times as long training takes that starts otherwise."""
    command = [__file__, "--pairs", str(arguments.pairs)]
    command += ["--small"] * arguments.small
    times = alternate_apart(
        {name: [*command, "--worker", name] for name in STARTS},
        arguments.rounds,
        enough=sharp("all"),
    )
    return {name: ratio(each, times["all"]) for name, each in times.items()}


def main() -> None:
    """Measure, write the result and show it."""
    parser = CommandLine("fast_paths", __doc__, rounds=9)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.read()
    sizes = SMALL if arguments.small else SIZES
    pairs, rounds = arguments.pairs, arguments.rounds
    if arguments.worker:
        for start in STARTS[arguments.worker]:
            start()
        again = arguments.worker == "recomputing"
        serve(training_steps(sizes, pairs, again))
        return
    made = searches(sizes, min(64, pairs), laid_out=False)
    decoding = {
        name: gains(
            work,
            PACKED if name == ALONE else DECODING,
            3 * rounds,  # shorter than the training, and closer to each other
            lay_out=made[name],
        )
        for name, work in searches(sizes, min(64, pairs)).items()
    }
    apart = starts(arguments)
    keep_memory()
    use_onednn()
    result = {
        "training": {
            "keep_memory": apart["keep_memory"],
            "use_onednn": apart["use_onednn"],
            **gains(training_steps(sizes, pairs), TRAINING, rounds),
        },
        **decoding,
    }
    write_json(
        arguments.out,
        {
            "surroundings": surroundings(),
            "gains": result,
            "recomputing": apart["recomputing"],
        },
    )
    for what, found in result.items():
        for name, each in found.items():
            print(
                f"{what}: {each['median']} [{each['low']}, {each['high']}] x"
                f" as fast with {name}"
            )
    longer = apart["recomputing"]
    print(
        f"training: {longer['median']} [{longer['low']}, {longer['high']}] x"
        " as long with --recompute"
    )


if __name__ == "__main__":
    main()
