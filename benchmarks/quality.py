"""Train the translators the course publishes, and what they are judged by.

    python benchmarks/quality.py                        # all that is missing
    python benchmarks/quality.py tatoeba-zh-en/final-0  # one run
    python benchmarks/quality.py --list
    python benchmarks/quality.py --weights storybook/final-0

A run is a corpus, a recipe and a seed. Final recipes are trained with three
seeds, and scored on the test as well; so are, once, the recipe that the
command line takes if it differs, and recurrent translators of the same size,
and a translator that learned captions in the form in which papers score them.
What was tried, one change at a time, is trained with one seed and 3,000
updates, or as long as the final recipe, and scored on the validation split
alone. A run takes from twenty minutes to two hours on one thread, and goes on
where it was interrupted. Finished runs go to
``minitransformer/results/quality.json``; a run whose recipe has not changed
since is not made again, unless its weights are wanted and gone. Several
processes may work side by side: each takes a run that no other is at.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from measuring import surroundings
from places import BUILD, RESULTS, claim
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from minitransformer import (
    RecurrentConfig,
    RecurrentTranslator,
    Transformer,
    TransformerConfig,
    Translator,
    cli,
)
from minitransformer.checkpoints import load_tensors, load_weights
from minitransformer.corpora import Corpus, load_corpus
from minitransformer.counting import count_parameters
from minitransformer.data import encode_pairs
from minitransformer.evaluation import Score, bleu, bleu_tokenizer, chrf
from minitransformer.files import read_json, write_json
from minitransformer.pairs import Pair
from minitransformer.recipes import (
    Recipe,
    make_tokenizers,
    recipe_for,
    tell,
    train_translator,
)
from minitransformer.training import Trainer, TrainingOptions

SPLITS = {"storybook": ("test", "compositional")}
BEAMS = (1, 4, 8)

# What a final recipe has other than the recipe of the command line, which
# must do with less than an hour.
_CAPTIONS = {"dropout": 0.25, "updates": 9_000}
_WIDER: dict[str, Any] = {"d_model": 192, "d_ff": 768, "num_heads": 6}
FINAL: dict[str, dict[str, Any]] = {
    "storybook": {},
    "tatoeba-zh-en": _WIDER | {"dropout": 0.25, "updates": 12_000},
    "multi30k-en-de": _CAPTIONS,
    "multi30k-de-en": _CAPTIONS,
}
# What was tried of a final recipe, at full length.
_NARROW: dict[str, Any] = {
    "d_model": 128,
    "d_ff": 512,
    "num_heads": 4,
    "dropout": 0.2,
}
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "tatoeba-zh-en": {
        "128 wide, dropout 0.2": _NARROW,
        "128 wide, dropout 0.2, words of 8,000 pieces": _NARROW
        | {"vocab_size": 8_000, "target_vocab_size": 8_000},
    },
    "multi30k-en-de": {
        "dropout 0.3, 16,000 updates": {"dropout": 0.3, "updates": 16_000},
        "vocabulary of 12,000, 9,000 updates": {"vocab_size": 12_000},
    },
}
# Fewer updates: they are slower, and learn by heart sooner.
_FEWER = {"learning_rate": 3e-3, "updates": 6_000}
RECURRENT: dict[str, dict[str, Any]] = {
    "storybook": {"learning_rate": 3e-3},
    "tatoeba-zh-en": _FEWER,
    "multi30k-en-de": _FEWER,
}
# What was tried: changes of the command line's recipe, for fewer updates.
STEP_UPDATES = 3_000
STEPS: dict[str, dict[str, dict[str, Any]]] = {
    "tatoeba-zh-en": {
        "the recipe": {},
        "dropout 0.2": {"dropout": 0.2},
        "wider": _WIDER,
        "narrower net": {"d_ff": 256},
        "no smoothing": {"label_smoothing": 0.0},
        "no average": {"average": 0.0},
        "words of 8,000 pieces": {
            "vocab_size": 8_000,
            "target_vocab_size": 8_000,
        },
        "with final norms": {"final_norm": True},
    },
    "multi30k-en-de": {
        "the recipe": {},
        "dropout 0.25": {"dropout": 0.25},
        "wider": _WIDER,
        "vocabulary of 4,000": {"vocab_size": 4_000},
        "vocabulary of 12,000": {"vocab_size": 12_000},
        "characters": {"vocab_size": 105},  # and not one pair of them
        "two vocabularies": {"vocab_size": 5_000, "target_vocab_size": 5_000},
        "no smoothing": {"label_smoothing": 0.0},
        "no average": {"average": 0.0},
        "with final norms": {"final_norm": True},
    },
}


@dataclass(frozen=True)
class Run:
    """One training and its scores.

    Attributes:
        corpus: What it learns.
        name: Which recipe it is.
        seed: Of all that is random.
        changes: What is other than in `recipe_for` the corpus.
        tested: Whether it is scored on the test too.
        attention: That of a recurrent translator of the same size, see
            `RecurrentConfig`; ``None`` is a Transformer.
        published: Whether it learns and is tested in `published_form`.
    """

    corpus: str
    name: str
    seed: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    tested: bool = False
    attention: str | None = None
    published: bool = False

    @property
    def key(self) -> str:
        """The run's name on the command line, and its folder's."""
        slug = self.name.replace(" ", "-").replace(",", "")
        return f"{self.corpus}/{slug}-{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """The recipe with its changes."""
        base = recipe_for(self.corpus)
        own = {"vocab_size", "target_vocab_size"}
        options = {f.name for f in dataclasses.fields(base.options)}
        changes = dict(self.changes) | {"seed": self.seed}
        return Recipe(
            sizes=dict(base.sizes)
            | {k: v for k, v in changes.items() if k not in own | options},
            options=dataclasses.replace(
                base.options,
                **{k: v for k, v in changes.items() if k in options},
            ),
            **{key: changes.get(key, getattr(base, key)) for key in own},
        )


def all_runs() -> dict[str, Run]:
    """List the runs, the final ones first."""
    runs = [
        Run(corpus, "final", seed, changes, tested=True)
        for seed in range(3)
        for corpus, changes in FINAL.items()
    ]
    # What `minitransformer train` does with less than an hour.
    runs += [
        Run(corpus, "recipe", tested=True)
        for corpus in ("tatoeba-zh-en", "multi30k-en-de")
    ]
    # What came before the Transformer.
    for corpus in ("storybook", "tatoeba-zh-en", "multi30k-en-de"):
        for name, kind in (
            ("no attention", "none"),
            ("attention", "additive"),
        ):
            changes = FINAL[corpus] | RECURRENT[corpus]
            runs.append(
                Run(corpus, f"recurrent, {name}", 0, changes, True, kind)
            )
    # What the form of the text does to the score that papers publish.
    runs.append(
        Run(
            "multi30k-en-de",
            "in the published form",
            changes=FINAL["multi30k-en-de"],
            tested=True,
            published=True,
        )
    )
    runs += [
        Run(corpus, f"step, {name}", 0, changes | {"updates": STEP_UPDATES})
        for corpus, steps in STEPS.items()
        for name, changes in steps.items()
    ]
    runs += [
        Run(corpus, f"trial, {name}", 0, FINAL[corpus] | changes)
        for corpus, trials in TRIALS.items()
        for name, changes in trials.items()
    ]
    return {run.key: run for run in runs}


def published_form(language: str) -> Callable[[str], str]:
    """Return what writes a line as the papers on Multi30k do.

    Normalised and tokenised by Moses' rules, lower-cased.
    """
    normalize = MosesPunctNormalizer(language).normalize
    tokenize = MosesTokenizer(language).tokenize

    def rewrite(line: str) -> str:
        text: str = tokenize(normalize(line), return_str=True, escape=False)
        return text.lower()

    return rewrite


def in_published_form(corpus: Corpus) -> Corpus:
    """Rewrite all sentences of a corpus with one reference each."""
    source, target = map(
        published_form, (corpus.source_language, corpus.target_language)
    )
    splits = {
        split: [Pair(source(p.source), target(p.target)) for p in pairs]
        for split, pairs in corpus.splits.items()
    }
    return dataclasses.replace(corpus, splits=splits)


def as_published(lines: Sequence[str], references: Sequence[str]) -> Score:
    """Score lines in the published form word by word, as the papers do."""
    several = [[line] for line in references]
    return bleu(lines, several, "none", n_bootstrap=1_000)


def recurrent_config(run: Run, sizes: Mapping[str, int]) -> RecurrentConfig:
    """Make a recurrent translator as large as the Transformer, or a bit more.

    Args:
        run: The run.
        sizes: The two vocabularies, as the configurations name them.
    """
    recipe = run.recipe
    wanted = count_parameters(
        Transformer(TransformerConfig(**sizes, **recipe.sizes))
    )
    width = 2
    while True:
        config = RecurrentConfig(
            **sizes,
            d_model=width,
            attention=run.attention or "none",
            dropout=recipe.sizes["dropout"],
        )
        if count_parameters(RecurrentTranslator(config)) >= wanted:
            return config
        width += 2


def train_recurrent(run: Run, corpus: Corpus, folder: Path) -> Translator:
    """Train a recurrent translator, or go on, and return it."""
    recipe = run.recipe
    source, target = make_tokenizers(corpus, recipe)
    sizes = {"source_vocab_size": source.vocab_size}
    if target is not source:
        sizes["target_vocab_size"] = target.vocab_size
    torch.manual_seed(run.seed)
    model = RecurrentTranslator(recurrent_config(run, sizes))
    train, valid = (
        encode_pairs(corpus.splits[split], source, target, 256)
        for split in ("train", "valid")
    )
    trainer = Trainer(model, train, valid, recipe.options)
    if (folder / "last.safetensors").exists():
        trainer.load(folder / "last.safetensors")
    trainer.run(folder, tell)
    (folder / "done").touch()
    load_weights(folder, model)
    facts = {
        "source_language": corpus.source_language,
        "target_language": corpus.target_language,
    }
    # It searches alike: a translator only asks for start and step.
    return Translator(cast(Transformer, model), source, target, facts)


def trained(run: Run, corpus: Corpus, folder: Path) -> Translator:
    """Train a translator unless that is done, and return it."""
    if run.attention:
        return train_recurrent(run, corpus, folder)
    if not (folder / "done").exists():
        train_translator(
            corpus,
            folder,
            run.recipe,
            resume=(folder / "config.json").exists(),
            device="cpu",
        )
        (folder / "done").touch()
    return Translator.load(folder)


def translated(
    translator: Translator, corpus: Corpus, split: str, beam: int = 4
) -> tuple[list[str], list[Score]]:
    """Translate a split; return the translations, their BLEU and chrF."""
    pairs = corpus.splits[split]
    references = [pair.all_references for pair in pairs]
    lines = translator.translate_lines(
        [pair.source for pair in pairs], beam_size=beam, split=False
    )
    resamplings = 0 if split == "valid" else 1_000
    tokenize = bleu_tokenizer(corpus.target_language)
    return lines, [
        bleu(lines, references, tokenize, n_bootstrap=resamplings),
        chrf(lines, references, resamplings),
    ]


def validation(translator: Translator, corpus: Corpus) -> dict[str, Any]:
    """Score the validation split, on which everything is chosen."""
    found = {}
    for beam in BEAMS:
        _, scores = translated(translator, corpus, "valid", beam)
        found[f"beam {beam}"] = {
            "BLEU": scores[0].value,
            "chrF": scores[1].value,
        }
    return found


def test_alone(
    translator: Translator, corpus: Corpus, folder: Path
) -> dict[str, Any]:
    """Score unseen text as `test` does, without what it does beside."""
    lines, scores = translated(translator, corpus, "test")
    (folder / "test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [{"of": "model", **asdict(score)} for score in scores]
    return {"test": {"scores": found, "sentences": len(lines)}}


def test(run: Run, folder: Path) -> dict[str, Any]:
    """Score unseen text; the translations stay in ``folder``."""
    scores = {}
    for split in SPLITS.get(run.corpus, ("test",)):
        command = (
            f"evaluate --corpus {run.corpus} --split {split} --device cpu"
        )
        code = cli.run(
            [
                *command.split(),
                *(["--baselines"] if run.seed == 0 else []),
                *("--model", str(folder)),
                *("--output", str(folder / f"{split}.txt")),
                *("--json", str(folder / f"{split}.json")),
            ]
        )
        if code:
            raise SystemExit(code)
        found = read_json(folder / f"{split}.json")
        found.pop("model")
        scores[split] = found
    return scores


def measure(run: Run, folder: Path) -> dict[str, Any]:
    """Train, unless that is done, and score."""
    recipe = asdict(run.recipe)
    asked = {"of": run.corpus, "attention": run.attention}
    claim(folder, recipe | asked | {"published": run.published})
    as_written = load_corpus(run.corpus)
    corpus = in_published_form(as_written) if run.published else as_written
    translator = trained(run, corpus, folder)
    _, state = load_tensors(folder / "last.safetensors")
    started = time.process_time()
    result = {
        **asdict(run),
        "recipe": recipe,
        **surroundings(),
        "parameters": count_parameters(translator.model),
        "precision": state["precision"],  # what "auto" came to
        "core_minutes": state["core_seconds"] / 60,
        "history": state["history"],
        "valid": validation(translator, corpus),
    }
    if run.tested:
        result["splits"] = (
            test_alone(translator, corpus, folder)
            if run.attention or run.published
            else test(run, folder)
        )
        if run.corpus.startswith("multi30k"):
            text = (folder / "test.txt").read_text(encoding="utf-8")
            lines = text.splitlines()
            if not run.published:
                lines = list(
                    map(published_form(corpus.target_language), lines)
                )
            references = in_published_form(as_written).splits["test"]
            result["splits"]["test"]["as published"] = asdict(
                as_published(lines, [pair.target for pair in references])
            )
    result["core_minutes_of_scoring"] = (time.process_time() - started) / 60
    return result


def is_of(kept: Mapping[str, Any], recipe: Recipe) -> bool:
    """Say whether a recipe as results keep it is this one.

    Options that are younger than the results had their defaults then.
    """
    try:
        options = TrainingOptions(**kept["options"])
    except TypeError:  # an option that is no more
        return False
    return Recipe(**{**kept, "options": options}) == recipe


def is_kept(run: Run, out: Path) -> bool:
    """Say whether the results have this very run."""
    kept = read_json(out) if out.exists() else {}
    return run.key in kept and is_of(kept[run.key]["recipe"], run.recipe)


def keep(found: dict[str, Any], out: Path) -> None:
    """Add a run to the results, which another process may add to as well."""
    with FileLock(f"{out}.lock"):
        kept = read_json(out) if out.exists() else {}
        write_json(out, dict(sorted((kept | found).items())))


def make(run: Run, folder: Path, out: Path) -> None:
    """Make a run, unless another process is at it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            found = measure(run, folder)
    except Timeout:
        print(f"{run.key} is being made by another process", flush=True)
        return
    keep({run.key: found}, out)
    print(run.key, found["valid"], flush=True)


def main() -> None:
    """Make the runs that are asked for and missing."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", help="such as storybook/final-0")
    parser.add_argument("--list", action="store_true")
    parser.add_argument(
        "--weights",
        action="store_true",
        help="make runs again whose results are here, but not their weights",
    )
    parser.add_argument("--folder", type=Path, default=BUILD / "quality")
    parser.add_argument("--out", type=Path, default=RESULTS / "quality.json")
    arguments = parser.parse_args()
    runs = all_runs()
    unknown = [name for name in arguments.runs if name not in runs]
    if unknown:
        parser.error(f"no run is called {unknown[0]!r}: --list names them")
    torch.set_num_threads(1)
    for name in arguments.runs or runs:
        done = is_kept(runs[name], arguments.out) and (
            not arguments.weights
            or (arguments.folder / name / "done").exists()
        )
        if arguments.list:
            print(name, "done" if done else "missing")
        elif not done:
            make(runs[name], arguments.folder / name, arguments.out)


if __name__ == "__main__":
    main()
