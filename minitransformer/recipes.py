"""From a corpus to a trained translator on the disk, in one call."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from minitransformer.allocator import keep_memory, return_memory
from minitransformer.checkpoints import WEIGHTS, load_config, save_config
from minitransformer.config import TransformerConfig
from minitransformer.corpora import Corpus
from minitransformer.counting import count_parameters
from minitransformer.data import bucketed, encode_pairs, padding_share
from minitransformer.errors import UserError
from minitransformer.model import Transformer
from minitransformer.onednn import use_onednn
from minitransformer.processor import choose_device
from minitransformer.text import Tokenizer
from minitransformer.training import Trainer, TrainingOptions
from minitransformer.workers import join_workers, restarts


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to build and how to train it.

    Attributes:
        sizes: Arguments of `TransformerConfig`, but for the vocabularies.
        vocab_size: Most tokens of the shared vocabulary, or the source's.
        target_vocab_size: Most tokens of the target's; ``None`` to share.
        options: How to train.
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    vocab_size: int = 8_000
    target_vocab_size: int | None = None
    options: TrainingOptions = field(default_factory=TrainingOptions)


_SMALL = {
    "d_model": 128,
    "num_heads": 4,
    "num_encoder_layers": 4,
    "num_decoder_layers": 4,
    "d_ff": 256,
    "final_norm": False,
}
_MULTI30K = Recipe(
    sizes={**_SMALL, "dropout": 0.15},
    vocab_size=8_000,
    options=TrainingOptions(
        updates=4_800,
        batch_tokens=1_536,
        learning_rate=4e-3,
        schedule="linear",
    ),
)
RECIPES = {
    "storybook": Recipe(
        sizes={
            **_SMALL,
            "num_encoder_layers": 3,
            "num_decoder_layers": 3,
            "dropout": 0.1,
            "max_len": 128,
        },
        vocab_size=2_000,
        options=TrainingOptions(
            updates=2_400,
            batch_tokens=2_048,
            learning_rate=2e-3,
            label_smoothing=0.0,
        ),
    ),
    "tatoeba-zh-en": Recipe(
        sizes={**_SMALL, "d_ff": 512, "dropout": 0.1},
        vocab_size=3_200,  # hardly more than single characters
        target_vocab_size=4_000,
        options=TrainingOptions(
            updates=6_600,
            batch_tokens=1_536,
            learning_rate=2.5e-3,
            schedule="linear",
        ),
    ),
    "multi30k-en-de": _MULTI30K,
    "multi30k-de-en": _MULTI30K,
    "multi30k-en-fr": _MULTI30K,
    "multi30k-fr-en": _MULTI30K,
}


def recipe_for(corpus_name: str) -> Recipe:
    """Return what has proved itself on a corpus, or a fair start."""
    return RECIPES.get(corpus_name, _MULTI30K)


def train_translator(
    corpus: Corpus,
    folder: Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    sharded: bool = False,
    recompute: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Train a translator and leave it in ``folder``.

    Where ``torchrun`` started several processes, they train it together, and
    go on from the last checkpoint if it starts them anew.

    Args:
        corpus: Its ``train`` and ``valid`` splits are used.
        folder: Gets the model; see `minitransformer.checkpoints`.
        recipe: `recipe_for` the corpus if not given; a resumed run goes on
            with its own.
        resume: Go on where a run in ``folder`` stopped, however it stopped.
            On the same machine the weights end up the same to the last bit.
        device: ``"auto"``, or a torch device.
        sharded: Whether the processes divide the model.
        recompute: Whether to save memory at the cost of time; see
            `minitransformer.training.recompute_layers`,
            `minitransformer.allocator.return_memory`.
        origin: Where the corpus came from, noted with the model.

    Raises:
        UserError: If ``folder`` holds a model already, or, resuming, none or
            one of another corpus; if the corpus has nothing to train on; or
            ``sharded``, if it is alone.
    """
    folder = Path(folder)
    if "train" not in corpus.splits:
        raise UserError(
            f"{corpus.name} is there to test with, not to train on: choose"
            " another corpus, and give this one to `evaluate`."
        )
    if recompute:
        return_memory()
    else:
        keep_memory()
    use_onednn()
    prints = _fingerprint(corpus)
    workers, place = join_workers(choose_device(device), sharded)
    resume = resume or (restarts() > 0 and (folder / "config.json").exists())
    last = folder / "last.safetensors"
    if resume:
        config, source_tokenizer, target_tokenizer, about = load_config(folder)
        if (folder / WEIGHTS).exists() and not last.exists():
            raise UserError(
                f"{folder} holds a trained model, but not {last.name}, which"
                " its training needs to go on: train anew in another folder."
            )
        if about.get("fingerprint") != prints:
            raise UserError(
                f"{folder} was trained on other sentences than {corpus.name}"
                " has now: resume with the same corpus, or train anew in"
                " another folder."
            )
        options = TrainingOptions(**about["options"])
    else:
        recipe = recipe or recipe_for(corpus.name)
        names = ("config.json", WEIGHTS, last.name)
        if any((folder / name).exists() for name in names):
            raise UserError(
                f"{folder} holds a model already: choose another folder, or"
                f" go on with `minitransformer train --resume {folder}`."
            )
        source_tokenizer, target_tokenizer = make_tokenizers(corpus, recipe)
        shared = source_tokenizer is target_tokenizer
        config = TransformerConfig(
            source_vocab_size=source_tokenizer.vocab_size,
            target_vocab_size=None if shared else target_tokenizer.vocab_size,
            **recipe.sizes,
        )
        options = recipe.options
        about = {
            "corpus": corpus.name,
            "source_language": corpus.source_language,
            "target_language": corpus.target_language,
            "credits": corpus.credits,
            "origin": dict(origin or {}),
            "fingerprint": prints,
            "options": asdict(options),
        }
    train, valid = (
        encode_pairs(
            corpus.splits[split],
            source_tokenizer,
            target_tokenizer,
            config.max_len,
        )
        for split in ("train", "valid")
    )
    torch.manual_seed(options.seed)
    model = Transformer(config)
    trainer = Trainer(model, train, valid, options, place, workers, recompute)
    if not workers.leads:  # or all would drop the same numbers
        torch.manual_seed(options.seed + workers.rank)
    workers.wait()  # nothing is written before all is known to fit
    if workers.leads and not resume:
        save_config(folder, config, source_tokenizer, target_tokenizer, about)
    if last.exists():
        trainer.load(last)
    padding = padding_share(bucketed(train, options.batch_tokens, seed=0))
    say = tell if workers.leads else _keep_quiet
    say(
        f"{corpus.name}: {len(train):,} pairs to learn from, {len(valid):,} to"
        f" validate; {count_parameters(model):,}"
        f" parameters; {padding:.1%} of each batch is padding;"
        f" {trainer.precision} on {trainer.device}, update"
        f" {trainer.updates:,} of {options.updates:,}"
    )
    trainer.run(folder, say)
    say(
        f"done in {trainer.core_seconds / 60:.1f} core-minutes; best"
        f" validation loss {trainer.best_loss:.3f}; the model is in {folder}"
    )
    workers.part()


