"""What do the choices matter that the paper leaves open, or others change?

    python benchmarks/paper_choices.py
    python benchmarks/paper_choices.py --share 0/2

A small translator learns the storybook as this package does it, and again
with one choice changed, from the same seeds: the same first weights, where
the choice leaves them, and the same batches. What counts is the difference,
seed by seed. Choices of decoding and averaging change no training, so the
unchanged translators serve them all. A finished run is kept in ``--folder``
and not repeated; ``--share 1/2`` does every second one and stops.

A head start is not an end: what changed most is trained longer, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import torch
from measuring import mean_interval, surroundings
from places import claim
from small_runs import (
    Storybook,
    bleu_of,
    command_line,
    run_all,
    train,
)
from torch import Tensor, nn

from minitransformer import (
    LayerNorm,
    Transformer,
    TransformerConfig,
    Translator,
)
from minitransformer.attention import MultiHeadAttention
from minitransformer.data import bucketed, make_batch
from minitransformer.evaluation import bleu
from minitransformer.feed_forward import FeedForward
from minitransformer.files import write_json
from minitransformer.training import Trainer, TrainingOptions, translation_loss

BASE = "as it is"
Scores = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    width: int = 64
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    updates: int = 420
    more_updates: int = 1_260
    longer_seeds: tuple[int, ...] = (0, 1, 2)
    warmup: int = 60
    batch_tokens: int = 256
    learning_rate: float = 5e-3
    snapshots: int = 5
    snapshot_every: int = 15
    vocabulary: int = 2_000
    pairs: int = 20_000
    test_pairs: int = 300


SMALL = Plan(
    seeds=(0,),
    width=16,
    layers=1,
    updates=3,
    more_updates=4,
    longer_seeds=(0,),
    warmup=1,
    snapshots=2,
    snapshot_every=1,
    vocabulary=200,
    pairs=60,
    test_pairs=3,
)


# Parts that others have ---


class UnbiasedNorm(LayerNorm):
    """Divide by the unbiased deviation plus ε, as the root stands alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (..., D)`` over its last dimension."""
        centred = x - x.mean(dim=-1, keepdim=True)
        deviation = x.std(dim=-1, keepdim=True)
        return self.weight * centred / (deviation + self.eps) + self.bias


class UnbiasedLinear(nn.Linear):
    """A product alone; a class of its own, so that nobody asks for a bias."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__(d_in, d_out, bias=False)


class UnscaledTransformer(Transformer):
    """A Transformer that takes embeddings as they are."""

    def _embed(self, embedded: Tensor) -> Tensor:
        return embedded


# Choices ---


def replace(
    model: nn.Module, old: type[nn.Module], new: Callable[[Any], nn.Module]
) -> None:
    """Put ``new(part)`` in the place of each part of class ``old``."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is old:
                setattr(parent, name, new(part))


def unbiased_norms(model: Transformer) -> None:
    """Take the other deviation in every norm; ε as that code has it."""
    replace(model, LayerNorm, lambda old: UnbiasedNorm(len(old.weight), 1e-6))


def small_eps(model: Transformer) -> None:
    """Make ε a tenth."""
    replace(model, LayerNorm, lambda old: LayerNorm(len(old.weight), 1e-6))


def final_norms(model: Transformer) -> None:
    """Normalise what each stack returns."""
    model.encoder_norm = LayerNorm(model.config.d_model)
    model.decoder_norm = LayerNorm(model.config.d_model)


def no_final_norms(model: Transformer) -> None:
    """Return what the last layers add up to."""
    model.encoder_norm = nn.Identity()
    model.decoder_norm = nn.Identity()


def attentions(model: Transformer) -> list[MultiHeadAttention]:
    """List every attention."""
    modules = model.modules()
    return [each for each in modules if isinstance(each, MultiHeadAttention)]


@torch.no_grad()
def glorot_apart(model: Transformer) -> None:
    """Start queries, keys and values as three matrices, not as one."""
    for attention in attentions(model):
        for part in (attention.w_q, attention.w_k, attention.w_v):
            nn.init.xavier_uniform_(part.weight)


def linear_as_torch(model: Transformer) -> None:
    """Start every matrix inside the layers as `nn.Linear` does."""
    for stack in (model.encoder, model.decoder):
        for part in stack.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()


def embeddings_as_torch(model: Transformer) -> None:
    """Start the embeddings as `nn.Embedding` does."""
    nn.init.normal_(model.source_embedding.weight)


def no_attention_biases(model: Transformer) -> None:
    """Leave out the biases of the four projections."""
    for attention in attentions(model):
        for name in ("w_q", "w_k", "w_v", "w_o"):
            old = getattr(attention, name)
            new = UnbiasedLinear(old.in_features, old.out_features)
            new.weight = old.weight
            setattr(attention, name, new)


def attention_dropout(model: Transformer) -> None:
    """Drop attention weights, too."""
    for attention in attentions(model):
        attention.dropout = model.config.dropout


def no_inner_dropout(model: Transformer) -> None:
    """Drop nothing inside the feed-forward layers."""
    for part in model.modules():
        if isinstance(part, FeedForward):
            part.dropout.p = 0.0


@dataclass(frozen=True)
class Choice:
    """One change.

    Attributes:
        sizes: What `TransformerConfig` gets instead.
        options: What `TrainingOptions` gets instead.
        change: Is given the fresh model.
        kind: The class of the model.
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[Transformer], None] = lambda model: None
    kind: type[Transformer] = Transformer


