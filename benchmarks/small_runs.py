"""Small translators on the storybook: what several benchmarks train alike."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from places import CommandLine

from minitransformer import Transformer, TransformerConfig, Translator
from minitransformer.corpora import Pair
from minitransformer.counting import count_parameters
from minitransformer.data import encode_pairs, endless_batches
from minitransformer.evaluation import bleu, pronoun_accuracy
from minitransformer.files import read_json, write_json
from minitransformer.storybook import StoryPair, splits
from minitransformer.text import Tokenizer
from minitransformer.training import Trainer, TrainingOptions

MAX_LEN = 128


class Sizes(Protocol):
    """What a plan says of the corpus."""

    @property
    def vocabulary(self) -> int:
        """Tokens of the shared vocabulary."""

    @property
    def pairs(self) -> int:
        """Pairs to learn from."""

    @property
    def test_pairs(self) -> int:
        """Pairs to validate with, and as many to test with."""


class Storybook:
    """The corpus as text and as ids, made once for all runs.

    Attributes:
        tokenizer: Of both languages.
        test: Pairs to score translations with.
        examples: The ids of each split: ``train``, ``valid`` and ``test``.
    """

    def __init__(self, sizes: Sizes) -> None:
        stories = splits(sizes.pairs, sizes.test_pairs, sizes.test_pairs, 1)
        texts = {
            name: [Pair(pair.source, pair.target) for pair in pairs]
            for name, pairs in stories.items()
        }
        self.tokenizer = Tokenizer.train(
            [pair.source for pair in texts["train"]]
            + [pair.target for pair in texts["train"]],
            sizes.vocabulary,
        )
        self.test: Sequence[StoryPair] = stories["test"]
        self.examples = {
            name: encode_pairs(
                texts[name], self.tokenizer, self.tokenizer, MAX_LEN
            )
            for name in ("train", "valid", "test")
        }

    def config(
        self, width: int, heads: int, layers: int, **changes: Any
    ) -> TransformerConfig:
        """Describe a small translator; ``changes`` override the rest."""
        sizes = {
            "d_model": width,
            "num_heads": heads,
            "num_encoder_layers": layers,
            "num_decoder_layers": layers,
            "d_ff": 2 * width,
            "dropout": 0.1,
            "max_len": MAX_LEN,
        }
        return TransformerConfig(
            source_vocab_size=self.tokenizer.vocab_size, **sizes | changes
        )


@cache
def storybook(sizes: Sizes) -> Storybook:
    """Make the corpus when the first run needs it; ``sizes`` are frozen."""
    return Storybook(sizes)


def translate(
    model: Transformer, book: Storybook, pairs: Sequence[StoryPair]
) -> list[str]:
    """Translate by greedy search."""
    translator = Translator(model, book.tokenizer, book.tokenizer)
    return translator.translate_lines(
        [pair.source for pair in pairs], beam_size=1, split=False
    )


def bleu_of(
    model: Transformer, book: Storybook, pairs: Sequence[StoryPair]
) -> float:
    """Score greedy translations."""
    found = translate(model, book, pairs)
    return bleu(found, [[pair.target] for pair in pairs]).value


def train(
    model: Transformer,
    book: Storybook,
    options: TrainingOptions,
    each: Callable[[Trainer, float], None] | None = None,
) -> tuple[Transformer, dict[str, Any]]:
    """Train one translator and score it.

    Args:
        model: Fresh weights.
        book: What it learns from, and is judged by.
        options: How to train; ``updates`` of them are made.
        each: Called after every update with the trainer and the loss.

    Returns:
        The averaged model and its scores. ``valid_loss`` is the loss per
        token in nats, without smoothing.
    """
    started = time.process_time()
    trainer = Trainer(
        model, book.examples["train"], book.examples["valid"], options
    )
    batches = endless_batches(
        book.examples["train"], options.batch_tokens, options.seed
    )
    for _ in range(options.updates):
        loss, _ = trainer.update([next(batches)])
        if each:
            each(trainer, loss)
    averaged = trainer.averaged
    assert isinstance(averaged, Transformer)
    found = translate(averaged, book, book.test)
    return averaged, {
        "parameters": count_parameters(averaged),
        "valid_loss": trainer.validate(),
        "bleu": bleu(found, [[pair.target] for pair in book.test]).value,
        "pronouns": pronoun_accuracy(found, book.test).value,
        "core_seconds": time.process_time() - started,
    }


def once(path: Path, measure: Callable[[], Any]) -> Any:
    """Measure, unless the result is there from an earlier run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure())
    return read_json(path)


def run_all(
    runs: Mapping[str, Callable[[], dict[str, Any]]],
    folder: Path,
    share: tuple[int, int] = (0, 1),
) -> dict[str, dict[str, Any]]:
    """Make the runs of one's share that are not finished yet.

    Args:
        runs: Name to what makes it.
        folder: Keeps ``NAME/run.json`` of every finished run.
        share: ``(1, 2)`` is the second of every two runs.

    Returns:
        The runs of this share, by name.
    """
    found = {}
    for number, (name, make) in enumerate(runs.items()):
        if number % share[1] == share[0]:
            path = folder / name / "run.json"
            new = not path.exists()
            found[name] = once(path, make)
            if new:
                show = {
                    key: round(value, 3)
                    for key, value in found[name].items()
                    if isinstance(value, int | float)
                }
                print(name, show, flush=True)
    return found


def read_share(text: str) -> tuple[int, int]:
    """Read which of how many shares is ours, such as ``"0/2"``."""
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        number, count = map(int, parts)
        if number < count:
            return number, count
    raise argparse.ArgumentTypeError(
        f"{text!r} is no share: the first of two is 0/2, the second 1/2."
    )


def command_line(name: str, description: str | None) -> CommandLine:
    """Return a command line whose runs may be divided."""
    parser = CommandLine(name, description, folder=True)
    parser.add_argument(
        "--share", type=read_share, help="such as 0/2: every second run alone"
    )
    return parser
