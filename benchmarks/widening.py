"""What does the feed-forward layer buy, and how wide should it be?

    python benchmarks/widening.py
    python benchmarks/widening.py --share 0/2

Small translators learn the storybook. The inner width of their feed-forward
layers is 0 (no such layer), 1, 2, 4 or 8 times the outer width: first at one
outer width, then at outer widths that make all models about as large. One
more has four times the width and no ReLU. For one seed all see the same
batches. Four of them are trained again, longer.

The feed-forward layers of those with ratio 4 are then looked into: how many
of their units a token switches on, and which tokens switch on which unit.
"""

from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from measuring import mean_interval, surroundings
from places import claim
from small_runs import Storybook, command_line, run_all, train
from torch import Tensor, nn

from minitransformer import FeedForward, Transformer
from minitransformer.counting import count_parameters, matmul_flops
from minitransformer.data import bucketed, make_batch
from minitransformer.files import write_json
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.training import TrainingOptions, layers_of

USUAL = 4  # times the outer width
TOP = 5  # tokens that are named for a unit


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    width: int = 96
    ratios: tuple[int, ...] = (0, 1, 2, 4, 8)
    heads: int = 4
    layers: int = 2
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    updates: int = 360
    long_seeds: tuple[int, ...] = (0, 1, 2)
    long_updates: int = 1_000
    warmup: int = 100
    batch_tokens: int = 768
    learning_rate: float = 3e-3
    vocabulary: int = 2_000
    pairs: int = 60_000
    test_pairs: int = 300
    shown: int = 12  # units of a layer that are described


SMALL = Plan(
    width=16,
    ratios=(0, 4),
    layers=1,
    seeds=(0, 1),
    updates=3,
    long_seeds=(0, 1),
    long_updates=4,
    warmup=2,
    vocabulary=400,
    pairs=200,
    test_pairs=12,
    shown=2,
)


class Straight(FeedForward):
    """The feed-forward layer with its ReLU left out."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (..., D)`` to ``(..., D)``, by one product in disguise."""
        output: Tensor = self.linear2(self.dropout(self.linear1(x)))
        return output


class Nothing(nn.Module):
    """A sublayer that adds nothing to the residual."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Shape:
    """What is changed from run to run."""

    width: int
    ratio: int
    relu: bool = True
    long: bool = False

    @property
    def name(self) -> str:
        """A name for the folder of its runs."""
        end = ("" if self.relu else "-straight") + "-long" * self.long
        return f"width{self.width}-ratio{self.ratio}{end}"


def build(plan: Plan, book: Storybook, shape: Shape) -> Transformer:
    """Make a model with feed-forward layers of that shape."""
    d_ff = max(shape.ratio, 1) * shape.width
    model = Transformer(
        book.config(shape.width, plan.heads, plan.layers, d_ff=d_ff)
    )
    for each in layers_of(model):
        layer = cast(EncoderLayer | DecoderLayer, each)
        if shape.ratio == 0:
            last = (
                layer.add_norm3
                if isinstance(layer, DecoderLayer)
                else layer.add_norm2
            )
            last.norm.requires_grad_(False)  # it has nothing to normalise
            layer.feed_forward = cast(FeedForward, Nothing())
        elif not shape.relu:
            straight = Straight(shape.width, d_ff, model.config.dropout)
            straight.load_state_dict(layer.feed_forward.state_dict())
            layer.feed_forward = straight
    return model


def as_large(plan: Plan, book: Storybook, ratio: int) -> int:
    """Return the outer width that makes a model as large as the usual one."""
    wanted = count_parameters(build(plan, book, Shape(plan.width, USUAL)))

    def miss(width: int) -> int:
        found = count_parameters(build(plan, book, Shape(width, ratio)))
        return abs(found - wanted)

    widths = range(plan.heads, 3 * plan.width, plan.heads)
    return min(widths, key=miss)


def shapes(plan: Plan, book: Storybook) -> dict[str, list[Shape]]:
    """List what is trained, by what is held equal."""
    return {
        "equal width": [Shape(plan.width, ratio) for ratio in plan.ratios],
        "equal parameters": [
            Shape(
                plan.width if ratio == USUAL else as_large(plan, book, ratio),
                ratio,
            )
            for ratio in plan.ratios
        ],
        "no ReLU": [Shape(plan.width, USUAL, relu=False)],
        "longer": [
            Shape(plan.width, USUAL, long=True),
            Shape(as_large(plan, book, 0), 0, long=True),
            Shape(plan.width, USUAL, relu=False, long=True),
            Shape(plan.width, 0, long=True),
        ],
    }


def seeds_of(plan: Plan, shape: Shape) -> tuple[int, ...]:
    """Return the seeds that a shape is trained with."""
    return plan.long_seeds if shape.long else plan.seeds


def run(
    plan: Plan, book: Storybook, shape: Shape, seed: int
) -> dict[str, Any]:
    """Train one translator, score it, and look into it if it is a usual."""
    torch.manual_seed(seed)
    options = TrainingOptions(
        updates=plan.long_updates if shape.long else plan.updates,
        warmup=plan.warmup,
        batch_tokens=plan.batch_tokens,
        learning_rate=plan.learning_rate,
        label_smoothing=0.0,
        precision="fp32",
        seed=seed,
    )
    model, scores = train(build(plan, book, shape), book, options)
    ids = torch.ones(1, 16, dtype=torch.long)
    found = {
        **asdict(shape),
        "seed": seed,
        **scores,
        "flops_per_token": matmul_flops(model, ids, ids) / 16,
    }
    if shape.ratio == USUAL and shape.relu and not shape.long:
        found["units"] = look_into(plan, model, book)
    return found


# Looking in ---


@torch.no_grad()
def inner_numbers(
    model: Transformer, book: Storybook
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what each feed-forward layer computes inside, on the tests.

    Returns:
        Layer name to token ids ``(N,)`` and what its ReLU returns for them,
        ``(N, d_ff)``; padding is left out.
    """
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str, _: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.setdefault(name, []).append(output.relu())

    hooks = [
        module.linear1.register_forward_hook(partial(keep, name))
        for name, module in model.named_modules()
        if isinstance(module, FeedForward)
    ]
    ids: dict[str, list[Tensor]] = {"encoder": [], "decoder": []}
    for group in bucketed(book.examples["test"], 2_048, seed=0):
        batch = make_batch(group)
        model(batch.source, batch.decoder_input)
        ids["encoder"].append(batch.source)
        ids["decoder"].append(batch.decoder_input)
    for hook in hooks:
        hook.remove()
    found = {}
    for name, parts in kept.items():
        stack = ids[name.split(".")[0]]
        pairs = list(zip(stack, parts, strict=True))
        found[name] = (
            torch.cat([i[i != 0] for i, _ in pairs]),
            torch.cat([h[i != 0] for i, h in pairs]),
        )
    return found


