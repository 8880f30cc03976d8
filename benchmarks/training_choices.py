"""What do the choices of a training matter: decay, rate, batch, clipping?

    python benchmarks/training_choices.py
    python benchmarks/training_choices.py --share 0/2

A small translator learns the storybook, and again with one choice changed,
from the same seeds: the same first weights, and the same batches where the
choice leaves them. What counts is the difference, seed by seed. All see as
many tokens. The weight decays are compared on few pairs, seen many times, as
there is nothing to forget on many. Each run is judged by its averaged weights
and by its last ones.

On the whole storybook the runs are short: none comes near its end. So some
choices are made again where a small model comes further: in more updates, on
the sentences of one pattern. Their names begin with "longer".
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from itertools import islice
from typing import Any

import torch
from measuring import mean_interval, surroundings
from places import claim
from small_runs import command_line, run_all
from small_runs import storybook as all_patterns

from minitransformer import (
    Tokenizer,
    Transformer,
    TransformerConfig,
    storybook,
)
from minitransformer.corpora import Pair
from minitransformer.data import Example, encode_pairs, endless_batches
from minitransformer.files import write_json
from minitransformer.training import (
    Trainer,
    TrainingOptions,
    translation_loss,
)

BASE, FEW = "as it is", "few pairs, no decay"
FOR_EVER = 10**9  # updates: a schedule of so many hardly falls
NO_CLIP = 1e9


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 64
    heads: int = 4
    layers: int = 1
    updates: int = 240
    warmup: int = 60
    batch_tokens: int = 256
    learning_rate: float = 5e-3
    vocabulary: int = 2_000
    pairs: int = 20_000
    few_pairs: int = 600
    test_pairs: int = 150
    curve_every: int = 10
    longer_updates: int = 800
    longer_vocabulary: int = 800
    longer_stories: int = 24_000


SMALL = Plan(
    seeds=(0, 1),
    width=16,
    layers=1,
    updates=8,
    warmup=2,
    batch_tokens=128,
    vocabulary=200,
    pairs=200,
    few_pairs=60,
    test_pairs=6,
    curve_every=4,
    longer_updates=8,
    longer_vocabulary=200,
    longer_stories=3_000,
)


@dataclass(frozen=True)
class Choice:
    """One change.

    Attributes:
        options: What `TrainingOptions` gets instead.
        rate: Times the usual learning rate.
        warmup: Share of the updates over which the rate rises; ``None`` as
            usual.
        batch: Times the usual size of a batch; there are as many fewer.
        few: Whether it learns from few pairs.
        l2: Decay that is added to the gradient, before Adam sees it.
        constant: Whether the rate stays after its warm-up.
        longer: Whether it learns one pattern, in more updates.
        against: What it is compared with.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    warmup: float | None = None
    batch: float = 1.0
    few: bool = False
    l2: float = 0.0
    constant: bool = False
    longer: bool = False
    against: str = BASE


HIGH = "rate times 4"
CHOICES = {
    BASE: Choice(),
    FEW: Choice(few=True, options={"weight_decay": 0.0}, against=FEW),
    **{
        f"few pairs, AdamW {decay:g}": Choice(
            few=True, options={"weight_decay": decay}, against=FEW
        )
        for decay in (0.3, 1.0)
    },
    **{
        f"few pairs, L2 {decay:g}": Choice(
            few=True, options={"weight_decay": 0.0}, l2=decay, against=FEW
        )
        for decay in (1e-4, 1e-3)
    },
    "no warm-up": Choice(warmup=0.0),
    "short warm-up": Choice(warmup=1 / 16),
    "constant": Choice(constant=True),
    "inverse square root": Choice(options={"schedule": "inverse_sqrt"}),
    "linear": Choice(options={"schedule": "linear"}),
    "no clipping": Choice(options={"clip": NO_CLIP}),
    "smoothing 0.1": Choice(options={"label_smoothing": 0.1}),
    HIGH: Choice(rate=4),
    "rate times 4, no clipping": Choice(
        rate=4, options={"clip": NO_CLIP}, against=HIGH
    ),
    "rate times 4, no warm-up": Choice(rate=4, warmup=0.0, against=HIGH),
    "batch times 1/4": Choice(batch=1 / 4),
    "batch times 1/4, rate times 1/2": Choice(batch=1 / 4, rate=1 / 2),
    "batch times 4": Choice(batch=4),
    "batch times 4, rate times 2": Choice(batch=4, rate=2),
}
for _name in (
    BASE,
    "constant",
    "inverse square root",
    "no warm-up",
    FEW,
    "few pairs, AdamW 1",
    "few pairs, L2 0.001",
    "batch times 4",
    "batch times 1/4",
):
    CHOICES[f"longer, {_name}"] = replace(
        CHOICES[_name],
        longer=True,
        against=f"longer, {CHOICES[_name].against}",
    )


@dataclass(frozen=True)
class Book:
    """What a model learns from, and its shape.

    Attributes:
        examples: The ids of each split: ``train`` and ``valid``.
        config: The model's sizes.
    """

    examples: Mapping[str, list[Example]]
    config: TransformerConfig


