"""What do residuals and norms do for a deep stack in training?

    python benchmarks/add_norm.py
    python benchmarks/add_norm.py --share 0/2

A small causal language model reads the French half of the storybook as one
running text. Its layers are the package's `EncoderLayer`s; only what is
wrapped around their sublayers differs. For one seed all wrappings begin with
the same matrices and see the same windows, and no window comes twice, so the
training loss is a loss on text never seen before. No gradient is clipped:
clipping would hide what is compared.

Two questions. Do deep stacks without residuals learn worse than shallow ones?
And where should the norm stand: before or after, with and without warm-up, at
two learning rates? What has not begun to learn after 180 updates may do so
later, so some runs are longer. About 40 minutes on one thread.

The training losses with a batch norm can't be compared: in training, its means
are over the whole window and so over the tokens to come.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from measuring import mean_interval, surroundings
from places import claim
from small_runs import Sizes, command_line, run_all, storybook
from torch import Tensor, nn

from minitransformer import (
    AddNorm,
    EncoderLayer,
    LayerNorm,
    SinusoidalPositions,
    causal_mask,
)
from minitransformer.counting import count_parameters
from minitransformer.files import write_json


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    width: int = 64
    heads: int = 4
    depths: tuple[int, ...] = (2, 6, 24)
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (1e-3, 3e-3)
    warmups: tuple[int, ...] = (0, 45)
    updates: int = 180
    windows: int = 8  # in a batch
    length: int = 32
    judged: int = 20  # last updates, whose mean is the final training loss
    quality_seeds: tuple[int, ...] = (0, 1, 2, 3)
    long_updates: int = 800
    long_warmups: tuple[int, ...] = (45, 400)
    vocabulary: int = 500
    pairs: int = 16_000
    test_pairs: int = 500


SMALL = Plan(
    width=16,
    heads=2,
    depths=(2, 3),
    seeds=(0, 1),
    warmups=(0, 2),
    updates=4,
    windows=4,
    length=8,
    judged=2,
    quality_seeds=(0, 1),
    long_updates=5,
    long_warmups=(2, 3),
    vocabulary=300,
    pairs=200,
    test_pairs=24,
)

# The wrappings ---

Sublayer = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """The sublayer alone."""

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Wrap nothing around ``sublayer``."""
        return sublayer(x)


class Normed(nn.Module):
    """The sublayer, then a norm; no residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Normalise what ``sublayer`` gives."""
        found: Tensor = self.norm(sublayer(x))
        return found


class Residual(nn.Module):
    """The sublayer beside an identity path; no norm."""

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Add what ``sublayer`` gives."""
        return x + sublayer(x)


class BatchNorm(nn.Module):
    """One mean and variance for each feature, over all windows and places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (B, T, D)``; torch wants the features second."""
        found: Tensor = self.norm(x.mT).mT
        return found


def pre_with_batch_norm(width: int) -> AddNorm:
    """Make a pre-norm wrapping with the other norm."""
    wrapping = AddNorm(width, norm_first=True)
    wrapping.norm = BatchNorm(width)  # type: ignore[assignment]
    return wrapping


WRAPPINGS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda width: Plain(),
    "norm": Normed,
    "residual": lambda width: Residual(),
    "post": AddNorm,
    "pre": partial(AddNorm, norm_first=True),
    "pre, no last norm": partial(AddNorm, norm_first=True),
    "pre, batch norm": pre_with_batch_norm,
}
LAST: dict[str, Callable[[int], nn.Module]] = {
    "pre": LayerNorm,
    "pre, batch norm": BatchNorm,
}

# Compared seed by seed: the first minus the second.
COMPARED = (
    ("pre", "post"),
    ("pre", "residual"),
    ("norm", "plain"),
    ("pre, batch norm", "pre"),
    ("pre, no last norm", "pre"),
)

# The model and its text ---


class LanguageModel(nn.Module):
    """Say which token comes next, from those before."""

    def __init__(self, plan: Plan, vocab_size: int, kind: str, depth: int):
        super().__init__()
        width = plan.width
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = SinusoidalPositions(width, plan.length)
        self.layers = nn.ModuleList(
            EncoderLayer(width, plan.heads, 4 * width) for _ in range(depth)
        )
        # As in the package's Transformer, but for the smaller queries.
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.layers:
            layer.add_norm1 = WRAPPINGS[kind](width)
            layer.add_norm2 = WRAPPINGS[kind](width)
        self.last = LAST.get(kind, nn.Identity)(width)
        self.register_buffer("mask", causal_mask(plan.length))

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``(B, T, V)`` for ids ``(B, T)``."""
        scale = math.sqrt(self.embedding.embedding_dim)
        x = self.positions(scale * self.embedding(ids))
        for layer in self.layers:
            x = layer(x, self.mask)
        found: Tensor = self.last(x) @ self.embedding.weight.T
        return found


