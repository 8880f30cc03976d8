"""What do many heads change: the speed, the quality, and which head does what?

    python benchmarks/heads.py
    python benchmarks/heads.py --share 0/2

Small translators learn the storybook with 1 to 16 heads, at two widths. For
one seed all head counts begin with the same weights and see the same batches:
only the splitting differs. A run that is finished is kept in ``--folder`` and
not repeated; ``--share 1/2`` does every second one and stops, so that two
processes can divide them; a last call without it puts all together.

The models with eight heads of the greater width are then looked into: each
head is silenced alone, many are silenced together, and their patterns are
compared. About half an hour on one thread; times are processor time.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from measuring import alternate, ratio, surroundings
from places import claim
from small_runs import (
    Storybook,
    bleu_of,
    command_line,
    once,
    run_all,
    storybook,
    train,
)
from torch import Tensor
from torch.testing import assert_close

from minitransformer import Transformer, Translator
from minitransformer.attention import scaled_dot_product_attention
from minitransformer.data import (
    Batch,
    Example,
    bucketed,
    make_batch,
)
from minitransformer.files import read_json, write_json
from minitransformer.heads import heads_of, map_distances, pruned
from minitransformer.recording import recorded_attention
from minitransformer.training import TrainingOptions, translation_loss

LOOKED_INTO = 8  # heads


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    widths: tuple[int, ...] = (64, 128)
    heads: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    looked_into: int = 3  # seeds
    layers: int = 2
    updates: int = 500
    warmup: int = 100
    batch_tokens: int = 768
    learning_rate: float = 3e-3
    vocabulary: int = 2_000
    pairs: int = 60_000
    test_pairs: int = 500
    judged: int = 120
    timed_heads: tuple[int, ...] = (2, 8, 16)
    rounds: int = 15


SMALL = Plan(
    widths=(16, 32),
    heads=(1, 8),
    seeds=(0,),
    layers=1,
    updates=3,
    warmup=2,
    vocabulary=400,
    pairs=200,
    test_pairs=24,
    judged=4,
    timed_heads=(4,),
    rounds=1,
)

# Speed ---

# A batch of short sentences, one sentence, a few long texts: (B, T).
BATCHES = {"short": (64, 16), "alone": (1, 16), "long": (2, 256)}
SPEED_WIDTH = 256
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


def as_one(x: Tensor, weights: Weights, num_heads: int) -> Tensor:
    """Attend in all heads at once, ``(B, H, T, d_k)``."""
    w_q, w_k, w_v, w_o = weights
    q, k, v = (
        (x @ w).unflatten(-1, (num_heads, -1)).transpose(1, 2)
        for w in (w_q, w_k, w_v)
    )
    heads, _ = scaled_dot_product_attention(q, k, v)
    return heads.transpose(1, 2).flatten(-2) @ w_o


def folded(x: Tensor, weights: Weights, num_heads: int) -> Tensor:
    """Attend with the heads folded into the batch, ``(B·H, T, d_k)``."""
    w_q, w_k, w_v, w_o = weights
    q, k, v = (
        (x @ w).unflatten(-1, (num_heads, -1)).transpose(1, 2).flatten(0, 1)
        for w in (w_q, w_k, w_v)
    )
    heads, _ = scaled_dot_product_attention(q, k, v)
    heads = heads.unflatten(0, (-1, num_heads))
    return heads.transpose(1, 2).flatten(-2) @ w_o


def looped(x: Tensor, parts: list[Weights], w_o: Tensor) -> Tensor:
    """Attend in one head after the other, each with its own matrices."""
    heads = [
        scaled_dot_product_attention(x @ w_q, x @ w_k, x @ w_v)[0]
        for w_q, w_k, w_v in parts
    ]
    return torch.cat(heads, dim=-1) @ w_o


def time_forms(
    name: str, num_heads: int, training: bool, rounds: int
) -> dict[str, Any]:
    """Time the three forms on one batch, and see that they are equal."""
    torch.manual_seed(0)
    B, T = BATCHES[name]
    x = torch.randn(B, T, SPEED_WIDTH)
    weights = tuple(
        (torch.randn(SPEED_WIDTH, SPEED_WIDTH) / 16).requires_grad_(training)
        for _ in range(4)
    )
    parts = [
        tuple(
            part.detach().contiguous().requires_grad_(training)
            for part in three
        )
        for three in zip(
            *(w.chunk(num_heads, dim=1) for w in weights[:3]), strict=True
        )
    ]
    forms: dict[str, Callable[[], Tensor]] = {
        "as one": partial(as_one, x, weights, num_heads),
        "folded": partial(folded, x, weights, num_heads),
        "loop": partial(looped, x, parts, weights[3]),
    }
    for form in forms.values():
        assert_close(form(), forms["as one"](), rtol=1e-3, atol=1e-4)

    def work(form: Callable[[], Tensor]) -> None:
        for _ in range(10 if name == "alone" else 1):
            output = form()
            if training:
                output.sum().backward()

    times = alternate(
        {which: partial(work, form) for which, form in forms.items()}, rounds
    )
    return {
        "batch": name,
        "sentences": B,
        "length": T,
        "heads": num_heads,
        "training": training,
        "times_as_long_as_one": {
            which: ratio(times[which], times["as one"])
            for which in ("loop", "folded")
        },
    }


def measure_speed(plan: Plan) -> list[dict[str, Any]]:
    """Time all batches and numbers of heads."""
    return [
        time_forms(name, num_heads, training, plan.rounds)
        for name in BATCHES
        for num_heads in plan.timed_heads
        for training in (False, True)
    ]


# Quality ---


def build(plan: Plan, book: Storybook, width: int, heads: int) -> Transformer:
    """Make the model, the same weights for every number of heads."""
    return Transformer(book.config(width, heads, plan.layers))


def make(
    plan: Plan, width: int, heads: int, seed: int, place: Path
) -> dict[str, Any]:
    """Train one translator, score it, and keep it to be looked into."""
    book = storybook(plan)
    torch.manual_seed(seed)
    options = TrainingOptions(
        updates=plan.updates,
        warmup=plan.warmup,
        batch_tokens=plan.batch_tokens,
        learning_rate=plan.learning_rate,
        label_smoothing=0.0,
        precision="fp32",
        seed=seed,
    )
    model, scores = train(build(plan, book, width, heads), book, options)
    Translator(model, book.tokenizer, book.tokenizer).save(place)
    return {"width": width, "heads": heads, "seed": seed} | scores


def all_runs(
    plan: Plan, folder: Path
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name all runs and say how each is made."""
    runs = {}
    for seed in plan.seeds:
        for i, heads in enumerate(plan.heads):
            for width in plan.widths[:: (-1) ** i]:  # shares cost the same
                name = f"width{width}-heads{heads}-seed{seed}"
                runs[name] = partial(
                    make, plan, width, heads, seed, folder / name
                )
    return runs


