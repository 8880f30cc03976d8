"""The command line: thin, since each command calls what Python can call.

A mistake in the input ends in one line, ``Error: ...``, and exit code 2. The
modules that cost time to import are imported by the command that needs them.
"""

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from minitransformer.decoding import LENGTH_PENALTY
from minitransformer.errors import UserError
from minitransformer.files import atomic_write, read_lines

if TYPE_CHECKING:
    from minitransformer.corpora import Corpus
    from minitransformer.evaluation import Score
    from minitransformer.homework.grading.sandbox import Limits
    from minitransformer.recipes import Recipe
    from minitransformer.translator import Translator

DEFAULT_MODEL = "storybook-en-fr"
MAX_JOBS = 14  # as many users as the sandbox has
MAX_THREADS = 1024  # more than any processor has
MAX_SEED = 2**32 - 1
MAX_BEAM = 1024  # chapter 11 finds nothing better beyond 4
MAX_LENGTH_PENALTY = 10.0  # far above what ever helped
ALIGNED_PAIRS = 200  # enough for an interval of about one per cent

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CorpusName = Annotated[
    str | None, typer.Option(help="A corpus that `corpora` lists.")
]
SourceFile = Annotated[
    Path | None, typer.Option(help="Your own source text, a sentence a line.")
]
TargetFile = Annotated[
    Path | None, typer.Option(help="Its translation, line by line.")
]
TsvFile = Annotated[
    Path | None, typer.Option(help="Or both, separated by a tab.")
]
ModelOption = Annotated[
    str, typer.Option(help="A folder `train` wrote, or a model's name.")
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu or cuda; auto takes the fastest.")
]
BeamOption = Annotated[
    int,
    typer.Option(
        min=1, max=MAX_BEAM, help="Hypotheses kept; 1 is greedy decoding."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_THREADS, help="Processor threads; all, if not given."
    ),
]


def _check_penalty(value: float) -> float:
    """Refuse what would be no number any more; typer's range lets nan pass."""
    if not 0 <= value <= MAX_LENGTH_PENALTY:
        raise UserError(
            f"--length-penalty {value:g} must be 0 to {MAX_LENGTH_PENALTY:g}."
        )
    return value