CHOICES = {
    BASE: Choice(),
    "post-norm": Choice(sizes={"norm_first": False}),
    "post-norm, final norms": Choice(
        sizes={"norm_first": False}, change=final_norms
    ),
    "no final norms": Choice(change=no_final_norms),
    "norm's ε 1e-6": Choice(change=small_eps),
    "unbiased deviation": Choice(change=unbiased_norms),
    "Q, K, V start apart": Choice(change=glorot_apart),
    "nn.Linear's own start": Choice(change=linear_as_torch),
    "embeddings of deviation 1": Choice(change=embeddings_as_torch),
    "embeddings not scaled": Choice(kind=UnscaledTransformer),
    "nothing tied": Choice(sizes={"tie_embeddings": False}),
    "learned positions": Choice(sizes={"positions": "learned"}),
    "no dropout": Choice(sizes={"dropout": 0.0}),
    "weights dropped, too": Choice(change=attention_dropout),
    "no dropout inside": Choice(change=no_inner_dropout),
    "no attention biases": Choice(change=no_attention_biases),
    "no smoothing": Choice(options={"label_smoothing": 0.0}),
    "smoothing 0.2": Choice(options={"label_smoothing": 0.2}),
    "inverse square root": Choice(options={"schedule": "inverse_sqrt"}),
}

# Beam of so many, exponent of the length penalty.
SEARCHES = {
    "beam 4, exponent 0": (4, 0.0),
    "beam 4, exponent 0.6": (4, 0.6),
    "beam 4, exponent 2": (4, 2.0),
}
LAST, MEAN = "last weights", "mean of snapshots"
LONGER = ("post-norm", "no final norms", "nothing tied")


def build(config: TransformerConfig, choice: Choice) -> Transformer:
    """Make the changed model."""
    model = choice.kind(config)
    # What a change draws must not move the coins of dropout.
    state = torch.get_rng_state()
    choice.change(model)
    torch.set_rng_state(state)
    return model


@torch.no_grad()
def scores_of(model: Transformer, book: Storybook) -> dict[str, float]:
    """Judge a model as `train` does."""
    groups = bucketed(book.examples["valid"], 2_048, seed=0)
    batches = [make_batch(group) for group in groups]
    total = sum(translation_loss(model, batch).item() for batch in batches)
    return {
        "valid_loss": total / sum(batch.num_tokens for batch in batches),
        "bleu": bleu_of(model, book, book.test),
    }


def search_bleu(
    model: Transformer, book: Storybook, beam_size: int, exponent: float
) -> float:
    """Score what a beam finds."""
    translator = Translator(model, book.tokenizer, book.tokenizer)
    found = translator.translate_lines(
        [pair.source for pair in book.test],
        beam_size=beam_size,
        length_penalty=exponent,
        split=False,
    )
    return bleu(found, [[pair.target] for pair in book.test]).value


