"""What do beam, length penalty, sampling and the cache do to translations?

    python benchmarks/decoding_choices.py [--models FOLDER ...]

Trained models, as `quality.py` makes them, translate validation sentences of
the corpus they learned, in many ways. Kept are numbers alone: the
translations are other people's text.

*Search errors* are counted against the widest beam: sentences for which a
narrower one returned something that the model itself scores lower. Each way's
BLEU is compared, sentence by sentence, with the usual one's, beam 4; for the
book, the n-gram counts of each sentence are kept for greedy search and beam 4.

A step of the decoder with the cache is timed beside one without, which reads
all of the translation so far, in processor time and in turn.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import alternate, mean_interval, ratio, surroundings
from places import BUILD, CommandLine, claim, name_of
from sacrebleu.metrics.bleu import BLEU
from small_runs import once
from torch import Tensor

from minitransformer import Transformer, Translator
from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.corpora import Pair, load_corpus
from minitransformer.counting import matmul_flops
from minitransformer.data import encode_source, pad
from minitransformer.decoding import (
    LENGTH_PENALTY,
    Hypothesis,
    beam_search,
    length_divisor,
)
from minitransformer.evaluation import bleu, bleu_tokenizer, chrf, split_words
from minitransformer.files import write_json
from minitransformer.packed_decoder import fast_step
from minitransformer.sampling import sample
from minitransformer.text import normalize

MODEL = BUILD / "quality" / "tatoeba-zh-en" / "final-0"
# Either reads the model and a batch and returns, for each sentence, several.
Search = Callable[[Transformer, Tensor], list[list[Hypothesis]]]


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    sentences: int = 1_000
    beams: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    penalties: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5)
    top_ks: tuple[int, ...] = (3, 10, 50)
    top_ps: tuple[float, ...] = (0.5, 0.8, 0.95)
    draws: int = 5
    batch: int = 64
    resamples: int = 1_000
    lengths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 120)
    rounds: int = 15


SMALL = Plan(
    sentences=8,
    beams=(1, 3),
    penalties=(0.0, 1.0),
    temperatures=(0.5,),
    top_ks=(3,),
    top_ps=(0.5,),
    draws=2,
    resamples=20,
    lengths=(2, 8),
    rounds=2,
)


class Task:
    """A translator and the sentences it is to translate.

    Attributes:
        translator: The translator.
        pairs: The sentences and their references.
        references: Their texts.
        sources: Their ids.
        probability: The log-probability of each first reference.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.translator = Translator.load(folder)
        corpus = load_corpus(str(self.translator.facts["corpus"]))
        self.tokenize = bleu_tokenizer(corpus.target_language)
        pairs = corpus.splits["valid"]
        step = max(1, len(pairs) // plan.sentences)
        self.pairs: list[Pair] = list(pairs[::step][: plan.sentences])
        self.references = [pair.all_references for pair in self.pairs]
        self.sources = encode_source(
            self.translator.source_tokenizer,
            [normalize(pair.source) for pair in self.pairs],
        )
        targets = [normalize(pair.target) for pair in self.pairs]
        self.targets = self.translator.target_tokenizer.encode_batch(targets)
        self.probability = self.score(self.targets)

    def batches(self) -> list[list[int]]:
        """Return the places of the sentences, those of like length together.

        As the limit of a batch is that of its longest source, a limit is
        hardly ever what ends a translation.
        """
        order = sorted(range(len(self.sources)), key=self.length)
        size = self.plan.batch
        return [order[i : i + size] for i in range(0, len(order), size)]

    def length(self, place: int) -> int:
        """Return the number of tokens of a source."""
        return len(self.sources[place])

    @torch.inference_mode()
    def score(self, targets: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of a translation of each sentence."""
        found = [0.0] * len(self.sources)
        model = self.translator.model
        most = model.config.max_len - 1
        for batch in self.batches():
            reads = pad([[BOS_ID, *targets[i][:most]] for i in batch])
            labels = pad([[*targets[i][:most], EOS_ID] for i in batch])
            logits = model(pad([self.sources[i] for i in batch]), reads)
            steps = logits.log_softmax(-1).gather(2, labels[..., None])
            steps = steps[..., 0].masked_fill(labels == 0, 0.0)
            for place, total in zip(batch, steps.sum(1).tolist(), strict=True):
                found[place] = total
        return found

    def search(self, way: Search) -> list[list[Hypothesis]]:
        """Translate every sentence in one way."""
        found: list[list[Hypothesis]] = [[] for _ in self.sources]
        for batch in self.batches():
            source = pad([self.sources[i] for i in batch])
            several = way(self.translator.model, source)
            for place, hypotheses in zip(batch, several, strict=True):
                found[place] = hypotheses
        return found

    def text(self, hypothesis: Hypothesis) -> str:
        """Return what a reader would see."""
        return self.translator.target_tokenizer.decode(hypothesis.ids)


# What is said of translations ---


def repeats(text: str) -> bool:
    """Say whether some three words in a row come twice."""
    found = split_words(text.lower())
    triples = Counter(zip(found, found[1:], found[2:], strict=False))
    return max(triples.values(), default=0) > 1


def share(flags: Sequence[bool]) -> float:
    """Return the share of those that are true."""
    return sum(flags) / len(flags)


def describe(
    task: Task, found: list[Hypothesis], resamples: int | None = None
) -> dict[str, Any]:
    """Score one translation of each sentence.

    ``log_probability`` is the plain one, per sentence: of the tokens and EOS.
    """
    texts = [task.text(each) for each in found]
    totals = task.score([each.ids for each in found])
    scored = bleu(
        texts,
        task.references,
        task.tokenize,
        n_bootstrap=(task.plan.resamples if resamples is None else resamples),
    )
    lengths = [len(each.ids) for each in found]
    return {
        "bleu": scored.value,
        "bleu_interval": scored.interval,
        "signature": scored.signature,
        "chrf": chrf(texts, task.references).value,
        "log_probability": sum(totals) / len(totals),
        "tokens": sum(lengths) / len(lengths),
        "length_ratio": sum(lengths) / sum(map(len, task.targets)),
        "empty": share([not text for text in texts]),
        "repeating": share([repeats(text) for text in texts]),
        # The reference would have scored higher: a better search would help.
        "below_reference": share(
            [
                ours < theirs - 1e-4
                for ours, theirs in zip(totals, task.probability, strict=True)
            ]
        ),
    }


def n_gram_counts(task: Task, found: list[Hypothesis]) -> list[str]:
    """Return BLEU's counts of each sentence: ten numbers in a line.

    Right n-grams of 1 to 4 words, all n-grams, our length, the reference's.
    """
    metric = BLEU(tokenize=task.tokenize, effective_order=True)
    rows = []
    for each, references in zip(found, task.references, strict=True):
        one = metric.sentence_score(task.text(each), list(references))
        row = [*one.counts, *one.totals, one.sys_len, one.ref_len]
        rows.append(" ".join(map(str, row)))
    return rows


def bleu_gain(
    task: Task, ours: list[Hypothesis], theirs: list[Hypothesis]
) -> dict[str, float]:
    """Compare two ways on the same sentences: BLEU, ours less theirs.

    The interval is that of a paired bootstrap.
    """
    first, second = (
        torch.tensor([[int(n) for n in row.split()] for row in rows]).double()
        for rows in (n_gram_counts(task, ours), n_gram_counts(task, theirs))
    )

    def score(sums: Tensor) -> Tensor:
        mean = (sums[..., :4] / sums[..., 4:8]).log().mean(dim=-1).exp()
        brevity = (1 - sums[..., 9] / sums[..., 8]).clamp(max=0).exp()
        return 100 * (brevity * mean).nan_to_num()

    drawn = torch.randint(
        len(first),
        (task.plan.resamples, len(first)),
        generator=torch.Generator().manual_seed(0),
    )
    gains = score(first[drawn].sum(dim=1)) - score(second[drawn].sum(dim=1))
    whole = score(first.sum(dim=0)) - score(second.sum(dim=0))
    low, high = gains.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return {"value": whole.item(), "low": low, "high": high}


# Beams ---


class Beams:
    """What beam search finds, each width and exponent searched once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.kept: dict[tuple[int, float], list[Hypothesis]] = {}

    def best(self, width: int, penalty: float) -> list[Hypothesis]:
        """Return the best translation of each sentence."""
        if (width, penalty) not in self.kept:
            way = partial(beam_search, beam_size=width, length_penalty=penalty)
            self.kept[width, penalty] = [
                several[0] for several in self.task.search(way)
            ]
        return self.kept[width, penalty]

    def describe(self, width: int, penalty: float) -> dict[str, Any]:
        """Score what was found, and compare it with the usual search."""
        found = self.best(width, penalty)
        usual = self.best(min(4, self.task.plan.beams[-1]), LENGTH_PENALTY)
        row = {
            "beam": width,
            "penalty": penalty,
            **describe(self.task, found),
            "over_usual": bleu_gain(self.task, found, usual),
        }
        print(
            f"beam {width}, penalty {penalty}: BLEU {row['bleu']:.2f},"
            f" {row['log_probability']:.3f} nats",
            flush=True,
        )
        return row

    def widths(self, penalty: float) -> list[dict[str, Any]]:
        """Compare the widths, with one exponent of the length."""
        task = self.task
        rows = [self.describe(width, penalty) for width in task.plan.beams]
        found = [self.best(width, penalty) for width in task.plan.beams]
        divided = [
            [
                total / length_divisor(len(each.ids) + 1, penalty)
                for each, total in zip(
                    several, task.score([h.ids for h in several]), strict=True
                )
            ]
            for several in found
        ]
        known = [max(several) for several in zip(*divided, strict=True)]
        for row, ours, best in zip(rows, divided, found, strict=True):
            for name, theirs in (
                ("below_best_known", known),
                ("below_widest", divided[-1]),
                ("below_greedy", divided[0]),
            ):
                row[name] = share(
                    [a < b - 1e-4 for a, b in zip(ours, theirs, strict=True)]
                )
            row["not_as_greedy"] = share(
                [a.ids != b.ids for a, b in zip(best, found[0], strict=True)]
            )
        return rows


def empty_wins(task: Task, best: list[Hypothesis]) -> float:
    """Say how often no word at all is likelier than what was found."""
    nothing = task.score([[] for _ in task.sources])
    ours = task.score([each.ids for each in best])
    return share([a > b for a, b in zip(nothing, ours, strict=True)])


def measure_beams(task: Task) -> dict[str, Any]:
    """Vary the beam with and without a length penalty, then the penalty."""
    search, plan = Beams(task), task.plan
    one, some, widest = plan.beams[0], min(4, plan.beams[-1]), plan.beams[-1]
    return {
        "usual_penalty": LENGTH_PENALTY,
        "with_penalty": search.widths(LENGTH_PENALTY),
        "without_penalty": search.widths(0.0),
        "penalties": [search.describe(some, p) for p in plan.penalties],
        "empty_wins": empty_wins(task, search.best(widest, 0.0)),
        "reference_log_probability": sum(task.probability)
        / len(task.probability),
        "reference_repeating": share(
            [repeats(pair.target) for pair in task.pairs]
        ),
        "counts": {
            f"beam {width}": n_gram_counts(
                task, search.best(width, LENGTH_PENALTY)
            )
            for width in (one, some)
        },
    }


# Sampling ---


def draw(task: Task, **choices: float) -> dict[str, Any]:
    """Draw several translations of each sentence, and describe them."""
    drawn = task.search(partial(sample, count=task.plan.draws, **choices))
    each = [
        describe(task, [several[i] for several in drawn], resamples=0)
        for i in range(task.plan.draws)
    ]
    different = [len({task.text(h) for h in several}) for several in drawn]
    found: dict[str, Any] = {
        key: mean_interval([row[key] for row in each])
        for key in (
            "bleu",
            "chrf",
            "log_probability",
            "length_ratio",
            "repeating",
        )
    }
    found["different"] = sum(different) / len(different)
    print(choices, f"BLEU {found['bleu']['mean']:.2f}", flush=True)
    return {**choices, **found}


def measure_sampling(task: Task) -> dict[str, Any]:
    """Sample at several temperatures, and with a tail cut off."""
    plan = task.plan
    return {
        "draws": plan.draws,
        "temperature": [draw(task, temperature=t) for t in plan.temperatures],
        "top_k": [draw(task, top_k=k) for k in plan.top_ks],
        "top_p": [draw(task, top_p=p) for p in plan.top_ps],
    }


# The cache ---


@torch.inference_mode()
def measure_cache(task: Task) -> dict[str, Any]:
    """Time one step at several lengths, and whole translations."""
    model, plan = task.translator.model, task.plan
    torch.manual_seed(0)
    config = model.config
    source = torch.randint(4, config.source_vocab_size, (16, 12))
    target = torch.randint(4, config.output_vocab_size, (16, 200))
    return {
        "steps": [
            one_step(model, source[:batch], target[:batch, :length], plan)
            for batch in (1, 16)
            for length in plan.lengths
        ],
        "whole": [
            all_steps(model, source[:1], target[:1, :length], plan)
            for length in plan.lengths
        ],
    }


def one_step(
    model: Transformer, source: Tensor, target: Tensor, plan: Plan
) -> dict[str, Any]:
    """Time the step that reads the last token of ``target (B, T)``."""
    memory, state = model.encode(source), model.start(source)
    for tokens in target[:, :-1].T:
        model.step(tokens, state)
    packed = fast_step(model, state)

    def cached(step: Callable[..., Tensor]) -> Tensor:
        # A step puts new tensors into the state and changes none.
        kept = copy.copy(state)
        kept.layers = [copy.copy(layer) for layer in state.layers]
        return step(target[:, -1], kept)

    def uncached() -> Tensor:
        hidden = model.decode_hidden(target, memory, source)  # (B, T, D)
        logits: Tensor = model.output(hidden[:, -1])  # (B, V)
        return logits

    candidates = {
        "uncached": uncached,
        "cached": partial(cached, model.step),
        "packed": partial(cached, packed),
    }
    times = alternate(candidates, plan.rounds)
    found = {
        "batch": len(target),
        "length": target.shape[1],
        "gap": (cached(model.step) - uncached()).abs().max().item(),
        "uncached_over_cached": ratio(times["uncached"], times["cached"]),
        "uncached_over_packed": ratio(times["uncached"], times["packed"]),
        "flops_uncached": matmul_flops(uncached),
        "flops_cached": matmul_flops(partial(cached, model.step)),
        "cache_bytes": sum(layer.past.nbytes for layer in state.layers),
    }
    print(len(target), target.shape[1], found["uncached_over_cached"])
    return found


def all_steps(
    model: Transformer, source: Tensor, target: Tensor, plan: Plan
) -> dict[str, Any]:
    """Time all the steps that make ``target (1, T)``, the encoder's too."""

    def with_cache() -> None:
        state = model.start(source)
        for tokens in target.T:
            model.step(tokens, state)

    def without(memory: Tensor | None) -> None:
        for end in range(1, target.shape[1] + 1):
            kept = model.encode(source) if memory is None else memory
            hidden = model.decode_hidden(target[:, :end], kept, source)
            model.output(hidden[:, -1])

    candidates = {
        "cache": with_cache,
        "memory kept": lambda: without(model.encode(source)),
        "nothing kept": lambda: without(None),
    }
    times = alternate(candidates, max(2, plan.rounds // 3))
    return {
        "length": target.shape[1],
        "memory_kept_over_cache": ratio(times["memory kept"], times["cache"]),
        "nothing_kept_over_cache": ratio(
            times["nothing kept"], times["cache"]
        ),
    }


PARTS = {
    "beams": measure_beams,
    "sampling": measure_sampling,
    "cache": measure_cache,
}


def main() -> None:
    """Measure and write the result."""
    parser = CommandLine("decoding_choices", __doc__, folder=True)
    parser.add_argument("--models", type=Path, nargs="+", default=[MODEL])
    arguments = parser.read()
    for folder in arguments.models:
        if not (folder / "config.json").exists():
            parser.error(
                f"{folder} holds no model: train one with quality.py, or name"
                " a model's folder with --models"
            )
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    result: dict[str, Any] = {"plan": asdict(plan), "models": []}
    for number, folder in enumerate(arguments.models):
        task = Task(folder, plan)
        found: dict[str, Any] = {
            "corpus": task.translator.facts["corpus"],
            "split": "valid",
            "sentences": len(task.pairs),
            "layers": len(task.translator.model.decoder),
            "width": task.translator.model.config.d_model,
        }
        for name, measure in PARTS.items():
            if name == "cache" and number:
                continue  # time depends on sizes, not on what was learned
            path = arguments.folder / f"{name_of(folder)}-{name}.json"
            found[name] = once(path, partial(measure, task))
        result["models"].append(found)
    write_json(arguments.out, result | {"surroundings": surroundings()})


if __name__ == "__main__":
    main()