PenaltyOption = Annotated[
    float,
    typer.Option(
        callback=_check_penalty,
        help=f"0 to {MAX_LENGTH_PENALTY:g}; a higher one favours length.",
    ),
]


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def _terminate(number: int, frame: object) -> NoReturn:
    """Leave by an exception, so that unfinished files are removed."""
    raise SystemExit(128 + number)  # as a shell says it


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What stands behind ``minitransformer`` on the line.

    Returns:
        0 if all went well, 2 for a mistake in the input, 130 for Ctrl-C.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:  # it can be neither printed nor noted
            return _complain(
                f"{argument[:60]!r} is not UTF-8: write the text in UTF-8, or"
                " rename the file."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(
                app(
                    args=list(arguments),
                    prog_name="minitransformer",
                    standalone_mode=False,
                )
                or 0
            )
        except (UserError, OSError) as error:
            return _complain(str(error))
        except (KeyboardInterrupt, typer.Abort):
            return 130
        except Exception as error:
            # Typer's own complaints, whose class has moved between versions.
            if not hasattr(error, "format_message"):
                raise
            return _complain(error.format_message())


def _complain(message: str) -> int:
    print("Error:", " ".join(message.split()), file=sys.stderr)
    return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line, without the line of code it came from."""
    print("Warning:", " ".join(str(message).split()), file=sys.stderr)


@app.callback(invoke_without_command=True)
def minitransformer(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.")
    ] = False,
) -> None:
    """Train a small Transformer, translate with it, and look inside."""
    if version:
        from minitransformer import __version__

        print(f"minitransformer {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


# Corpora ---


@app.command()
def corpora(
    show_credits: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print whom to thank, and licence."),
    ] = None,
) -> None:
    """List the corpora, or say whom one is owed to.

    \b
    Examples:
      minitransformer corpora
      minitransformer corpora --show-credits tatoeba-zh-en
    """
    from minitransformer.corpora import CORPORA, credit_lines

    if show_credits is not None:
        lines = list(credit_lines(show_credits))
    else:
        lines = [
            f"{info.name:{max(map(len, CORPORA))}}  {info.about},"
            f" {info.how}; {info.licence}"
            for info in CORPORA.values()
        ]
    _put(None, lines)


# Train ---


@app.command()
def train(
    corpus: CorpusName = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder, as it began."),
    ] = None,
    source: SourceFile = None,
    target: TargetFile = None,
    tsv: TsvFile = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Divide it among torchrun's processes."),
    ] = False,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Save memory, at the cost of time."),
    ] = False,
    updates: Annotated[
        int | None, typer.Option(help="Optimizer updates.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens in a batch.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches in an update.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest learning rate.")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Updates until it is reached.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="inverse_sqrt, cosine or linear.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="Share of a label spread out.")
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Updates between two checkpoints.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many checkpoints without gain."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32 or bf16.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Decides everything random."),
    ] = None,
    d_model: Annotated[
        int | None, typer.Option(help="Width of the model.")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option(help="Attention heads.")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(help="Layers, encoder and decoder each.")
    ] = None,
    d_ff: Annotated[
        int | None, typer.Option(help="Width inside the feed-forward.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Chance of dropping a number.")
    ] = None,
    max_len: Annotated[
        int | None, typer.Option(help="Longest sentence, in tokens.")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Tokens of the vocabulary.")
    ] = None,
    target_vocab_size: Annotated[
        int | None,
        typer.Option(help="Give the target language its own vocabulary."),
    ] = None,
) -> None:
    """Train a translator on a corpus, and keep its best weights.

    What is not given comes from a recipe that suits the corpus. A run that
    was stopped, however it was stopped, goes on with --resume.

    \b
    Examples:
      minitransformer train --corpus storybook --out models/story
      minitransformer train --source a.en --target a.fr --out models/mine
      minitransformer train --resume models/story
    """
    from minitransformer.processor import choose_device
    from minitransformer.recipes import recipe_for, train_translator

    where: dict[str, Any] = {
        "device": str(choose_device(device)),
        "sharded": shard,
        "recompute": recompute,
    }
    layers = ("num_encoder_layers", "num_decoder_layers")
    sizes = _given(
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        dropout=dropout,
        max_len=max_len,
        **dict.fromkeys(layers, num_layers),
    )
    vocabularies = _given(
        vocab_size=vocab_size, target_vocab_size=target_vocab_size
    )
    options = _given(
        updates=updates,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        learning_rate=learning_rate,
        warmup=warmup,
        schedule=schedule,
        label_smoothing=label_smoothing,
        validate_every=validate_every,
        patience=patience,
        precision=precision,
        seed=seed,
    )
    _set_threads(threads)
    if resume is not None:
        begun = _given(corpus=corpus, out=out, source=source, target=target)
        begun |= _given(tsv=tsv) | sizes | vocabularies | options
        if begun:
            name = next(iter(begun)).replace("_", "-")
            raise UserError(
                f"A resumed run goes on as it began: leave out --{name}, or"
                " leave out --resume to begin anew."
            )
        found, origin = _resumed_corpus(resume)
        where.update(origin=origin)
        with _resumable(resume):
            train_translator(found, resume, resume=True, **where)
        return
    if out is None:
        raise UserError("The model needs a place: give a folder with --out.")
    found, origin = _open_corpus(corpus, source, target, tsv)
    where.update(origin=origin)
    recipe: Recipe = recipe_for(found.name)
    recipe = replace(
        recipe,
        sizes={**recipe.sizes, **sizes},
        options=replace(recipe.options, **options),
        **vocabularies,
    )
    with _resumable(out):
        train_translator(found, out, recipe, **where)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Tell whoever stops a run how it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "last.safetensors").exists():
            print(
                "Stopped; it goes on from the last checkpoint with"
                f" `minitransformer train --resume {folder}`.",
                file=sys.stderr,
            )
        raise


def _given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given."""
    return {k: v for k, v in options.items() if v is not None}


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    import torch

    torch.set_num_threads(threads)


def _open_corpus(
    name: str | None,
    source: Path | None,
    target: Path | None,
    tsv: Path | None,
) -> "tuple[Corpus, dict[str, str]]":
    """Load a corpus by name or from files, and note where it came from."""
    from minitransformer.corpora import files_corpus, load_corpus, tsv_corpus

    ways = [name is not None, source is not None or target is not None]
    if sum([*ways, tsv is not None]) > 1:
        raise UserError(
            "One corpus at a time: give --corpus, or --source and --target,"
            " or --tsv."
        )
    if (source is None) != (target is None):
        raise UserError(
            "--source and --target go together: give both files, or --tsv."
        )
    if source is not None and target is not None:
        origin = {
            "source": str(source.absolute()),
            "target": str(target.absolute()),
        }
        return files_corpus(source, target), origin
    if tsv is not None:
        return tsv_corpus(tsv), {"tsv": str(tsv.absolute())}
    return load_corpus(name or "storybook"), {}


def _resumed_corpus(folder: Path) -> "tuple[Corpus, dict[str, str]]":
    """Load the corpus that a run began with."""
    from minitransformer.checkpoints import load_config

    about = load_config(folder)[-1]
    return _known_corpus(about, "train anew, without --resume")


def _known_corpus(
    about: Mapping[str, Any], remedy: str
) -> "tuple[Corpus, dict[str, str]]":
    """Load the corpus that is noted with a model."""
    origin = about.get("origin") or {}
    if not origin and not about.get("corpus"):
        raise UserError(f"The model doesn't note its corpus: {remedy}.")
    paths = {key: Path(path) for key, path in origin.items()}
    return _open_corpus(
        None if origin else about.get("corpus"),
        paths.get("source"),
        paths.get("target"),
        paths.get("tsv"),
    )


# Translate ---


@app.command()
def translate(
    text: Annotated[
        str | None, typer.Argument(help="What to translate.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="A file to translate line by line."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to; the screen if not given.")
    ] = None,
    beam: BeamOption = 4,
    length_penalty: PenaltyOption = LENGTH_PENALTY,
    batch_size: Annotated[
        int, typer.Option(help="Sentences translated together.")
    ] = 64,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Translate a text, a file, or what comes in on a pipe.

    A text is cut into sentences first. A file gives one line for each line.

    \b
    Examples:
      minitransformer translate "The cat is sleeping in the garden."
      minitransformer translate --model models/story --input a.en --output a.fr
      cat a.en | minitransformer translate --model models/story
    """
    if text is not None and input_ is not None:
        raise UserError("One thing at a time: give a text or --input.")
    _set_threads(threads)
    place: Callable[[int], str] = "The text".format
    if text is not None:
        lines = [text]
    else:
        if input_ is None and sys.stdin is None:
            raise UserError(
                "There is nothing to read: give a text or --input."
            )
        lines = [line for _, line in read_lines(input_)]
        place = _line_of(str(input_ or "The standard input"))
    with _writing(output) as temporary:
        translations = _translate_lines(
            _load_model(model, device),
            lines,
            place,
            beam_size=beam,
            length_penalty=length_penalty,
            batch_size=batch_size,
        )
        _put(temporary, translations)


def _line_of(name: str) -> Callable[[int], str]:
    return lambda index: f"{name}, line {index + 1},"


def _load_model(name: str, device: str) -> "Translator":
    from minitransformer.translator import Translator

    return Translator.load(name, device)


def _translate_lines(
    translator: "Translator",
    lines: Sequence[str],
    place: Callable[[int], str],
    **options: Any,
) -> list[str]:
    """Translate with a progress bar, if there is a terminal to show it."""
    from tqdm import tqdm

    with tqdm(
        total=len(lines), unit="line", leave=False, disable=_bar_is_off(lines)
    ) as bar:
        return translator.translate_lines(
            lines,
            place=place,
            progress=lambda done: bar.update(done - bar.n),
            **options,
        )


def _bar_is_off(lines: Sequence[str]) -> bool:
    return len(lines) < 2 or not (sys.stderr and sys.stderr.isatty())


@contextmanager
def _writing(path: Path | None) -> Iterator[Path | None]:
    """Open a file for writing before the work begins, or nothing.

    A place that can't be written to is found out before the work, not after.
    """
    if path is None:
        yield None
    elif path.exists() and not (path.is_file() or path.is_dir()):
        yield path  # a device or a pipe, which nothing may take the place of
    else:
        with atomic_write(path) as temporary:
            yield temporary


def _put(path: Path | None, lines: Sequence[str]) -> None:
    """Write lines to a file, or to the standard output."""
    text = "".join(f"{line}\n" for line in lines)
    if path is not None:
        path.write_text(text, encoding="utf-8", newline="\n")
    elif sys.stdout is None:
        raise UserError(
            "The standard output is closed: leave it open, or lead it to a"
            " file."
        )
    else:
        sys.stdout.write(text)


# Evaluate ---


@app.command()
def evaluate(
    model: ModelOption = DEFAULT_MODEL,
    corpus: CorpusName = None,
    split: Annotated[
        str, typer.Option(help="Which sentences to translate.")
    ] = "test",
    source: SourceFile = None,
    target: TargetFile = None,
    tsv: TsvFile = None,
    beam: BeamOption = 4,
    length_penalty: PenaltyOption = LENGTH_PENALTY,
    batch_size: Annotated[
        int, typer.Option(help="Sentences translated together.")
    ] = 64,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="Ignore case in BLEU.")
    ] = False,
    n_bootstrap: Annotated[
        int, typer.Option(help="Resamplings for intervals; 0 for none.")
    ] = 1000,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Score two baselines beside it."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="File for the translations.")
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="File for the scores.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Translate a corpus and score the translations.

    Prints BLEU and chrF with sacreBLEU's signature and a 95 % interval. On
    the storybook, whose truth is known, it scores pronouns and word
    alignment too; on challenge-zh-en, by phenomenon, how often the point was
    kept. Without a corpus it takes the one the model learned from.

    A sentence the model can't read, since it is too long, is left out of the
    scores, and its line of the translations is empty.

    \b
    Examples:
      minitransformer evaluate --model models/story
      minitransformer evaluate --model models/story --split compositional
      minitransformer evaluate --model models/mine --source b.en --target b.fr
    """
    if (
        output
        and json_
        and os.path.realpath(output) == os.path.realpath(json_)
    ):
        raise UserError(
            f"--output and --json are both {output}: give each its own file."
        )
    _set_threads(threads)
    translator = _load_model(model, device)
    if corpus is None and source is None and target is None and tsv is None:
        remedy = "give one with --corpus"
        found, _ = _known_corpus(translator.facts, remedy)
    else:
        found, _ = _open_corpus(corpus, source, target, tsv)
    if split not in found.splits:
        raise UserError(
            f"{found.name} has no split {split!r}: choose one of"
            f" {', '.join(found.splits)}."
        )
    pairs = found.splits[split]
    scores: list[tuple[str, Score]] = []
    with ExitStack() as stack:
        # Called last: a broken pipe costs no file, and a full disk no score.
        stack.callback(_show, scores)
        hypotheses_file = stack.enter_context(_writing(output))
        scores_file = stack.enter_context(_writing(json_))
        kept = _readable(translator, found, split)
        hypotheses = _translate_lines(
            translator,
            [pairs[index].source for index in kept],
            lambda number: (
                f"{found.name}, {split} sentence {kept[number] + 1},"
            ),
            split=False,
            beam_size=beam,
            length_penalty=length_penalty,
            batch_size=batch_size,
        )
        scores += _score(
            translator,
            found,
            split,
            kept,
            hypotheses,
            lowercase,
            n_bootstrap,
            baselines,
        )
        if hypotheses_file:
            lines = dict(zip(kept, hypotheses, strict=True))
            numbers = range(len(pairs))
            _put(hypotheses_file, [lines.get(n, "") for n in numbers])
        if scores_file:
            facts = {
                "model": model,
                "corpus": found.name,
                "split": split,
                "sentences": len(kept),
                "beam": beam,
                "length_penalty": length_penalty,
                "scores": [
                    {"of": who, **asdict(score)} for who, score in scores
                ],
            }
            if len(kept) < len(pairs):
                facts["left_out"] = len(pairs) - len(kept)
            text = json.dumps(facts, indent=1, ensure_ascii=False)
            _put(scores_file, text.splitlines())


def _show(scores: "Sequence[tuple[str, Score]]") -> None:
    """Print the scores, if it came so far."""
    if scores:
        _put(None, [f"{who}: {score}" for who, score in scores])


def _readable(
    translator: "Translator", corpus: "Corpus", split: str
) -> list[int]:
    """Choose the sentences of a split that the model can read.

    Training leaves the others out, too.
    """
    from minitransformer.data import encode_source

    limit = translator.model.config.max_len
    lines = [pair.source for pair in corpus.splits[split]]
    sources = encode_source(translator.source_tokenizer, lines)
    kept = [index for index, ids in enumerate(sources) if len(ids) <= limit]
    if not kept:
        raise UserError(
            f"{corpus.name}, {split}, has no sentence of at most {limit}"
            " tokens, which the model could read: shorten the sentences."
        )
    if len(kept) < len(lines):
        warnings.warn(
            f"{corpus.name}, {split}: {len(lines) - len(kept):,} of"
            f" {len(lines):,} sentences are left out, since the model reads"
            f" {limit} tokens at most; the scores are over the rest.",
            stacklevel=2,
        )
    return kept


def _score(
    translator: "Translator",
    corpus: "Corpus",
    split: str,
    kept: Sequence[int],
    hypotheses: list[str],
    lowercase: bool,
    n_bootstrap: int,
    baselines: bool,
) -> "list[tuple[str, Score]]":
    """Score the model's translations and, if asked for, the baselines'."""
    from minitransformer import evaluation

    pairs = [corpus.splits[split][index] for index in kept]
    references = [pair.all_references for pair in pairs]
    systems = {"model": hypotheses}
    if baselines:
        sources = [pair.source for pair in pairs]
        known = corpus
        if "train" not in corpus.splits:  # learn from what the model did
            remedy = "leave out --baselines"
            known, _ = _known_corpus(translator.facts, remedy)
        learned = [(p.source, p.target) for p in known.splits["train"]]
        systems["copy"] = evaluation.CopyBaseline().translate(sources)
        dictionary = evaluation.DictionaryBaseline.fit(learned)
        systems["dictionary"] = dictionary.translate(sources)
    tokenize = evaluation.bleu_tokenizer(corpus.target_language)
    scores = []
    for who, lines in systems.items():
        scores += [
            (
                who,
                evaluation.bleu(
                    lines, references, tokenize, lowercase, n_bootstrap
                ),
            ),
            (who, evaluation.chrf(lines, references, n_bootstrap)),
        ]
    if corpus.name == "storybook":
        scores += _score_storybook(translator, split, kept, systems)
    elif corpus.name == "challenge-zh-en":
        scores += _score_challenge(kept, systems)
    return scores


def _score_storybook(
    translator: "Translator",
    split: str,
    kept: Sequence[int],
    systems: Mapping[str, list[str]],
) -> "list[tuple[str, Score]]":
    """Score what is known to be true of the storybook's sentences."""
    from minitransformer import evaluation, storybook

    stories = storybook.splits()
    pairs = [stories[split][index] for index in kept]
    scores = [
        (who, evaluation.pronoun_accuracy(lines, pairs))
        for who, lines in systems.items()
    ]
    alignment = evaluation.best_alignment(
        translator.model,
        translator.source_tokenizer,
        translator.target_tokenizer,
        stories["valid"][:ALIGNED_PAIRS],
        pairs[:ALIGNED_PAIRS],
    )
    return [*scores, ("model", alignment)]


def _score_challenge(
    kept: Sequence[int], systems: Mapping[str, list[str]]
) -> "list[tuple[str, Score]]":
    """Score whether the points were kept, and each phenomenon."""
    from minitransformer import challenge, evaluation

    everything = challenge.challenge_items()
    items = [everything[index] for index in kept]
    scores: list[tuple[str, Score]] = []
    for who, lines in systems.items():
        scores.append((who, evaluation.points_kept(lines, items)))
        kinds = evaluation.phenomenon_scores(lines, items)
        scores += [(who, kind) for kind in kinds]
    return scores


# Attention ---

KINDS = {
    "cross": "decoder.{}.cross_attention",
    "encoder": "encoder.{}.self_attention",
    "decoder": "decoder.{}.self_attention",
}
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "SimHei",
)


@app.command()
def attention(
    text: Annotated[str, typer.Argument(help="One sentence.")],
    out: Annotated[
        Path, typer.Option(help="The figure: a .png, .svg or .pdf file.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    translation: Annotated[
        str | None,
        typer.Option(help="Read this translation, not the model's own."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="cross, encoder or decoder.")
    ] = "cross",
    layer: Annotated[
        int | None, typer.Option(help="From 0 up; the last if not given.")
    ] = None,
    head: Annotated[
        int | None, typer.Option(help="From 0 up; their mean if not given.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw what the model attends to while it translates a sentence.

    \b
    Examples:
      minitransformer attention "The cat is sleeping." --out cat.png
      minitransformer attention "She sings." --out sing.svg --layer 2 --head 3
    """
    if kind not in KINDS:
        raise UserError(
            f"--kind {kind} is unknown: choose one of {', '.join(KINDS)}."
        )
    suffix = out.suffix.lower().lstrip(".")
    if suffix not in ("png", "svg", "pdf"):
        raise UserError(
            f"{out} is no name of a figure: end it in .png, .svg or .pdf."
        )
    with _writing(out) as temporary:
        found = _load_model(model, device).attention(text, translation)
        depth = sum(
            name.startswith(KINDS[kind].split(".")[0])
            and name.endswith(KINDS[kind].split(".")[-1])
            for name in found.maps
        )
        layer = _index("layer", layer, depth, depth - 1)
        weights = found.maps[KINDS[kind].format(layer)].cpu()  # (H, T, S)
        if head is None:
            weights, which = weights.mean(0), "mean of all heads"
        else:
            head = _index("head", head, len(weights), 0)
            weights, which = weights[head], f"head {head}"

        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib import pyplot as plt

        from minitransformer.viz import plot_attention, use_book_style

        use_book_style()
        _add_chinese_font(mpl.rcParams)
        encoder, decoder = found.source_tokens, found.target_tokens
        plot_attention(
            weights,
            encoder if kind == "encoder" else decoder,
            decoder if kind == "decoder" else encoder,
            title=f"{KINDS[kind].format(layer)}, {which}",
        )
        assert temporary is not None
        plt.savefig(temporary, format=suffix, bbox_inches="tight")
        plt.close("all")
    print(found.translation)


def _add_chinese_font(settings: dict[Any, Any]) -> None:
    """Let tokens be drawn in Chinese, where the machine has a font for it."""
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    found = [name for name in CHINESE_FONTS if name in here]
    settings["font.family"] = [*settings["font.family"], *found[:1]]


def _index(name: str, value: int | None, count: int, default: int) -> int:
    """Check a number that counts layers or heads from 0."""
    if value is None:
        return default
    if not 0 <= value < count:
        raise UserError(
            f"--{name} {value} is not there: choose 0 to {count - 1}."
        )
    return value


# Homework ---

TimeoutOption = Annotated[
    float | None,
    typer.Option(help="Seconds for a file; half for a cell, or for a task."),
]
MemoryOption = Annotated[
    int | None,
    typer.Option(help="Megabytes that a file may use beside torch."),
]


@app.command()
def check(
    assignment: Annotated[
        str, typer.Argument(help="The assignment, such as hw2.")
    ],
    file: Annotated[
        Path, typer.Argument(help="Your notebook, or a .py file.")
    ],
    seed: Annotated[
        int, typer.Option(help="Draws the inputs; a grader tells you theirs.")
    ] = 0,
    timeout: TimeoutOption = None,
    memory: MemoryOption = None,
) -> int:
    """Judge your own file as a grader would.

    The exit code is 0 if everything is right, and 1 if something is not.

    \b
    Examples:
      minitransformer check hw2 hw2.ipynb
      minitransformer check hw2 hw2.ipynb --seed 4711
    """
    from minitransformer.homework.checking import require_seed
    from minitransformer.homework.grading.judging import judge_file
    from minitransformer.homework.tasks import require_assignment

    require_assignment(assignment)
    require_seed(seed)
    if not file.is_file():
        raise UserError(f"{file} is no file: give the notebook to check.")
    limits = _limits(assignment, timeout, memory)
    report = judge_file(file, assignment, seed, limits)
    for where, error in report.errors:
        print(f"{where} fails: {error}")
    for task in report.tasks:
        points = f"{task.points}/{task.out_of}" if task.out_of else "stretch"
        print(f"{task.name} ({points}) {task.message}")
    print(f"{report.points} of {report.out_of} points")
    return 0 if all(task.passed for task in report.tasks) else 1


def _limits(
    assignment: str, timeout: float | None, memory: int | None
) -> "Limits":
    from minitransformer.homework.grading.sandbox import limits_for

    if timeout is not None and not 1 <= timeout <= 86_400:
        raise UserError(f"--timeout {timeout:g} must be 1 to 86400 seconds.")
    if memory is not None and memory < 1:
        raise UserError(f"--memory {memory} must be 1 megabyte or more.")
    return limits_for(assignment, timeout, memory)


@app.command()
def grade(
    folder: Annotated[
        Path, typer.Argument(help="Holds a file or folder for each student.")
    ],
    out: Annotated[Path, typer.Option(help="The grades, a .csv file.")],
    feedback: Annotated[
        Path | None,
        typer.Option(help="Folder for a page of feedback for each student."),
    ] = None,
    assignment: Annotated[
        str | None,
        typer.Option(help="Such as hw2; the file names tell, if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the inputs.")] = 0,
    per_student: Annotated[
        bool,
        typer.Option("--per-student", help="A seed for each, by name."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what a stopped run judged.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(help="Submissions judged at a time.")
    ] = 1,
    timeout: TimeoutOption = None,
    memory: MemoryOption = None,
    canvas: Annotated[
        Path | None, typer.Option(help="The gradebook Canvas exported.")
    ] = None,
    moodle: Annotated[
        Path | None, typer.Option(help="The worksheet Moodle exported.")
    ] = None,
) -> None:
    """Judge a class's submissions, each behind walls of its own.

    What Canvas or Moodle exported is filled in beside the grades, in
    OUT-canvas.csv or OUT-moodle.csv.

    \b
    Examples:
      minitransformer grade submissions/ --out grades.csv --feedback pages
      minitransformer grade hw2/ --out hw2.csv --per-student --resume
      minitransformer grade hw2/ --out hw2.csv --canvas gradebook.csv
    """
    from minitransformer.homework.checking import require_seed
    from minitransformer.homework.grading.classes import grade_class
    from minitransformer.homework.grading.folders import Plan, guess_assignment
    from minitransformer.homework.tasks import require_assignment

    if not 1 <= jobs <= MAX_JOBS:
        raise UserError(f"--jobs {jobs} must be 1 to {MAX_JOBS}.")
    require_seed(seed)
    chosen = assignment or guess_assignment(folder)
    require_assignment(chosen)
    limits = _limits(chosen, timeout, memory)
    plan = Plan(chosen, seed, per_student, limits, jobs)
    for line in grade_class(
        folder, plan, out, feedback, resume, canvas, moodle
    ):
        print(line)
