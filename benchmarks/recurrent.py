"""What attention brought to recurrent translators, and what leaving out the
recurrence brought then.

    python benchmarks/recurrent.py

Three questions. How does BLEU fall with the length of a sentence, with
attention and without? How does the time of a layer grow with the length, with
recurrence and with attention? How much of the last output's gradient reaches
the first input? The first takes about twenty minutes on one thread; a run that
is interrupted goes on where it stopped. Results go to
``minitransformer/results/recurrent.json``.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import alternate, mean_interval, ratio, surroundings
from places import CommandLine, claim
from small_runs import once
from torch import Tensor, nn

from minitransformer import (
    MultiHeadAttention,
    RecurrentConfig,
    RecurrentTranslator,
    Tokenizer,
    TrainingOptions,
    greedy_decode,
)
from minitransformer.counting import count_parameters
from minitransformer.data import Example, encode_pairs, make_batch
from minitransformer.evaluation import alignment_error, attention_links, bleu
from minitransformer.files import write_json
from minitransformer.storybook import StoryPair, splits, words
from minitransformer.training import Trainer

KINDS = ("none", "dot", "additive")
BUCKETS = ((1, 6), (7, 9), (10, 12), (13, 15), (16, 99))  # words of the source
# The second joins two clauses like the first by "and" or "but": the same words
# and constructions, twice as long.
CLAUSES = ("transitive", "two_clauses")
OPTIONS = TrainingOptions(
    updates=480,
    batch_tokens=1_024,
    learning_rate=5e-3,
    warmup=60,
    label_smoothing=0.0,
    average=0.98,
    validate_every=160,
    precision="fp32",
)
WIDTH, HEADS, BATCH = 256, 8, 8
LENGTHS = [16, 32, 64, 128, 256, 512, 1_024]
CLOCKS: dict[str, tuple[int, Callable[[], float]]] = {
    "processor": (1, time.process_time),
    "wall_1": (1, time.perf_counter),
    "wall_2": (2, time.perf_counter),  # means little on a busy machine
}
REACHES = [2, 4, 8, 16, 32, 64, 128, 256]


# How BLEU falls with the length ---


def config_for(kind: str, vocab_size: int, width: int) -> RecurrentConfig:
    """Give every kind the parameters of the additive one, or a few more."""
    additive = RecurrentConfig(source_vocab_size=vocab_size, d_model=width)
    wanted = count_parameters(RecurrentTranslator(additive))
    config = additive
    while kind != "additive":
        config = RecurrentConfig(
            source_vocab_size=vocab_size, d_model=width, attention=kind
        )
        if count_parameters(RecurrentTranslator(config)) >= wanted:
            break
        width += 2
    return config


def alike(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Put sentences of like length together, a hundred at a time."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].source))
    for start in range(0, len(order), 100):
        yield order[start : start + 100]


def translate(
    model: RecurrentTranslator, examples: Sequence[Example]
) -> list[list[int]]:
    """Translate greedily."""
    found: list[list[int]] = [[] for _ in examples]
    for rows in alike(examples):
        source = make_batch([examples[i] for i in rows]).source
        for i, ids in zip(rows, greedy_decode(model, source), strict=True):
            found[i] = ids
    return found


def alignment_errors(
    model: RecurrentTranslator,
    tokenizer: Tokenizer,
    pairs: Sequence[StoryPair],
    examples: Sequence[Example],
) -> dict[str, float]:
    """Compare where the model looks with the true alignment.

    A word can be looked up in the row that predicts it, or in the row after,
    which reads it. A third number is that of no model at all: the same place
    in the other sentence.
    """
    found: dict[str, list[Any]] = {"predicting": [], "reading": []}
    same_place, gold = [], []
    for rows in alike(examples):
        batch = make_batch([examples[i] for i in rows])
        maps = model.alignment(batch.source, batch.decoder_input)
        for i, weights in zip(rows, maps, strict=True):
            pair = pairs[i]
            source, target = words(pair.source), words(pair.target)
            owners = (
                tokenizer.word_ids(pair.source, source),
                tokenizer.word_ids(pair.target, target),
            )
            for row, name in enumerate(found):
                found[name].append(attention_links(weights[row:], *owners))
            S, T = len(source), len(target)
            same_place.append({(t * S // T, t) for t in range(T)})
            gold.append(pair.alignment)
    return {
        name: alignment_error(links, gold).value
        for name, links in (*found.items(), ("same_place", same_place))
    }


def train(
    kind: str, seed: int, stories: dict[str, Any], folder: Path, small: bool
) -> dict[str, Any]:
    """Train one translator, translate the test, and score it by length."""
    pairs, examples, tokenizer = (
        stories["pairs"],
        stories["examples"],
        stories["tokenizer"],
    )
    changes = {"updates": 4, "validate_every": 2} if small else {}
    options = TrainingOptions(**asdict(OPTIONS) | changes | {"seed": seed})
    torch.manual_seed(seed)
    width = 16 if small else 96
    config = config_for(kind, tokenizer.vocab_size, width)
    torch.manual_seed(seed)
    model = RecurrentTranslator(config)
    trainer = Trainer(model, examples["train"], examples["valid"], options)
    if (folder / "last.safetensors").exists():
        trainer.load(folder / "last.safetensors")
    trainer.run(folder, print)
    best = trainer.averaged
    references = [pair.target for pair in pairs["test"]]
    translations = [
        tokenizer.decode(ids) for ids in translate(best, examples["test"])
    ]

    def score(rows: Sequence[int]) -> dict[str, float]:
        """Score some sentences of the test."""
        found = bleu(
            [translations[i] for i in rows], [[references[i]] for i in rows]
        )
        right = sum(translations[i] == references[i] for i in rows)
        return {
            "sentences": len(rows),
            "bleu": found.value,
            "exact": right / len(rows),
        }

    lengths = [len(words(pair.source)) for pair in pairs["test"]]
    by_length = []
    for low, high in (*BUCKETS, (1, 99)):
        rows = [i for i, length in enumerate(lengths) if low <= length <= high]
        by_length.append({"words": [low, high], **score(rows)})
    by_clauses = {}
    for pattern in CLAUSES:
        rows = [i for i, p in enumerate(pairs["test"]) if p.pattern == pattern]
        mean = statistics.mean(lengths[i] for i in rows)
        by_clauses[pattern] = {"mean_words": mean, **score(rows)}
    result = {
        "kind": kind,
        "seed": seed,
        "config": asdict(config),
        "parameters": count_parameters(model),
        "core_seconds": trainer.core_seconds,
        "history": trainer.history,
        "valid_loss": trainer.history[-1]["valid_loss"],
        "scores": by_length,
        "clauses": by_clauses,
        "signature": bleu([""], [["a"]]).signature,
    }
    if kind != "none":
        result["alignment_error"] = alignment_errors(
            best, tokenizer, pairs["test"], examples["test"]
        )
    return result


def tell_stories(small: bool) -> dict[str, Any]:
    """Make the corpus and turn it into ids."""
    sizes = (300, 30, 60, 0) if small else (60_000, 1_000, 2_000, 0)
    pairs = splits(*sizes)
    lines = [
        line for pair in pairs["train"] for line in (pair.source, pair.target)
    ]
    tokenizer = Tokenizer.train(lines, 200 if small else 2_000)
    examples = {
        name: encode_pairs(pairs[name], tokenizer, tokenizer, 256)
        for name in ("train", "valid", "test")
    }
    return {"pairs": pairs, "examples": examples, "tokenizer": tokenizer}


def kept(run: dict[str, Any]) -> float:
    """Return the BLEU of two clauses over that of one."""
    one, two = (run["clauses"][pattern]["bleu"] for pattern in CLAUSES)
    return two / one if one else 0.0


def bottleneck(folder: Path, small: bool) -> dict[str, Any]:
    """Train every kind with three seeds; a finished run is not repeated."""
    stories: dict[str, Any] = {}
    runs = []
    for seed in range(3):  # seed by seed, so that half of it is of use
        for kind in KINDS:
            place = folder / f"{kind}-{seed}"
            if not (place / "result.json").exists():
                stories = stories or tell_stories(small)
            work = partial(train, kind, seed, stories, place, small)
            runs.append(once(place / "result.json", work))
            total = runs[-1]["scores"][-1]
            print(kind, seed, total, flush=True)
    first = runs[0]
    groups = range(len(first["scores"]))
    by_kind = {
        kind: [run for run in runs if run["kind"] == kind] for kind in KINDS
    }
    kinds = {
        kind: {
            "parameters": mine[0]["parameters"],
            "valid_loss": mean_interval([run["valid_loss"] for run in mine]),
            "bleu": [
                mean_interval([run["scores"][i]["bleu"] for run in mine])
                for i in groups
            ],
            "clauses": {
                name: mean_interval(
                    [run["clauses"][name]["bleu"] for run in mine]
                )
                for name in CLAUSES
            },
            "kept": mean_interval([kept(run) for run in mine]),
        }
        for kind, mine in by_kind.items()
    }
    gain = {  # over no attention, within each seed
        kind: [
            mean_interval(
                [
                    run["scores"][i]["bleu"] - none["scores"][i]["bleu"]
                    for run, none in zip(
                        by_kind[kind], by_kind["none"], strict=True
                    )
                ]
            )
            for i in groups
        ]
        for kind in KINDS[1:]
    }
    return {
        "words": [score["words"] for score in first["scores"]],
        "sentences": [score["sentences"] for score in first["scores"]],
        "clauses": {
            name: {
                "mean_words": score["mean_words"],
                "sentences": score["sentences"],
            }
            for name, score in first["clauses"].items()
        },
        "options": asdict(OPTIONS),
        "kinds": kinds,
        "gain": gain,
        "runs": runs,
    }


# How time grows with the length ---


def passes(layer: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Any]:
    """Return a forward pass, and one with its backward pass."""

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer(x).sum().backward()

    return {"forward": forward, "both": both}


def layer_times(
    threads: int,
    clock: Callable[[], float],
    rounds: int,
    lengths: Sequence[int],
) -> dict[str, Any]:
    """Time one layer of each kind, in turn."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
    attention = MultiHeadAttention(WIDTH, HEADS)
    layers = {
        "gru": lambda x: gru(x)[0],
        "attention": lambda x: attention(x, x, x),
    }
    found: dict[str, Any] = {
        name: {"gru": [], "attention": [], "gru_over_attention": []}
        for name in ("forward", "both")
    }
    for length in lengths:
        x = torch.randn(BATCH, length, WIDTH, requires_grad=True)
        candidates = {
            f"{name} {kind}": run
            for name, layer in layers.items()
            for kind, run in passes(layer, x).items()
        }
        times = alternate(candidates, rounds, clock)
        for kind, row in found.items():
            for name in layers:
                median = statistics.median(times[f"{name} {kind}"])
                row[name].append(median)
            row["gru_over_attention"].append(
                ratio(times[f"gru {kind}"], times[f"attention {kind}"])
            )
        print(
            length, *(row["gru_over_attention"][-1] for row in found.values())
        )
    torch.set_num_threads(1)
    return found