def look_into(
    plan: Plan, model: Transformer, book: Storybook
) -> dict[str, dict[str, Any]]:
    """Describe the units of each feed-forward layer."""
    found = {}
    for name, (ids, inner) in inner_numbers(model, book).items():
        on = (inner > 0).float()  # (N, d_ff)
        totals = torch.zeros(book.tokenizer.vocab_size, inner.shape[1])
        totals.index_add_(0, ids, inner)
        shares = totals / totals.sum(dim=0).clamp(min=1e-9)
        counts = torch.bincount(ids, minlength=len(totals)) / len(ids)
        step = inner.shape[1] // plan.shown
        found[name] = {
            "tokens": len(ids),
            "units": inner.shape[1],
            "on_per_token": on.mean().item(),
            "never_on": (on.sum(dim=0) == 0).float().mean().item(),
            "always_on": (on.mean(dim=0) == 1).float().mean().item(),
            "on_per_unit": on.mean(dim=0)
            .quantile(torch.tensor([0.1, 0.5, 0.9]))
            .tolist(),
            "commonest_token": counts.max().item(),
            # Of what a unit says in all, how much on its favourite token.
            "favourite_share": shares.amax(dim=0)
            .quantile(torch.tensor([0.1, 0.5, 0.9]))
            .tolist(),
            "some_units": [  # every so many, not the nicest
                describe(book, shares[:, unit], counts, on[:, unit])
                | {"unit": unit}
                for unit in range(0, inner.shape[1], step)[: plan.shown]
            ],
        }
    return found


def describe(
    book: Storybook, shares: Tensor, counts: Tensor, on: Tensor
) -> dict[str, Any]:
    """Name the tokens that a unit answers to most."""
    best = shares.topk(TOP)
    return {
        "on": on.mean().item(),
        "tokens": [
            {
                "token": book.tokenizer.tokens([i])[0],
                "share": round(share, 3),
                "of_all_tokens": round(counts[i].item(), 4),
            }
            for share, i in zip(
                best.values.tolist(), best.indices.tolist(), strict=True
            )
        ],
    }


# All together ---


def summary(
    runs: dict[str, dict[str, Any]], plan: Plan, shape: Shape
) -> dict[str, Any]:
    """Put the seeds of one shape together.

    They are compared, seed by seed, with those of the usual shape, and of the
    usual width without a net, trained as long.
    """
    seeds = seeds_of(plan, shape)
    others = {
        "usual": Shape(plan.width, USUAL, long=shape.long),
        "none": Shape(plan.width, 0, long=shape.long),
    }

    def every(which: Shape, key: str) -> list[float]:
        return [runs[f"{which.name}-seed{seed}"][key] for seed in seeds]

    first = runs[f"{shape.name}-seed{seeds[0]}"]
    result = asdict(shape) | {
        key: first[key] for key in ("parameters", "flops_per_token")
    }
    for key in ("valid_loss", "bleu"):
        ours = every(shape, key)
        result[key] = mean_interval(ours)
        for name, other in others.items():
            result[f"{key}_beyond_{name}"] = mean_interval(
                [a - b for a, b in zip(ours, every(other, key), strict=True)]
            )
    return result


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("widening", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    book = cache(lambda: Storybook(plan))
    groups = shapes(plan, book())
    different = dict.fromkeys(s for group in groups.values() for s in group)
    jobs = {
        f"{shape.name}-seed{seed}": partial(run, plan, book(), shape, seed)
        for seed in plan.seeds
        for shape in different
        if not shape.long
    }
    jobs |= {
        f"{shape.name}-seed{seed}": partial(run, plan, book(), shape, seed)
        for shape in groups["longer"]
        for seed in plan.long_seeds
    }
    runs = run_all(jobs, arguments.folder, arguments.share or (0, 1))
    if arguments.share is None:
        for each in runs.values():  # units by name of one seed will do
            for layer in each.get("units", {}).values():
                if each["seed"] != plan.seeds[0]:
                    del layer["some_units"]
        result = {
            "surroundings": surroundings(),
            "plan": asdict(plan),
            "compared": {
                name: [summary(runs, plan, shape) for shape in group]
                for name, group in groups.items()
            },
            "runs": [r for r in runs.values() if not r.get("long")],
            "longer_runs": [r for r in runs.values() if r.get("long")],
        }
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
