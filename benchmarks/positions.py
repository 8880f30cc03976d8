"""Train on short windows, test on long ones: how far does each scheme reach?

    python benchmarks/positions.py
    python benchmarks/positions.py --share 0/2

A small causal language model learns the English storybook as running text, in
windows of 64 tokens, and is tested on windows of 512. Its loss is kept by the
position in the window, for every entry of ``SCHEMES`` and, with the same
trained model, of ``VARIANTS``. A sentence has some 15 tokens and nothing to do
with those before it: a late position is no harder to predict than an early
one, so what it costs is the scheme's fault.

The same model answers two more questions: what does a causal mask tell of the
order, in one layer and in two; and is a position better added to a token or
set beside it? Last, the time that recurrent positions take, against length.

For one seed all models begin alike, as far as they have the same parts, and
see the same windows. See `small_runs` for ``--share`` and ``--folder``. About
a quarter of an hour on one thread.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from measuring import alternate, mean_interval, ratio, surroundings
from places import claim
from small_runs import command_line, once, run_all, storybook
from torch import Tensor, nn

from minitransformer.counting import count_parameters
from minitransformer.files import write_json
from minitransformer.layers import EncoderLayer
from minitransformer.masks import causal_mask
from minitransformer.positions import (
    LearnedPositions,
    RecurrentPositions,
    SinusoidalPositions,
    sinusoidal_positions,
    stretched_positions,
)
from minitransformer.residual import LayerNorm
from minitransformer.training import TrainingOptions, rate_at


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 64
    heads: int = 4
    layers: int = 2
    beside: int = 16  # numbers of a position that is not added
    updates: int = 1_000
    warmup: int = 100
    learning_rate: float = 3e-3
    windows: int = 16  # in a batch
    length: int = 64  # trained on
    test_length: int = 512
    test_windows: int = 64
    bucket: int = 16  # positions whose losses are averaged
    vocabulary: int = 1_000
    pairs: int = 30_000
    test_pairs: int = 1_500
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)  # timed
    rounds: int = 15


SMALL = Plan(
    seeds=(0, 1),
    width=16,
    layers=1,
    beside=4,
    updates=3,
    windows=4,
    length=8,
    test_length=32,
    test_windows=2,
    bucket=4,
    vocabulary=300,
    pairs=200,
    test_pairs=40,
    lengths=(8, 16),
    rounds=2,
)

# The schemes ---


class Nothing(nn.Module):
    """Leave the tokens as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x (B, T, D)``."""
        return x


class Beside(nn.Module):
    """Set sinusoidal positions of width ``P`` beside the tokens."""

    table: Tensor

    def __init__(self, width: int, max_len: int):
        super().__init__()
        table = sinusoidal_positions(max_len, width)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn ``x (B, T, D - P)`` into ``(B, T, D)``."""
        table = self.table[: x.shape[1]].expand(len(x), -1, -1)
        return torch.cat([x, table], dim=-1)


@dataclass(frozen=True)
class Scheme:
    """A way to tell a model where its tokens stand.

    Attributes:
        positions: Makes what the embedded tokens go through, from the width
            and the longest length.
        layer: Makes a layer, as `EncoderLayer` does.
    """

    positions: Callable[[int, int], nn.Module]
    layer: Callable[..., nn.Module] = EncoderLayer


SCHEMES = {
    "none": Scheme(lambda width, max_len: Nothing()),
    "sinusoidal": Scheme(SinusoidalPositions),
    "learned": Scheme(LearnedPositions),
    "recurrent": Scheme(lambda width, max_len: RecurrentPositions(width)),
}