def tell(line: str) -> None:
    """Print a line of progress to the standard error stream."""
    print(line, file=sys.stderr, flush=True)


def _keep_quiet(line: str) -> None:
    """Leave it to the worker that leads to tell."""


def make_tokenizers(
    corpus: Corpus, recipe: Recipe
) -> tuple[Tokenizer, Tokenizer]:
    """Train one tokenizer for both languages, or one for each.

    Args:
        corpus: Its ``train`` split is used.
        recipe: Says how many tokens, and of how many vocabularies.

    Returns:
        The source's and the target's; the same object if they share one.
    """
    sources = [pair.source for pair in corpus.splits["train"]]
    targets = [pair.target for pair in corpus.splits["train"]]
    if recipe.target_vocab_size is None:
        shared = Tokenizer.train(sources + targets, recipe.vocab_size)
        return shared, shared
    return (
        Tokenizer.train(sources, recipe.vocab_size),
        Tokenizer.train(targets, recipe.target_vocab_size),
    )


def _fingerprint(corpus: Corpus) -> str:
    """Return a hash of the sentences that decide the weights."""
    sha = hashlib.sha256()
    for split in ("train", "valid"):
        for pair in corpus.splits[split]:
            sha.update(f"{pair.source}\t{pair.target}\n".encode())
    return sha.hexdigest()