@cache
def windows(plan: Sizes, split: str, length: int) -> Tensor:
    """Cut the running text into windows of ``length + 1`` tokens."""
    examples = storybook(plan).examples[split]
    ids = torch.tensor([i for each in examples for i in each.target[1:]])
    step = length + 1
    return ids[: len(ids) // step * step].view(-1, step)


def next_token_loss(model: LanguageModel, batch: Tensor) -> Tensor:
    """Return the loss per token, in nats."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def judge(model: LanguageModel, text: Tensor, training: bool) -> float:
    """Return the loss on text that is not learnt from."""
    model.train(training)
    parts = [next_token_loss(model, batch) for batch in text.split(16)]
    model.eval()
    return torch.stack(parts).mean().item()


def train(
    plan: Plan,
    kind: str,
    depth: int,
    rate: float,
    warmup: int,
    seed: int,
    updates: int,
) -> dict[str, Any]:
    """Train one model; after warm-up the rate falls in a straight line."""
    started = time.process_time()
    text = windows(plan, "train", plan.length)
    valid = windows(plan, "valid", plan.length)
    torch.manual_seed(seed)
    vocab_size = storybook(plan).tokenizer.vocab_size
    model = LanguageModel(plan, vocab_size, kind, depth)
    adam = torch.optim.Adam(
        model.parameters(), rate, betas=(0.9, 0.98), fused=True
    )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(text), generator=generator)
    losses = []
    for update in range(updates):
        up = (update + 1) / max(warmup, 1)
        down = (updates - update) / (updates - warmup)
        adam.param_groups[0]["lr"] = rate * min(up, down, 1.0)
        first = update * plan.windows
        batch = text[order[first : first + plan.windows]]
        loss = next_token_loss(model, batch)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    finite = all(map(math.isfinite, losses))
    last = losses[-plan.judged :]
    return {
        "kind": kind,
        "depth": depth,
        "rate": rate,
        "warmup": warmup,
        "seed": seed,
        "updates": updates,
        "parameters": count_parameters(model),
        "finite": finite,
        "losses": [
            round(sum(part) / len(part), 3)
            for part in (losses[i : i + 10] for i in range(0, updates, 10))
            if part and finite
        ],
        "train_loss": sum(last) / len(last) if finite else None,
        "valid_loss": judge(model, valid, False) if finite else None,
        # A batch norm then takes the statistics of the batch, as in training.
        "valid_loss_by_batch": (
            judge(model, valid, True) if finite and "batch" in kind else None
        ),
        "core_seconds": time.process_time() - started,
    }


def all_runs(plan: Plan) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name every run, the deep ones first."""
    runs: dict[str, Callable[[], dict[str, Any]]] = {}

    def add(
        kind: str, depth: int, rate: float, warmup: int, seed: int, n: int
    ) -> None:
        name = f"{kind}-{depth}-{rate:g}-{warmup}-{seed}-{n}"
        name = name.replace(",", "").replace(" ", "_")
        runs[name] = partial(train, plan, kind, depth, rate, warmup, seed, n)

    n, warm = plan.updates, plan.warmups[-1]
    high, deepest = plan.rates[-1], plan.depths[-1]
    for seed in plan.seeds:
        for depth in plan.depths[::-1]:
            for rate in plan.rates:
                for warmup in plan.warmups:
                    if (depth, warmup) == (deepest, 0) and rate < high:
                        continue  # these are dear
                    for kind in ("post", "pre"):
                        add(kind, depth, rate, warmup, seed, n)
            for kind in ("plain", "norm", "residual"):
                add(kind, depth, high, warm, seed, n)
        add("pre, no last norm", deepest, high, warm, seed, n)
        add("pre, batch norm", plan.depths[1], high, warm, seed, n)
    n = plan.long_updates
    for seed in plan.quality_seeds:  # where both train well: shallow, longer
        for rate in plan.rates:
            for kind in ("post", "pre"):
                add(kind, plan.depths[0], rate, warm, seed, n)
    for seed in plan.seeds:  # does what had not begun to learn begin later?
        low, middle = plan.rates[0], plan.depths[1]
        for warmup in plan.long_warmups:
            for kind in ("post", "pre"):
                add(kind, middle, low, warmup, seed, n)
        add("post", middle, low, 0, seed, n)
        add("post", middle, high, warm, seed, n)
        for depth in plan.depths[:2]:
            add("plain", depth, high, warm, seed, n)
    return runs


def look_inside(plan: Plan, kind: str, depth: int, seed: int) -> list[float]:
    """Return how far tokens stand apart after each layer, before training.

    That is the size of what is left when the mean of a window's tokens is
    subtracted, as a share of the size of the whole.
    """
    torch.manual_seed(seed)
    vocab_size = storybook(plan).tokenizer.vocab_size
    model = LanguageModel(plan, vocab_size, kind, depth)
    states: list[Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, __, x: states.append(x))
    with torch.no_grad():
        model(windows(plan, "valid", plan.length)[:16, :-1])
    return [
        ((x - x.mean(dim=1, keepdim=True)).norm() / x.norm()).item()
        for x in states
    ]


def at_start(plan: Plan) -> list[dict[str, Any]]:
    """Look into the fresh models; means over the seeds."""
    return [
        {
            "kind": kind,
            "depth": depth,
            "apart": [
                sum(layer) / len(layer)
                for layer in zip(
                    *(look_inside(plan, kind, depth, s) for s in plan.seeds),
                    strict=True,
                )
            ],
        }
        for kind in ("plain", "norm", "residual", "post", "pre")
        for depth in plan.depths
    ]


def unigram_entropy(plan: Plan) -> float:
    """Return the loss of one who knows how frequent each token is."""
    counts = windows(plan, "train", plan.length).flatten().bincount()
    shares = counts[counts > 0] / counts.sum()
    return -(shares * shares.log()).sum().item()


def group(runs: list[dict[str, Any]], unigram: float) -> dict[str, Any]:
    """Put the seeds of one setting together; a broken run has no loss."""
    whole = [run for run in runs if run["finite"]]
    names = ("train_loss", "valid_loss", "valid_loss_by_batch")
    losses = {name: [run[name] for run in whole] for name in names}
    return {
        name: runs[0][name]
        for name in ("kind", "depth", "rate", "warmup", "updates")
    } | {
        "seeds": len(runs),
        "broken": len(runs) - len(whole),
        # It predicts (nearly) no better than the frequencies of the tokens.
        "stalled": sum(loss > unigram - 0.05 for loss in losses["train_loss"]),
        "curve": [
            round(sum(step) / len(step), 3)
            for step in zip(*(run["losses"] for run in whole), strict=True)
        ],
        **{
            name: (
                mean_interval(values)
                if len(values) > 1 and values[0]
                else None
            )
            for name, values in losses.items()
        },
    }


def groups(plan: Plan, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the seeds of every setting together."""
    settings: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    names = ("kind", "depth", "rate", "warmup", "updates")
    for run in runs:
        setting = tuple(run[name] for name in names)
        settings.setdefault(setting, []).append(run)
    unigram = unigram_entropy(plan)
    return [group(alike, unigram) for alike in settings.values()]


def minus(
    runs: list[dict[str, Any]], kind: str, other: str
) -> list[dict[str, Any]]:
    """Compare two kinds seed by seed, at each setting that both have."""
    names = ("depth", "rate", "warmup", "updates")
    pairs: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for run in runs:
        if run["kind"] in (kind, other) and run["finite"]:
            setting = tuple(run[name] for name in names)
            by_seed = pairs.setdefault(setting, {})
            by_seed.setdefault(run["seed"], {})[run["kind"]] = run
    found = []
    for setting, by_seed in pairs.items():
        both = [each for each in by_seed.values() if len(each) == 2]
        if len(both) > 1:
            gaps = {
                name: [each[kind][name] - each[other][name] for each in both]
                for name in ("train_loss", "valid_loss")
            }
            found.append(
                {"kind": kind, "other": other, "seeds": len(both)}
                | dict(zip(names, setting, strict=True))
                | {name: mean_interval(gaps[name]) for name in gaps}
            )
    return found


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("add_norm", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    runs = all_runs(plan)
    if arguments.share:
        run_all(runs, arguments.folder, arguments.share)
        return
    found = run_all(runs, arguments.folder)
    result = {
        "surroundings": surroundings(),
        "plan": {
            name: getattr(plan, name)
            for name in (
                "width",
                "heads",
                "depths",
                "rates",
                "warmups",
                "updates",
                "long_updates",
                "long_warmups",
                "windows",
                "length",
                "judged",
            )
        },
        "vocabulary": storybook(plan).tokenizer.vocab_size,
        "unigram_loss": unigram_entropy(plan),
        "at_start": at_start(plan),
        "groups": groups(plan, list(found.values())),
        "gaps": [
            gap
            for pair in COMPARED
            for gap in minus(list(found.values()), *pair)
        ],
        "runs": [
            {name: run[name] for name in run if name != "losses"}
            for run in found.values()
        ],
    }
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