class LanguageModel(nn.Module):
    """Predict the next token: embedding, positions, layers, logits.

    Args:
        plan: The sizes.
        vocab_size: ``V``.
        scheme: How the tokens are told where they stand.
        layers: How many.
        width: ``D``.
        beside: Numbers of ``D`` that ``scheme`` adds as further ones.
    """

    def __init__(
        self,
        plan: Plan,
        vocab_size: int,
        scheme: Scheme,
        layers: int,
        width: int,
        beside: int = 0,
    ):
        super().__init__()
        token_width = width - beside
        self.scale = math.sqrt(token_width)
        self.embedding = nn.Embedding(vocab_size, token_width)
        self.layers = nn.ModuleList(
            scheme.layer(width, plan.heads, 2 * width, norm_first=True)
            for _ in range(layers)
        )
        self.norm = LayerNorm(width)
        self.output = nn.Linear(width, vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=1 / self.scale)
        # Last, so that all schemes draw the same numbers for the rest.
        self.positions = scheme.positions(beside or width, plan.test_length)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn token ids ``(B, T)`` into logits ``(B, T, V)``."""
        x = self.positions(self.embedding(tokens) * self.scale)
        mask = causal_mask(tokens.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.output(self.norm(x))  # (B, T, V)
        return logits


# What a trained model is tested as: itself, and changed without training.


def stretch(model: LanguageModel, plan: Plan) -> None:
    """Make the later rows of a learned table from the trained ones."""
    table = model.positions.table
    trained = table[: plan.length].detach()
    table.data = stretched_positions(trained, plan.test_length)


VARIANTS: dict[str, tuple[str, Callable[[LanguageModel, Plan], None]]] = {
    "learned, stretched": ("learned", stretch),
}

# Training and testing ---


@cache
def running_text(plan: Plan) -> tuple[Tensor, Tensor, int]:
    """Return the text to learn from, the text to test on, the vocabulary."""
    book = storybook(plan)

    def joined(*splits: str) -> Tensor:
        examples = [each for name in splits for each in book.examples[name]]
        return torch.tensor([i for each in examples for i in each.source])

    size = book.tokenizer.vocab_size
    return joined("train"), joined("valid", "test"), size


def windows_of(text: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut windows ``(B, length + 1)`` out of a text, one from each start."""
    return text[starts[:, None] + torch.arange(length + 1)]


