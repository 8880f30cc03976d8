"""How fast does a trained model translate, beside other engines?

    python benchmarks/decoding_speed.py [--corpus multi30k-en-de]

All hold the same weights, three layers of each kind, 256 wide, which are
trained first, in a process of their own (a quarter of an hour); they read the
same test sentences, and translations end where the model ends them. Greedy
translations are compared before anything is timed. One thread and processor
time; with ``--threads 2`` the clock on the wall, and each engine in a process
of its own: where two share one, the threads of either wait for the other's.
"""

import argparse
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
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
    CTranslate2,
    Joey,
    Marian,
    Ours,
    installed,
)
from places import CommandLine, claim
from torch import Tensor

from minitransformer import Translator
from minitransformer.corpora import load_corpus
from minitransformer.data import encode_source, pad
from minitransformer.decoding import length_limit
from minitransformer.files import write_json
from minitransformer.recipes import Recipe, train_translator
from minitransformer.training import TrainingOptions

OURS = "minitransformer"
SEARCHES = {"greedy": 1, "beam 4": 4}


def peers_with(threads: int) -> dict[str, Any]:
    """Name what makes each peer; those in torch take its threads."""
    return {
        "CTranslate2": partial(CTranslate2, threads=threads),
        "CTranslate2, int8": partial(
            CTranslate2, quantization="int8", threads=threads
        ),
        "Hugging Face Marian": Marian,
        "JoeyNMT": Joey,
    }


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return what makes the model that is timed."""
    sizes = dict(SMALL if arguments.small else SIZES)
    vocab_size = sizes.pop("source_vocab_size")
    options = TrainingOptions(updates=arguments.updates, schedule="linear")
    return Recipe(sizes=sizes, vocab_size=vocab_size, options=options)


def train(arguments: argparse.Namespace) -> None:
    """Train the model that is timed, or go on."""
    folder = arguments.folder
    train_translator(
        load_corpus(arguments.corpus),
        folder,
        recipe_of(arguments),
        resume=(folder / "config.json").exists(),
        device="cpu",
    )
    (folder / "done").touch()


def trained(arguments: argparse.Namespace) -> Translator:
    """Return the model that is timed, trained now or before.

    A training keeps the memory it frees, and would leave that to what is
    timed after it: so it gets a process of its own.
    """
    folder, recipe = arguments.folder, asdict(recipe_of(arguments))
    claim(folder, {"corpus": arguments.corpus, **recipe})
    if not (folder / "done").exists():
        subprocess.run([sys.executable, *sys.argv, "--train"], check=True)
    return Translator.load(folder)


def choose_batches(
    translator: Translator, arguments: argparse.Namespace
) -> dict[int, list[Tensor]]:
    """Draw test sentences: some alone, and some batches of 64.

    A batch holds sentences of like length, as `Translator` makes them.
    """
    singles, batches = (3, 1) if arguments.small else (24, 3)
    corpus = load_corpus(arguments.corpus)
    lines = {pair.source for pair in corpus.splits["test"]}
    ids = encode_source(translator.source_tokenizer, sorted(lines))
    ids.sort(key=len)
    rng = random.Random(0)
    starts = range(0, len(ids) - 63, 64)
    return {
        1: [pad([row]) for row in rng.sample(ids, singles)],
        64: [
            pad(ids[start : start + 64])
            for start in rng.sample(starts, batches)
        ],
    }


class Search:
    """A search of one candidate over a list of batches.

    Args:
        candidate: Its ``search`` is timed.
        batches: Source ids.
        beams: 1 is greedy.
        limits: Most tokens for each batch.
    """

    def __init__(
        self,
        candidate: Any,
        batches: list[Tensor],
        beams: int,
        limits: list[int],
    ):
        self.candidate, self.beams = candidate, beams
        self.batches, self.limits = batches, limits

    def __call__(self) -> list[list[int]]:
        return [
            ids
            for source, limit in zip(self.batches, self.limits, strict=True)
            for ids in self.candidate.search(source, self.beams, limit)
        ]


def engines(
    arguments: argparse.Namespace, names: Sequence[str] = ()
) -> tuple[dict[tuple[str, int], dict[str, Search]], list[str]]:
    """Make ready what is timed.

    Args:
        arguments: The command line's.
        names: Of the engines that are wanted; all, if there are none.

    Returns:
        For each search and size of a batch, name to search; and the names of
        the engines that are not here.
    """
    translator = trained(arguments)
    model = translator.model
    kinds = peers_with(arguments.threads)
    wanted = {name: kinds[name] for name in names or kinds if name != OURS}
    peers, missing = installed(wanted, model)
    for peer in peers.values():
        if isinstance(peer, torch.nn.Module):
            peer.eval()
    made = {}
    batches = choose_batches(translator, arguments)
    for search, beams in SEARCHES.items():
        for size, sources in batches.items():
            limits = [length_limit(model, source) for source in sources]
            made[search, size] = {
                name: Search(each, sources, beams, limits)
                for name, each in {OURS: Ours(model), **peers}.items()
            }
    return made, missing


def work(arguments: argparse.Namespace) -> None:
    """Be the process of one engine."""
    name, search, size = arguments.worker
    if name.startswith("CTranslate2"):
        # It shares OpenMP with torch, whose idle threads count as well:
        # where there are more than processors, all go to sleep at once.
        torch.set_num_threads(1)
    made, _ = engines(arguments, [name])
    serve(made[search, int(size)][name], clock_for(arguments.threads))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time every search of every candidate."""
    made, missing = engines(arguments)
    rounds, threads = arguments.rounds, arguments.threads
    settings = []
    for (search, size), searches in made.items():
        found = {name: each() for name, each in searches.items()}
        ours = found[OURS]
        if threads == 1:
            times = alternate(searches, rounds, enough=sharp(OURS))
        else:
            times = alternate_apart(
                {
                    name: [*sys.argv, "--worker", name, search, str(size)]
                    for name in searches
                },
                rounds,
                enough=sharp(OURS),
            )
        settings.append(
            {
                "search": search,
                "batch": size,
                "sentences": len(ours),
                "tokens": sum(map(len, ours)) / len(ours),
                "same_translations": {
                    name: sum(map(list.__eq__, ours, theirs)) / len(ours)
                    for name, theirs in found.items()
                },
                "sentences_per_second": {
                    name: round(len(ours) / sorted(each)[len(each) // 2], 1)
                    for name, each in times.items()
                },
                "times_as_fast": {
                    name: ratio(each, times[OURS])
                    for name, each in times.items()
                    if name != OURS
                },
            }
        )
    return {
        "surroundings": surroundings(*PACKAGES),
        "clock": "processor" if threads == 1 else "wall",
        "precision": "fp32",
        "not_measured": missing,
        "settings": settings,
    }


def main() -> None:
    """Measure, write the result and show it."""
    parser = CommandLine(
        "decoding_speed", __doc__, rounds=9, folder=True, threads=True
    )
    parser.add_argument("--corpus", default="multi30k-en-de")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.read()
    if arguments.train:
        train(arguments)
        return
    if arguments.worker:
        work(arguments)
        return
    result = {
        "corpus": arguments.corpus,
        "sizes": SMALL if arguments.small else SIZES,
        "updates": arguments.updates,
        **measure(arguments),
    }
    write_json(arguments.out, result)
    for setting in result["settings"]:
        print(setting["search"], "batch", setting["batch"])
        for name, found in setting["times_as_fast"].items():
            same = setting["same_translations"][name]
            print(
                f"  {found['median']} [{found['low']}, {found['high']}] x"
                f" {name} ({same:.1%} the same)"
            )


if __name__ == "__main__":
    main()