# How far a gradient reaches ---


def reach(layer: Callable[[Tensor], Tensor], length: int) -> float:
    """Compare what the first and the last input do to the last output.

    The output's numbers are added up with random signs.
    """
    x = torch.randn(1, length, WIDTH, requires_grad=True)
    signs = torch.randn(WIDTH).sign()
    (layer(x)[0, -1] @ signs).backward()
    assert x.grad is not None
    first, last = x.grad[0, 0].norm(), x.grad[0, -1].norm()
    return float(first / last)


def reaches(seeds: int) -> dict[str, Any]:
    """Follow the gradient back at initialisation."""
    found: dict[str, Any] = {"lengths": REACHES, "gru": [], "attention": []}
    for length in REACHES:
        rows: dict[str, list[float]] = {"gru": [], "attention": []}
        for seed in range(seeds):
            torch.manual_seed(seed)
            gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
            attention = MultiHeadAttention(WIDTH, HEADS)
            rows["gru"].append(reach(lambda x, gru=gru: gru(x)[0], length))
            rows["attention"].append(
                reach(lambda x, layer=attention: layer(x, x, x), length)
            )
        for name, row in rows.items():
            found[name].append(row)
    return found


def main() -> None:
    """Measure and write the result."""
    arguments = CommandLine(
        "recurrent", __doc__, rounds=15, folder=True
    ).read()
    folder, small = arguments.folder, arguments.small
    claim(folder, {"small": small, "rounds": arguments.rounds})
    lengths = LENGTHS[:2] if small else LENGTHS
    result: dict[str, Any] = {
        "surroundings": surroundings(),
        "bottleneck": bottleneck(folder, small),
        "reach": once(
            folder / "reach.json", lambda: reaches(2 if small else 10)
        ),
        "speed": {
            "width": WIDTH,
            "heads": HEADS,
            "batch": BATCH,
            "lengths": lengths,
        },
    }
    for name, (threads, clock) in CLOCKS.items():
        work = partial(layer_times, threads, clock, arguments.rounds, lengths)
        result["speed"][name] = once(folder / f"{name}.json", work)
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