def fit(model: LanguageModel, plan: Plan, seed: int) -> float:
    """Train, and return the mean loss of the last tenth of the updates."""
    text, _, _ = running_text(plan)
    options = TrainingOptions(
        updates=plan.updates,
        warmup=plan.warmup,
        learning_rate=plan.learning_rate,
    )
    adam = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for update in range(plan.updates):
        starts = torch.randint(
            len(text) - plan.length, (plan.windows,), generator=generator
        )
        tokens = windows_of(text, starts, plan.length)
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = rate_at(update, options)
        adam.step()
        losses.append(loss.item())
    last = losses[-max(1, plan.updates // 10) :]
    return sum(last) / len(last)


@torch.no_grad()
def loss_by_position(model: LanguageModel, plan: Plan) -> list[float]:
    """Return the loss on long windows, a number for each bucket."""
    _, text, _ = running_text(plan)
    last = len(text) - plan.test_length - 1
    starts = torch.linspace(0, last, plan.test_windows).long()
    total = torch.zeros(plan.test_length)
    for start in starts.split(8):
        tokens = windows_of(text, start, plan.test_length)
        logits = model(tokens[:, :-1])
        losses = F.cross_entropy(
            logits.mT, tokens[:, 1:], reduction="none"
        )  # (8, T)
        total += losses.sum(0)
    mean = total / len(starts)
    return mean.view(-1, plan.bucket).mean(-1).tolist()


def run(
    plan: Plan,
    seed: int,
    kind: str,
    scheme: Scheme,
    layers: int,
    width: int,
    beside: int = 0,
    variants: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train one model, and test it as it is and in its variants."""
    started = time.process_time()
    torch.manual_seed(seed)
    vocab_size = running_text(plan)[2]
    model = LanguageModel(plan, vocab_size, scheme, layers, width, beside)
    found: dict[str, Any] = {
        "kind": kind,
        "seed": seed,
        "width": width,
        "parameters": count_parameters(model),
        "train_loss": fit(model, plan, seed),
        "losses": loss_by_position(model, plan),
    }
    for name in variants:
        VARIANTS[name][1](model, plan)
        found[name] = loss_by_position(model, plan)
    found["core_seconds"] = time.process_time() - started
    return found


def as_large_as_added(plan: Plan) -> int:
    """Find the width at which setting beside has as many parameters."""
    vocab_size = running_text(plan)[2]

    def size(scheme: Scheme, width: int, beside: int) -> int:
        sizes = plan.layers, width, beside
        return count_parameters(
            LanguageModel(plan, vocab_size, scheme, *sizes)
        )

    wanted = size(SCHEMES["sinusoidal"], plan.width, 0)
    widths = range(plan.width, 2 * plan.width, plan.heads)
    return min(
        widths,
        key=lambda width: abs(
            size(Scheme(Beside), width, plan.beside) - wanted
        ),
    )


def runs_of(plan: Plan) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name every run."""
    deep, one = plan.layers, 1
    kinds: dict[str, tuple[Any, ...]] = {
        name: (
            scheme,
            deep,
            plan.width,
            0,
            tuple(v for v in VARIANTS if VARIANTS[v][0] == name),
        )
        for name, scheme in SCHEMES.items()
    }
    for name in ("none", "sinusoidal"):
        kinds[f"{name}, one layer"] = (SCHEMES[name], one, plan.width)
    kinds["beside"] = (Scheme(Beside), deep, plan.width, plan.beside)
    wider = as_large_as_added(plan)
    kinds["beside, as large"] = (Scheme(Beside), deep, wider, plan.beside)
    return {
        f"{name.replace(', ', '-').replace(' ', '_')}-seed{seed}": partial(
            run, plan, seed, name, *kind
        )
        for seed in plan.seeds
        for name, kind in kinds.items()
    }


# The time of a recurrence ---


@torch.no_grad()
def measure_time(plan: Plan) -> list[dict[str, Any]]:
    """Time the making of positions, and a layer that uses them."""
    recurrent = RecurrentPositions(plan.width)
    layer = EncoderLayer(plan.width, plan.heads, 2 * plan.width)
    found = []
    shortest = plan.lengths[0]
    for length in plan.lengths:
        x = torch.randn(1, length, plan.width)
        times = alternate(
            {
                "recurrent": partial(recurrent.first_positions, length),
                "shortest": partial(recurrent.first_positions, shortest),
                "sinusoidal": partial(
                    sinusoidal_positions, length, plan.width
                ),
                "layer": partial(layer, x, causal_mask(length)),
            },
            plan.rounds,
        )
        found.append(
            {
                "length": length,
                **{
                    f"recurrent_over_{name}": ratio(
                        times["recurrent"], times[name]
                    )
                    for name in ("shortest", "sinusoidal", "layer")
                },
            }
        )
    return found


# All together ---


def counted_losses(plan: Plan) -> dict[str, float]:
    """Return the test losses of two counts: of tokens, and of pairs.

    The second knows the token before and no other; pairs are mixed with
    tokens, and each pair's count is worth one less.
    """
    train, test, size = running_text(plan)
    single = torch.bincount(train, minlength=size) + 1.0
    single = single / single.sum()  # (V,)
    pairs = torch.zeros(size, size)
    pairs.index_put_((train[:-1], train[1:]), torch.ones(()), accumulate=True)
    kinds = (pairs > 0).sum(1)
    total = pairs.sum(1)
    before, after = test[:-1], test[1:]
    seen = (pairs[before, after] - 1).clamp(min=0) / total[before].clamp(min=1)
    left = torch.where(total > 0, kinds / total.clamp(min=1), 1.0)
    double = seen + left[before] * single[after]
    return {
        "tokens": -single[after].log().mean().item(),
        "pairs": -double.log().mean().item(),
    }


def side_by_side(
    plan: Plan, found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Put the seeds of each scheme together: losses inside and far outside.

    Inside are the positions trained on; far is the last eighth of the test.
    """
    inside = plan.length // plan.bucket
    far = plan.test_length // plan.bucket // 8
    kinds: dict[str, dict[str, Any]] = {}

    def add(name: str, run: dict[str, Any], losses: list[float]) -> None:
        kind = kinds.setdefault(
            name,
            {
                "width": run["width"],
                "parameters": run["parameters"],
                "losses": [],
            },
        )
        kind["losses"].append([round(loss, 4) for loss in losses])

    for each in found.values():
        add(each["kind"], each, each["losses"])
        for variant in VARIANTS:
            if variant in each:
                add(variant, each, each[variant])
    for kind in kinds.values():
        for place, part in (
            ("inside", slice(inside)),
            ("far", slice(-far, None)),
        ):
            means = [sum(x[part]) / len(x[part]) for x in kind["losses"]]
            kind[place] = mean_interval(means)
    return kinds


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("positions", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    folder = arguments.folder
    found = run_all(runs_of(plan), folder, arguments.share or (0, 1))
    if arguments.share is None:
        kinds = side_by_side(plan, found)
        result = {
            "surroundings": surroundings(),
            "plan": asdict(plan),
            "counted": counted_losses(plan),
            "schemes": {
                name: kind
                for name, kind in kinds.items()
                if name in SCHEMES or name in VARIANTS
            },
            "others": {
                name: kind
                for name, kind in kinds.items()
                if name not in SCHEMES and name not in VARIANTS
            },
            "time": once(folder / "time.json", lambda: measure_time(plan)),
        }
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