def make(
    plan: Plan,
    get_book: Callable[[], Storybook],
    name: str,
    seed: int,
    longer: bool = False,
) -> dict[str, Any]:
    """Train with one choice and one seed."""
    book, choice = get_book(), CHOICES[name]
    torch.manual_seed(seed)
    sizes = {"dropout": plan.dropout, **choice.sizes}
    config = book.config(plan.width, plan.heads, plan.layers, **sizes)
    options = {
        "updates": plan.more_updates if longer else plan.updates,
        "warmup": plan.warmup,
        "batch_tokens": plan.batch_tokens,
        "learning_rate": plan.learning_rate,
        "precision": "fp32",
        "seed": seed,
        **choice.options,
    }
    snapshots: list[dict[str, Tensor]] = []
    kept = range(0, plan.snapshots * plan.snapshot_every, plan.snapshot_every)

    def keep(trainer: Trainer, loss: object) -> None:
        if plan.updates - trainer.updates in kept:
            state = trainer.model.state_dict()
            snapshots.append({k: v.clone() for k, v in state.items()})

    whole = name == BASE and not longer
    model, run = train(
        build(config, choice),
        book,
        TrainingOptions(**options),
        keep if whole else None,
    )
    run = {"choice": name, "seed": seed, **run}
    if whole:
        run["searches"] = {
            search: search_bleu(model, book, *how)
            for search, how in SEARCHES.items()
        }
        mean = {
            key: torch.stack([each[key] for each in snapshots]).mean(0)
            for key in snapshots[0]
        }
        run["averages"] = {}
        for which, state in ((LAST, snapshots[-1]), (MEAN, mean)):
            model.load_state_dict(state)
            run["averages"][which] = scores_of(model, book)
    return run


def run_name(choice: str, seed: int, longer: bool = False) -> str:
    """Name the folder of a run."""
    number = list(CHOICES).index(choice)
    return f"{number:02}-seed{seed}{'-longer' * longer}"


def beyond(found: Scores, bases: Scores) -> dict[str, dict[str, float]]:
    """Say how one change differs from the base, seed by seed."""
    return {
        score: mean_interval(
            [
                one[score] - base[score]
                for one, base in zip(found, bases, strict=True)
            ]
        )
        for score in ("valid_loss", "bleu")
        if score in found[0]
    }


def mean_scores(found: Scores) -> dict[str, dict[str, float]]:
    """Average the scores over the seeds."""
    return {
        score: mean_interval([one[score] for one in found])
        for score in ("valid_loss", "bleu")
    }


def gather(plan: Plan, runs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Put all together."""

    def every(name: str) -> Scores:
        return [runs[run_name(name, seed)] for seed in plan.seeds]

    def every_longer(name: str) -> Scores:
        return [runs[run_name(name, seed, True)] for seed in plan.longer_seeds]

    bases = every(BASE)
    changed = {name: every(name) for name in CHOICES if name != BASE}
    for name in (LAST, MEAN):
        changed[name] = [base["averages"][name] for base in bases]
    for name in SEARCHES:
        changed[name] = [{"bleu": base["searches"][name]} for base in bases]
    return {
        "surroundings": surroundings(),
        "plan": asdict(plan),
        "base": mean_scores(bases),
        "effects": {
            name: beyond(found, bases) for name, found in changed.items()
        },
        "longer": {
            "base": mean_scores(every_longer(BASE)),
            "effects": {
                name: beyond(every_longer(name), every_longer(BASE))
                for name in LONGER
            },
        },
        "runs": [
            run | {"longer": name.endswith("-longer")}
            for name, run in runs.items()
        ],
    }


def main() -> None:
    """Measure and write the result."""
    arguments = command_line("paper_choices", __doc__).read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    get_book = cache(lambda: Storybook(plan))
    jobs = {
        run_name(name, seed): partial(make, plan, get_book, name, seed)
        for seed in plan.seeds
        for name in CHOICES
    }
    jobs |= {
        run_name(name, seed, True): partial(
            make, plan, get_book, name, seed, True
        )
        for seed in plan.longer_seeds
        for name in (BASE, *LONGER)
    }
    runs = run_all(jobs, arguments.folder, arguments.share or (0, 1))
    if arguments.share is None:
        write_json(arguments.out, gather(plan, runs))


if __name__ == "__main__":
    main()