# Looking in ---


@torch.no_grad()
def loss_of(model: Transformer, batches: list[Batch]) -> float:
    """Return the loss per token, in nats."""
    total = sum(translation_loss(model, batch).item() for batch in batches)
    return total / sum(batch.num_tokens for batch in batches)


@torch.no_grad()
def patterns(
    model: Transformer, examples: list[Example]
) -> tuple[dict[str, list[dict[str, float]]], dict[str, float]]:
    """Describe where heads look, sentence by sentence, without padding.

    Returns:
        For each attention, what share of its weight each head gives to the
        first token, the last, the token itself and the one before (from the
        third row on, where these differ), and what equal weights would give;
        and the mean distance of two of its heads: the share of its weight
        that one head would have to move to look as the other does.
    """
    sums: dict[str, Tensor] = {}
    even: dict[str, Tensor] = {}
    apart: dict[str, float] = {}
    for example in examples:
        batch = make_batch([example])
        with recorded_attention(model) as maps:
            model(batch.source, batch.decoder_input)
        for name, found in maps.items():
            weights = found[0]  # (H, T, S)
            allowed = (weights > 0).any(dim=0).float()
            equal = (allowed / allowed.sum(-1, keepdim=True))[None]
            between = map_distances(weights)
            pairs = combinations(range(len(weights)), 2)
            distance = statistics.mean(between[a, b].item() for a, b in pairs)
            n = len(examples)
            square = name.endswith("self_attention")
            apart[name] = apart.get(name, 0.0) + distance / n
            sums[name] = (
                sums.get(name, torch.zeros(())) + shares(weights, square) / n
            )
            even[name] = (
                even.get(name, torch.zeros(())) + shares(equal, square) / n
            )
    names = ("first", "last", "self", "previous")
    looks = {
        name: [
            dict(zip(names, row, strict=False))
            | {"even": dict(zip(names, even[name][0].tolist(), strict=False))}
            for row in sums[name].tolist()
        ]
        for name in sums
    }
    return looks, apart