@cache
def book_of(plan: Plan, longer: bool) -> Book:
    """Make the corpus when the first run needs it."""
    if not longer:
        book = all_patterns(plan)
        return Book(
            book.examples, book.config(plan.width, plan.heads, plan.layers)
        )
    seen: dict[str, tuple[storybook.StoryPair, str]] = {}
    for pair, split in islice(storybook.stories(), plan.longer_stories):
        if pair.pattern == "reason":
            seen.setdefault(pair.source, (pair, split))
    parts = {
        name: [
            Pair(pair.source, pair.target)
            for pair, split in seen.values()
            if split == name
        ]
        for name in ("train", "valid")
    }
    lines = [text for p in parts["train"] for text in (p.source, p.target)]
    tokenizer = Tokenizer.train(lines, plan.longer_vocabulary)
    return Book(
        {
            name: encode_pairs(pairs, tokenizer, tokenizer, max_len=128)
            for name, pairs in parts.items()
        },
        TransformerConfig(
            source_vocab_size=tokenizer.vocab_size,
            d_model=plan.width,
            num_heads=plan.heads,
            num_encoder_layers=plan.layers,
            num_decoder_layers=plan.layers,
            d_ff=2 * plan.width,
            dropout=0.1,
            max_len=128,
        ),
    )


def updates_of(plan: Plan, choice: Choice) -> int:
    """Say how many updates a choice makes."""
    updates = plan.longer_updates if choice.longer else plan.updates
    return round(updates / choice.batch)


def options_of(plan: Plan, choice: Choice, seed: int) -> TrainingOptions:
    """Say how a choice trains."""
    updates = updates_of(plan, choice)
    if choice.warmup is None:
        warmup = plan.warmup / choice.batch
    else:
        warmup = choice.warmup * updates
    usual: dict[str, Any] = {
        "updates": FOR_EVER if choice.constant else updates,
        "warmup": round(warmup),
        "batch_tokens": round(plan.batch_tokens * choice.batch),
        "learning_rate": plan.learning_rate * choice.rate,
        "label_smoothing": 0.0,
        "precision": "fp32",
        "seed": seed,
    }
    return TrainingOptions(**usual | dict(choice.options))


def with_l2(trainer: Trainer, decay: float) -> None:
    """Give the trainer Adam, with the decay in the gradient."""
    options = trainer.options
    matrices, others = trainer.optimizer.param_groups
    trainer.optimizer = torch.optim.Adam(  # type: ignore[assignment]
        [
            {"params": matrices["params"], "weight_decay": decay},
            {"params": others["params"], "weight_decay": 0.0},
        ],
        betas=options.betas,
        eps=1e-9,
        fused=True,
    )


@torch.no_grad()
def last_loss(trainer: Trainer) -> float:
    """Return the validation loss of the last weights, per token."""
    trainer.model.eval()
    total = sum(
        float(translation_loss(trainer.model, each)) for each in trainer.valid
    )
    return total / sum(each.num_tokens for each in trainer.valid)


def run(plan: Plan, choice: Choice, seed: int) -> dict[str, Any]:
    """Train one translator and score it."""
    book = book_of(plan, choice.longer)
    examples = book.examples["train"]
    if choice.few:
        examples = examples[: plan.few_pairs]
    options = options_of(plan, choice, seed)
    torch.manual_seed(seed)
    model = Transformer(book.config)
    trainer = Trainer(model, examples, book.examples["valid"], options)
    if choice.l2:
        with_l2(trainer, choice.l2)
    batches = endless_batches(examples, options.batch_tokens, seed)
    every = max(round(plan.curve_every / choice.batch), 1)
    curve, parts, tokens = [], [], 0
    for _ in range(updates_of(plan, choice)):
        loss, count = trainer.update([next(batches)])
        tokens += count
        parts.append(loss)
        if len(parts) == every:
            curve.append([tokens, round(sum(parts) / every, 4)])
            parts = []
    squares = sum(
        float(each.detach().square().sum())
        for each in model.parameters()
        if each.ndim > 1
    )
    return {
        "seed": seed,
        "updates": trainer.updates,
        "tokens": tokens,
        "valid_loss": trainer.validate(),
        "last_loss": last_loss(trainer),
        "train_loss": sum(loss for _, loss in curve[-3:]) / len(curve[-3:]),
        "weight_norm": squares**0.5,
        "curve": curve,
    }


def summary(
    runs: Mapping[str, Mapping[str, Any]], plan: Plan, name: str
) -> dict[str, Any]:
    """Put the seeds of one choice together, and beside what it changes."""
    choice = CHOICES[name]

    def every(which: str, key: str) -> list[float]:
        return [runs[f"{which}, seed {seed}"][key] for seed in plan.seeds]

    result: dict[str, Any] = {"name": name, "against": choice.against}
    for key in ("valid_loss", "last_loss", "train_loss"):
        ours = every(name, key)
        others = every(choice.against, key)
        result[key] = mean_interval(ours)
        result[f"{key}_more"] = mean_interval(
            [a - b for a, b in zip(ours, others, strict=True)]
        )
    result["average_more"] = mean_interval(
        [
            averaged - last
            for averaged, last in zip(
                every(name, "valid_loss"),
                every(name, "last_loss"),
                strict=True,
            )
        ]
    )
    result["weight_norm"] = mean_interval(every(name, "weight_norm"))
    result["updates"] = updates_of(plan, choice)
    return result


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("training_choices", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    jobs = {
        f"{name}, seed {seed}": partial(run, plan, choice, seed)
        for seed in plan.seeds
        for name, choice in CHOICES.items()
    }
    folder = arguments.folder
    runs = run_all(
        {name.replace("/", " of "): job for name, job in jobs.items()},
        folder,
        arguments.share or (0, 1),
    )
    if arguments.share is None:
        found = {name: runs[name.replace("/", " of ")] for name in jobs}
        result = {
            "surroundings": surroundings(),
            "plan": asdict(plan),
            "choices": [summary(found, plan, name) for name in CHOICES],
            "curves": {
                name: found[f"{name}, seed {plan.seeds[0]}"]["curve"]
                for name in CHOICES
            },
            "runs": {
                name: {key: each[key] for key in each if key != "curve"}
                for name, each in found.items()
            },
        }
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