def shares(weights: Tensor, square: bool) -> Tensor:
    """Return the shares of weights ``(H, T, S)``, a row for each head.

    Where queries are no keys there is neither "itself" nor "the one before".
    """
    T = weights.shape[1]
    rows = torch.arange(min(2, T - 1), T)
    columns = [weights[:, rows, 0], weights[:, rows, -1]]
    if square:
        columns += [weights[:, rows, rows], weights[:, rows, rows - 1]]
    return torch.stack([column.mean(-1) for column in columns], dim=-1)


def look_into(plan: Plan, place: Path) -> dict[str, Any]:
    """Silence heads of one trained model, and describe its patterns."""
    book = storybook(plan)
    model = Translator.load(place).model
    judged = book.examples["test"][: plan.judged]
    groups = bucketed(judged, 2_048, seed=0)
    batches = [make_batch(group) for group in groups]
    pairs = book.test[: plan.judged]
    every = heads_of(model)
    looks, apart = patterns(model, judged)
    heads = []
    for name, head in every:
        with pruned(model, [(name, head)]):
            heads.append(
                {
                    "attention": name,
                    "head": head,
                    "loss_without": loss_of(model, batches),
                    "bleu_without": bleu_of(model, book, pairs),
                    "looks": looks[name][head],
                }
            )
    by_use = [
        (head["attention"], head["head"])
        for head in sorted(heads, key=lambda head: head["loss_without"])
    ]
    step = max(1, len(every) // 12)
    gone = []
    for count in range(0, len(every) + 1, step):
        with pruned(model, by_use[:count]):
            gone.append(
                {
                    "silenced": count,
                    "loss": loss_of(model, batches),
                    "bleu": bleu_of(model, book, pairs),
                }
            )
    best_left = {}
    for name in dict.fromkeys(name for name, _ in every):
        best = next(h for n, h in reversed(by_use) if n == name)
        rest = [(n, h) for n, h in every if n == name and h != best]
        with pruned(model, rest):
            best_left[name] = loss_of(model, batches)
    run = read_json(place / "run.json")
    torch.manual_seed(run["seed"])
    fresh = build(plan, book, run["width"], run["heads"]).eval()
    return {
        "seed": run["seed"],
        "loss": loss_of(model, batches),
        "bleu": bleu_of(model, book, pairs),
        "heads": heads,
        "pruned": gone,
        "loss_with_one_head_left": best_left,
        "distance": apart,
        "distance_untrained": patterns(fresh, judged)[1],
    }


def looked_into(plan: Plan, folder: Path) -> list[Path]:
    """Name the folders of the models that are looked into."""
    width = plan.widths[-1]
    return [
        folder / f"width{width}-heads{LOOKED_INTO}-seed{seed}"
        for seed in plan.seeds[: plan.looked_into]
    ]


def gather(
    plan: Plan,
    folder: Path,
    runs: dict[str, dict[str, Any]],
    looked: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Time the forms, and put all together."""
    return {
        "surroundings": surroundings(),
        "plan": {
            name: getattr(plan, name)
            for name in (
                "layers",
                "updates",
                "batch_tokens",
                "learning_rate",
                "test_pairs",
                "judged",
            )
        },
        "runs": list(runs.values()),
        "looked_into": list(looked.values()),
        "speed_width": SPEED_WIDTH,
        "speed": once(folder / "speed.json", partial(measure_speed, plan)),
    }


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("heads", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    folder, share = arguments.folder, arguments.share or (0, 1)
    runs = run_all(all_runs(plan, folder), folder, share)
    places = looked_into(plan, folder)
    looked = run_all(
        {
            f"{place.name}/looked": partial(look_into, plan, place)
            for place in places
            if (place / "run.json").exists()
        },
        folder,
        share,
    )
    if not arguments.share:
        write_json(arguments.out, gather(plan, folder, runs, looked))


if __name__ == "__main__":
    main()
