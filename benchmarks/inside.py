"""What do the heads of a trained translator do, and which are missed?

    python benchmarks/inside.py
    python benchmarks/inside.py --models FOLDER FOLDER FOLDER

The models are storybook translators that differ by their seed; those that
``benchmarks/quality.py`` makes, unless others are named. Each of their
heads is described by where it looks, then silenced, then made to look at
everything alike. Heads are silenced together, those missed least first. Then
come the layers: what the decoder would say after each (the logit lens), and
what each part adds to the choice between *il* and *elle*. Last, where the
model looks is held against what changes its output. A finished model is kept
in ``--folder``. About four minutes of one thread for each model.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import mean_interval, surroundings
from places import BUILD, CommandLine, claim, name_of
from small_runs import Storybook, run_all
from torch import Tensor

from minitransformer import Transformer, Translator
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.data import encode_source, pad
from minitransformer.evaluation import (
    alignment_error,
    bleu,
    bootstrap_interval,
    pronoun_accuracy,
    views,
)
from minitransformer.files import write_json
from minitransformer.heads import (
    Head,
    even,
    heads_of,
    map_distances,
    map_shares,
    on_words,
    pruned,
    rewritten,
)
from minitransformer.recording import recorded_attention
from minitransformer.story_lexicon import ADJECTIVES, NOUNS, SUITED, nouns_of
from minitransformer.story_patterns import SCENES
from minitransformer.storybook import Pronoun, StoryPair, splits, words
from minitransformer.tracing import trace

OTHER = {"il": "elle", "elle": "il", "ils": "elles", "elles": "ils"}
BATCH = 64
MODELS = [
    BUILD / "quality" / "storybook" / f"final-{seed}" for seed in range(3)
]


@dataclass(frozen=True)
class Plan:
    """How much is done; ``SMALL`` is for a quick test."""

    train_pairs: int = 60_000
    test_pairs: int = 1_000
    judged: int = 200  # of the test pairs: loss, BLEU, maps
    chosen_on: int = 200  # of the validation pairs: the order of pruning
    hidden: int = 100  # of the test pairs: words hidden one by one
    step: int = 3  # heads silenced together
    random_orders: int = 3


SMALL = Plan(
    train_pairs=200,
    test_pairs=60,
    judged=6,
    chosen_on=6,
    hidden=3,
    step=6,
    random_orders=1,
)


@dataclass(frozen=True)
class SmallModel:
    """The model and corpus of a quick test."""

    vocabulary: int = 400
    pairs: int = 200
    test_pairs: int = 60


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return a mean over sentences and its 95 % interval by the bootstrap."""
    low, high = bootstrap_interval(values, [1.0] * len(values))
    mean = sum(values) / len(values)
    return {
        "mean": round(mean, 5),
        "low": round(low / 100, 5),
        "high": round(high / 100, 5),
    }


# Twins: one word decides who "it" is ---


@dataclass(frozen=True)
class Twin:
    """A test sentence, and the same with another adjective at its end.

    Attributes:
        pair: The sentence.
        source: The other one's English.
        other: Index of its antecedent, the other noun.
        pronoun: Its pronoun in French.
    """

    pair: StoryPair
    source: str
    other: int
    pronoun: str


def noun_at(word: str) -> str | None:
    """Return the singular of a noun, or None if the word is none."""
    word = word.lower()
    return next((one for one, n in NOUNS.items() if word in n.en), None)


def twin(pair: StoryPair) -> Twin | None:
    """Give a sentence of the pattern "reason" the other antecedent.

    Only where the nouns have different genders, and the new adjective suits
    the other noun alone.
    """
    if pair.pattern != "reason":
        return None
    english = words(pair.source)
    until = english.index("because")
    places = [i for i in range(until) if noun_at(english[i])]
    (pronoun,) = pair.pronouns
    if len(places) != 2 or pronoun.source_antecedent not in places:
        return None
    first, second = (noun_at(english[i]) for i in places)
    of_first = pronoun.source_antecedent == places[0]
    asked, left = (second, first) if of_first else (first, second)
    assert asked
    assert left
    genders = {NOUNS[asked].gender, NOUNS[left].gender}
    old = english[-2]
    fits = [
        name
        for scene in SCENES
        if NOUNS[str(first)] in nouns_of(scene.subjects)
        and NOUNS[str(second)] in nouns_of(scene.objects)
        and scene.negative == ("not" in english)
        and old in (scene.of_subject if of_first else scene.of_object).split()
        for name in (scene.of_object if of_first else scene.of_subject).split()
        if name in SUITED[asked]
        and name not in SUITED[left]
        and ADJECTIVES[name].gradable
        and name not in english
    ]
    if not fits or len(genders) == 1:
        return None
    seed = zlib.crc32(pair.source.encode())
    name = random.Random(seed).choice(sorted(set(fits)))
    source = pair.source.rpartition(old)[0] + name + "."
    index = next(i for i in places if i != pronoun.source_antecedent)
    said = words(pair.target)[pronoun.target_index].lower()
    return Twin(pair, source, index, OTHER[said])


# A model and its sentences ---


@dataclass
class Probe:
    """A pronoun that the decoder is about to write.

    Attributes:
        pair: The sentence.
        pronoun: Which of its pronouns.
        source: Source ids ``(S,)``, EOS last.
        prefix: What the decoder has read, BOS first.
        right, wrong: Token ids of the two pronouns to choose from.
        source_words, target_words: For each token, its word.
    """

    pair: StoryPair
    pronoun: Pronoun
    source: list[int]
    prefix: list[int]
    right: int
    wrong: int
    source_words: list[int]
    target_words: list[int]


class Subject:
    """One translator, and the sentences it is asked about."""

    def __init__(self, place: Path, plan: Plan) -> None:
        self.translator = Translator.load(place)
        self.model: Transformer = self.translator.model
        self.plan = plan
        book = splits(plan.train_pairs, plan.test_pairs, plan.test_pairs, 1)
        self.test: Sequence[StoryPair] = book["test"]
        self.judged = book["test"][: plan.judged]
        self.valid = book["valid"][: plan.chosen_on]

    def ids(self, pair: StoryPair) -> tuple[list[int], list[int]]:
        """Return source ids with EOS, and target ids with neither end."""
        (source,) = encode_source(
            self.translator.source_tokenizer, [pair.source]
        )
        return source, self.translator.target_tokenizer.encode(pair.target)

    def owners(self, pair: StoryPair) -> tuple[list[int], list[int]]:
        """Say for each token of both sides which word it belongs to."""
        both = (
            (self.translator.source_tokenizer, pair.source),
            (self.translator.target_tokenizer, pair.target),
        )
        source, target = (
            tokenizer.word_ids(text, words(text)) for tokenizer, text in both
        )
        return source, target

    @cached_property
    def probes(self) -> list[Probe]:
        """Find every pronoun of the test pairs that has a rival.

        The token of the rival is learned from the other sentences: one for
        "qu'il" and another for "donc il", where a space stands before it.
        """
        found: list[Probe] = []
        kinds: list[tuple[bool, str]] = []  # after an apostrophe, pronoun
        tokens: dict[tuple[bool, str], int] = {}
        for pair in self.test:
            source, target = self.ids(pair)
            owners, french = self.owners(pair), words(pair.target)
            for pronoun in pair.pronouns:
                index = pronoun.target_index
                said, at = french[index].lower(), owners[1].index(index)
                if said not in OTHER or owners[1].count(index) > 1:
                    continue
                kinds.append((french[index - 1].endswith("'"), said))
                tokens[kinds[-1]] = target[at]
                reads = [BOS_ID, *target[:at]]
                found.append(
                    Probe(pair, pronoun, source, reads, target[at], 0, *owners)
                )
        for probe, (glued, said) in zip(found, kinds, strict=True):
            probe.wrong = tokens.get((glued, OTHER[said]), 0)
        return [probe for probe in found if probe.wrong]

    @cached_property
    def twins(self) -> list[tuple[Probe, Twin, list[int]]]:
        """Find twins of as many tokens, with the ids of the second source."""
        found = []
        for probe in self.probes:
            other = twin(probe.pair)
            if other is None:
                continue
            (ids,) = encode_source(
                self.translator.source_tokenizer, [other.source]
            )
            if len(ids) == len(probe.source):
                found.append((probe, other, ids))
        return found

    @torch.no_grad()
    def losses(self, pairs: Sequence[StoryPair]) -> list[float]:
        """Return the loss per token of each pair, in nats."""
        found: list[float] = []
        for start in range(0, len(pairs), BATCH):
            both = [self.ids(pair) for pair in pairs[start : start + BATCH]]
            source = pad([source for source, _ in both])
            reads = pad([[BOS_ID, *target] for _, target in both])
            says = pad([[*target, EOS_ID] for _, target in both])
            loss = F.cross_entropy(
                self.model(source, reads).mT,
                says,
                ignore_index=PAD_ID,
                reduction="none",
            )  # (B, T)
            found += (loss.sum(1) / (says != PAD_ID).sum(1)).tolist()
        return found

    @torch.no_grad()
    def choices(self, probes: Sequence[Probe]) -> Tensor:
        """Say how far the right pronoun's logit is above the wrong one's."""
        margins = []
        for start in range(0, len(probes), BATCH):
            some = probes[start : start + BATCH]
            logits = self.model(
                pad([probe.source for probe in some]),
                pad([probe.prefix for probe in some]),
            )
            for row, probe in zip(logits, some, strict=True):
                last = row[len(probe.prefix) - 1]
                margins.append(last[probe.right] - last[probe.wrong])
        return torch.stack(margins) if margins else torch.zeros(0)

    def pronouns(self) -> list[float]:
        """Return 1 for each pronoun that is preferred to its rival."""
        return (self.choices(self.probes) > 0).double().tolist()

    def translations(self) -> list[str]:
        """Translate the judged pairs by greedy search."""
        return self.translator.translate_lines(
            [pair.source for pair in self.judged], beam_size=1, split=False
        )

    def scores(self, losses: list[float] | None = None) -> dict[str, float]:
        """Score the model as it is now; its losses may be known already."""
        found = self.translations()
        losses = losses or self.losses(self.judged)
        return {
            "loss": sum(losses) / len(losses),
            "bleu": bleu(found, [[pair.target] for pair in self.judged]).value,
            "pronouns": 100 * sum(self.pronouns()) / len(self.probes),
        }

    @torch.no_grad()
    def maps(
        self, pairs: Sequence[StoryPair], model: Transformer | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Yield each pair's maps ``(H, T, S)``, with no padding in them."""
        model = model or self.model
        for pair in pairs:
            source, target = self.ids(pair)
            with recorded_attention(model) as found:
                model(pad([source]), pad([[BOS_ID, *target]]))
            yield {name: weights[0] for name, weights in found.items()}


# Heads ---


def looks(subject: Subject) -> dict[Head, dict[str, float]]:
    """Average what `map_shares` says over the judged sentences.

    Under ``"even "`` and the name: the same for weights that are all alike.
    """
    sums: dict[Head, dict[str, float]] = {}
    n = len(subject.judged)
    for maps in subject.maps(subject.judged):
        for name, weights in maps.items():
            described = map_shares(weights)
            described |= {
                f"even {key}": value
                for key, value in map_shares(even(weights)).items()
            }
            for key, values in described.items():
                for head, value in enumerate(values.tolist()):
                    row = sums.setdefault((name, head), {})
                    row[key] = row.get(key, 0.0) + value / n
    return sums


def alignments(subject: Subject) -> dict[Head, dict[str, Any]]:
    """Score every cross-attention head as a word aligner."""
    tokenizers = (
        subject.translator.source_tokenizer,
        subject.translator.target_tokenizer,
    )
    gold = [pair.alignment for pair in subject.judged]
    found: dict[Head, dict[str, Any]] = {}
    for view, links in views(
        subject.model, *tokenizers, subject.judged
    ).items():
        name, head, row = view.split(", ")
        score = alignment_error(links, gold)
        assert score.interval is not None
        found.setdefault((name, int(head.split()[1])), {})[row] = {
            "mean": score.value,
            "low": score.interval[0],
            "high": score.interval[1],
        }
    return found


def antecedents(subject: Subject) -> dict[str, Any]:
    """Count how often each head looks most at what a pronoun stands for.

    The encoder's heads are asked at the English pronoun, the decoder's where
    the French one is predicted and, one row later, read. The pronoun itself
    is left out of the words to choose from. Two rules that know no meaning
    stand beside: the word so many places before, or so many from the start.
    """
    hits: dict[Head, dict[str, list[float]]] = {}
    shares: dict[Head, dict[str, list[float]]] = {}
    rules: dict[str, dict[str, list[float]]] = {}
    for probe in subject.probes:
        (maps,) = subject.maps([probe.pair])
        pronoun, at = probe.pronoun, len(probe.prefix) - 1
        spoken = probe.source_words.index(pronoun.source_index)
        for name, weights in maps.items():
            side = name.split(".")[0] + "." + name.split(".")[-1]
            french = side == "decoder.self_attention"
            # What the decoder has read begins with BOS, which is no word.
            keys = weights[..., 1:] if french else weights  # (H, T, S)
            owners = probe.target_words if french else probe.source_words
            gold = (
                pronoun.target_antecedent
                if french
                else pronoun.source_antecedent
            )
            own = pronoun.target_index if french else pronoun.source_index
            rows = {"predicting": at, "reading": at + 1}
            if side.startswith("encoder"):
                rows = {"reading": spoken}
            for row, t in rows.items():
                by_word = on_words(keys[:, t], owners)  # (H, words)
                share = by_word[:, gold].tolist()
                before = by_word[:, gold - 1].tolist()
                by_word[:, own] = 0
                best = by_word.argmax(-1).tolist()
                for head, word in enumerate(best):
                    key = name, head
                    hits.setdefault(key, {}).setdefault(row, []).append(
                        float(word == gold)
                    )
                    shares.setdefault(key, {}).setdefault(row, []).append(
                        share[head]
                    )
                    if french:  # or at what stands before it: its article
                        hits[key].setdefault(f"{row}, before it", []).append(
                            float(word == gold - 1)
                        )
                        shares[key].setdefault(f"{row}, before it", []).append(
                            before[head]
                        )
        for side, gold, own in (
            (
                "English",
                pronoun.source_antecedent,
                pronoun.source_index,
            ),
            ("French", pronoun.target_antecedent, pronoun.target_index),
        ):
            for k in range(1, 12):
                for rule, word in (
                    (f"{k} before", own - k),
                    (f"number {k}", k - 1),
                ):
                    rules.setdefault(side, {}).setdefault(rule, []).append(
                        float(word == gold)
                    )
    return {
        "heads": {
            head: {
                row: interval(values)
                | {"share": interval(shares[head][row])["mean"]}
                for row, values in found.items()
            }
            for head, found in hits.items()
        },
        "best_rule": {
            side: max(
                (
                    {"rule": rule} | interval(values)
                    for rule, values in every.items()
                ),
                key=lambda each: float(each["mean"]),
            )
            for side, every in rules.items()
        },
    }


def loudness(subject: Subject) -> dict[Head, float]:
    """Say how much of an attention's output each head makes, by length."""
    sums: dict[Head, float] = {}
    for pair in subject.judged[:50]:
        source, target = subject.ids(pair)
        seen = trace(subject.model, pad([source]), pad([[BOS_ID, *target]]))
        for name, parts in head_parts(subject.model, seen).items():
            lengths = parts.norm(dim=-1).mean(-1)  # (H,)
            for head, share in enumerate((lengths / lengths.sum()).tolist()):
                sums[name, head] = sums.get((name, head), 0.0) + share
    return {
        head: total / min(50, len(subject.judged))
        for head, total in sums.items()
    }


@torch.no_grad()
def head_parts(model: Transformer, seen: Any) -> dict[str, Tensor]:
    """Return what each head adds to the residual stream, ``(H, T, D)``."""
    modules = dict(model.named_modules())
    found = {}
    for name in dict.fromkeys(name for name, _ in heads_of(model)):
        heads = seen[f"{name}.heads"][0]  # (H, T, d_k)
        columns = modules[name].w_o.weight.chunk(len(heads), dim=1)
        found[name] = torch.stack(
            [head @ own.T for head, own in zip(heads, columns, strict=True)]
        )
    return found


def beyond(ours: list[float], usual: list[float]) -> dict[str, float]:
    """Return what is added to the usual losses, sentence by sentence."""
    return interval([a - b for a, b in zip(ours, usual, strict=True)])


def one_by_one(
    subject: Subject, stands_for: dict[Head, Any]
) -> list[dict[str, Any]]:
    """Describe each head, then do without it."""
    where, aligned = looks(subject), alignments(subject)
    loud = loudness(subject)
    usual = subject.losses(subject.judged)
    chosen_on = sum(subject.losses(subject.valid))
    rows = []
    for head in heads_of(subject.model):
        row: dict[str, Any] = {"attention": head[0], "head": head[1]}
        row["looks"] = where[head]
        row["loudness"] = loud[head]
        row["alignment_error"] = aligned.get(head)
        row["antecedent"] = stands_for[head]
        with pruned(subject.model, [head]):
            losses = subject.losses(subject.judged)
            row["silent"] = subject.scores(losses)
            row["silent"]["loss_added"] = beyond(losses, usual)
            row["chosen_by"] = (
                sum(subject.losses(subject.valid)) - chosen_on
            ) / len(subject.valid)
        with rewritten(subject.model, {head: even}):
            row["even"] = {
                "loss_added": beyond(subject.losses(subject.judged), usual),
                "pronouns": 100
                * sum(subject.pronouns())
                / len(subject.probes),
            }
        rows.append(row)
    return rows


def together(
    subject: Subject, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Silence more and more heads, by need and at random."""
    by_need = [
        (row["attention"], row["head"])
        for row in sorted(rows, key=lambda row: float(row["chosen_by"]))
    ]
    counts = range(0, len(by_need) + 1, subject.plan.step)
    ordered, blind = [], []
    for count in counts:
        with pruned(subject.model, by_need[:count]):
            ordered.append({"silent": count} | subject.scores())
    for seed in range(subject.plan.random_orders):
        order = random.Random(seed).sample(by_need, len(by_need))
        for count in counts:
            with pruned(subject.model, order[:count]):
                loss = sum(subject.losses(subject.judged))
            blind.append(
                {
                    "seed": seed,
                    "silent": count,
                    "loss": loss / len(subject.judged),
                }
            )
    return ordered, blind


def variety(subject: Subject) -> dict[str, Any]:
    """Measure how differently the heads of each attention look.

    For each kind of attention also the lowest layer minus the highest.
    """
    torch.manual_seed(0)
    fresh = Transformer(subject.model.config).eval()
    result: dict[str, Any] = {}
    for label, model in (("trained", subject.model), ("untrained", fresh)):
        found: dict[str, list[float]] = {}
        nearest: dict[str, list[float]] = {}
        for maps in subject.maps(subject.judged, model):
            for name, weights in maps.items():
                apart = map_distances(weights)
                pairs = [
                    apart[a, b].item()
                    for a, b in combinations(range(len(apart)), 2)
                ]
                found.setdefault(name, []).append(sum(pairs) / len(pairs))
                nearest.setdefault(name, []).append(min(pairs))
        result[label] = {
            name: interval(values) | {"nearest": interval(nearest[name])}
            for name, values in found.items()
        }
        low_minus_high = {}
        for kind in ("encoder.self", "decoder.self", "decoder.cross"):
            stack, part = kind.split(".")
            names = [
                name
                for name in found
                if name.startswith(stack) and f".{part}_" in name
            ]
            low_minus_high[kind] = interval(
                [
                    a - b
                    for a, b in zip(
                        found[names[0]], found[names[-1]], strict=True
                    )
                ]
            )
        result[f"low_minus_high, {label}"] = low_minus_high
    return result


# Layers ---


@torch.no_grad()
def lens(subject: Subject) -> dict[str, Any]:
    """Read the decoder's residual stream after each layer.

    What it says: the next token's share of right guesses, and of right
    pronouns. What each part adds: its share of the difference between the
    two pronouns' logits, which is a sum where there is no last norm.
    """
    model = subject.model
    layers = len(model.decoder)
    names = [f"after {i}" for i in range(layers + 1)]
    right: dict[str, list[float]] = {name: [] for name in names}
    pronouns: dict[str, list[float]] = {name: [] for name in names}
    matrix = model.output.weight  # (V, D)

    def stream(seen: Any) -> list[Tensor]:
        """Collect the stream before the first layer and after each."""
        start = seen["decoder.0"] * 0 + embedded(model, seen)
        return [start, *(seen[f"decoder.{i}"][0] for i in range(layers))]

    for pair in subject.judged:
        source, target = subject.ids(pair)
        seen = trace(model, pad([source]), pad([[BOS_ID, *target]]))
        says = torch.tensor([*target, EOS_ID])
        for name, x in zip(names, stream(seen), strict=True):
            guess = (model.decoder_norm(x) @ matrix.T).argmax(-1)
            right[name].append((guess == says).double().mean().item())
    parts: dict[str, list[float]] = {}
    for probe in subject.probes:
        seen = trace(model, pad([probe.source]), pad([probe.prefix]))
        way = matrix[probe.right] - matrix[probe.wrong]  # (D,)
        for name, x in zip(names, stream(seen), strict=True):
            x = x.reshape(-1, x.shape[-1])[-1]
            pronouns[name].append(
                float((model.decoder_norm(x) @ way).item() > 0)
            )
        added = {"embedding": (embedded(model, seen)[-1] @ way).item()}
        heads = head_parts(model, seen)
        for i in range(layers):
            for part in ("self_attention", "cross_attention", "feed_forward"):
                name = f"decoder.{i}.{part}"
                added[name] = (seen[name][0, -1] @ way).item()
                if name in heads:
                    for head, x in enumerate(heads[name]):
                        added[f"{name}, head {head}"] = (x[-1] @ way).item()
        for name, value in added.items():
            parts.setdefault(name, []).append(value)
    return {
        "right": {name: interval(values) for name, values in right.items()},
        "pronouns": {
            name: interval(values) for name, values in pronouns.items()
        },
        "margin": interval(subject.choices(subject.probes).tolist()),
        "added_to_margin": {
            name: interval(values) for name, values in parts.items()
        },
    }


def embedded(model: Transformer, seen: Any) -> Tensor:
    """Return what the first layer of the decoder reads, ``(T, D)``."""
    name = next(
        name
        for name in ("target_positions", "target_positions (2)")
        if name in seen.names
    )
    x: Tensor = seen[name][0]
    return x


# Where it looks, and what changes what it says ---


def role_of(word: int, probe: Probe, other: int) -> str:
    """Name a word of a twin's source by its part in the choice."""
    english = words(probe.pair.source)
    if word == probe.pronoun.source_antecedent:
        return "antecedent"
    if word == other:
        return "other noun"
    if word == probe.pronoun.source_index:
        return "pronoun"
    if word == len(english) - 2:
        return "adjective"
    if word > probe.pronoun.source_index:
        return "was, too, stop"
    return "rest"


@torch.no_grad()
def transplant(subject: Subject) -> dict[str, Any]:
    """Swap single words' places in the memory between twins.

    The twins differ by one adjective, and want the other pronoun. The decoder
    of one gets a part of the memory of the other: does it change sides?
    And is the pronoun still right if that part is hidden from the start?
    Beside it, how much weight the cross-attention gives to that part where it
    predicts the pronoun, averaged over heads and layers.
    """
    model = subject.model
    solved = 0
    flips: dict[str, list[float]] = {}
    still: dict[str, list[float]] = {}
    weights: dict[str, list[float]] = {}
    follows: dict[Head, list[float]] = {}
    nouns: dict[str, list[float]] = {}
    for probe, other, ids in subject.twins:
        source, second = pad([probe.source]), pad([ids])
        prefix = pad([probe.prefix])
        way = (probe.right, probe.wrong)

        def margin(
            memory: Tensor,
            prefix: Tensor = prefix,
            source: Tensor = source,
            way: tuple[int, int] = way,
        ) -> float:
            last = model.decode(prefix, memory, source)[0, -1]
            return (last[way[0]] - last[way[1]]).item()

        with recorded_attention(model) as seen:
            mine = model.encode(source)
            right = margin(mine) > 0
        here = dict(seen)
        with recorded_attention(model) as seen:
            theirs = model.encode(second)
            right = right and margin(theirs) < 0
        # Does a head turn from one noun to the other?
        spoken = probe.source_words.index(probe.pronoun.source_index)
        a, b = probe.pronoun.source_antecedent, other.other
        for name in here:
            if ".self_attention" in name and name.startswith("decoder"):
                continue
            row = spoken if name.startswith("encoder") else -1
            one, two = (
                on_words(maps[name][0, :, row], probe.source_words)
                for maps in (here, seen)
            )
            turned = (one[:, a] > one[:, b]) & (two[:, a] < two[:, b])
            for head, yes in enumerate(turned.tolist()):
                follows.setdefault((name, head), []).append(float(yes))
        if not right:
            continue
        solved += 1
        cross = torch.stack(
            [
                here[name][0, :, -1].mean(0)
                for name in here
                if name.endswith("cross_attention")
            ]
        ).mean(0)  # (S,)
        places: dict[str, list[int]] = {"EOS": [len(ids) - 1]}
        for place, word in enumerate(probe.source_words):
            places.setdefault(role_of(word, probe, b), []).append(place)
        for role, its in places.items():
            moved = mine.clone()
            moved[:, its] = theirs[:, its]
            flips.setdefault(role, []).append(float(margin(moved) < 0))
            gone = source.clone()
            gone[:, its] = PAD_ID
            kept = margin(model.encode(gone), source=gone) > 0
            still.setdefault(role, []).append(float(kept))
            weights.setdefault(role, []).append(cross[its].sum().item())
        # The nouns alone, then all but the adjective.
        for name, left in (
            ("both nouns", ("antecedent", "other noun")),
            ("all but the adjective", tuple(set(places) - {"adjective"})),
        ):
            its = [place for role in left for place in places.get(role, [])]
            moved = mine.clone()
            moved[:, its] = theirs[:, its]
            nouns.setdefault(name, []).append(float(margin(moved) < 0))
    return {
        "twins": len(subject.twins),
        "solved": solved,
        "changes_sides": {
            role: interval(values) for role, values in flips.items()
        },
        "right_without": {
            role: interval(values) for role, values in still.items()
        },
        "together": {name: interval(values) for name, values in nouns.items()},
        "weight": {role: interval(values) for role, values in weights.items()},
        "turns": {
            f"{name}, head {head}": interval(values)
            for (name, head), values in follows.items()
        },
        "texts": [
            {
                "source": probe.pair.source,
                "twin": other.source,
                "target": probe.pair.target,
                "pronoun": probe.pronoun.source_index,
                "antecedent": probe.pronoun.source_antecedent,
                "other": other.other,
            }
            for probe, other, _ in subject.twins
        ],
    }


@torch.no_grad()
def hiding(subject: Subject) -> dict[str, Any]:
    """Hold where the decoder looks against what it can't do without.

    A source word is hidden by the padding id, which no attention may see.
    The word whose absence costs the coming target word most is compared with
    the word looked at most, by the mean of a layer's heads or of all.
    """
    model, tokenizers = subject.model, subject.owners
    same: dict[str, list[float]] = {}
    true: dict[str, list[float]] = {}
    for pair in subject.test[: subject.plan.hidden]:
        source, target = subject.ids(pair)
        source_words, target_words = tokenizers(pair)
        count = max(source_words) + 1
        rows = [source]
        for hidden in range(count):
            rows.append(
                [
                    PAD_ID if word == hidden else id_
                    for id_, word in zip(
                        source, [*source_words, -1], strict=True
                    )
                ]
            )
        reads = torch.tensor([[BOS_ID, *target]] * len(rows))
        with recorded_attention(model) as maps:
            model(torch.tensor(rows[:1]), reads[:1])
        means = {
            name: weights[0].mean(0)
            for name, weights in maps.items()
            if name.endswith("cross_attention")
        }
        means["all layers"] = torch.stack(list(means.values())).mean(0)
        logs = model(torch.tensor(rows), reads).log_softmax(-1)
        says = torch.tensor([*target, EOS_ID])
        logs = logs[:, torch.arange(len(says)), says]  # (words + 1, T)
        for word in range(max(target_words) + 1):
            t = target_words.index(word)  # the row that predicts it
            lost = (logs[0, t] - logs[1:, t]).argmax().item()
            gold = {i for i, j in pair.alignment if j == word}
            if gold:
                true.setdefault("hiding", []).append(float(lost in gold))
            for name, weights in means.items():
                most = on_words(weights[t], source_words).argmax().item()
                same.setdefault(name, []).append(float(most == lost))
                if gold:
                    true.setdefault(name, []).append(float(most in gold))
    return {
        "agree": {name: interval(values) for name, values in same.items()},
        "aligned": {name: interval(values) for name, values in true.items()},
    }


# All together ---


def look_into(place: Path, plan: Plan) -> dict[str, Any]:
    """Make one model's part of the result."""
    subject = Subject(place, plan)
    found = subject.translations()
    pointing = antecedents(subject)
    rows = one_by_one(subject, pointing["heads"])
    ordered, blind = together(subject, rows)
    return {
        "seed": subject.translator.facts.get("options", {}).get("seed", 0),
        "usual": subject.scores()
        | {"greedy_pronouns": pronoun_accuracy(found, subject.judged).value},
        "probes": len(subject.probes),
        "heads": rows,
        "best_rule": pointing["best_rule"],
        "pruned": ordered,
        "pruned_blindly": blind,
        "variety": variety(subject),
        "lens": lens(subject),
        "transplant": transplant(subject),
        "hiding": hiding(subject),
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the seeds together: means, and intervals over the models."""

    def over(values: Sequence[float]) -> dict[str, float]:
        return mean_interval(list(values))

    def silent(run: dict[str, Any], key: str) -> list[float]:
        return [run["usual"][key] - row["silent"][key] for row in run["heads"]]

    kinds = ("encoder.self", "decoder.self", "decoder.cross")
    return {
        "bleu": over([run["usual"]["bleu"] for run in runs]),
        "pronouns": over([run["usual"]["pronouns"] for run in runs]),
        "worst_bleu_lost": over([max(silent(run, "bleu")) for run in runs]),
        "median_bleu_lost": over(
            [
                sorted(silent(run, "bleu"))[len(run["heads"]) // 2]
                for run in runs
            ]
        ),
        "low_minus_high": {
            kind: over(
                [
                    run["variety"]["low_minus_high, trained"][kind]["mean"]
                    for run in runs
                ]
            )
            for kind in kinds
        },
    }


def small_model(folder: Path) -> Path:
    """Make an untrained translator for the quick test."""
    book = Storybook(SmallModel())
    torch.manual_seed(0)
    config = book.config(16, 2, 2, norm_first=True, final_norm=False)
    place = folder / "untrained"
    Translator(Transformer(config), book.tokenizer, book.tokenizer).save(place)
    return place


def main() -> None:
    """Measure and write the result."""
    parser = CommandLine("inside", __doc__, folder=True)
    parser.add_argument("--models", type=Path, nargs="+", default=MODELS)
    arguments = parser.read()
    plan = SMALL if arguments.small else Plan()
    claim(arguments.folder, asdict(plan))
    models = arguments.models
    if arguments.small and models is MODELS:
        models = [small_model(arguments.folder)]
    missing = [place for place in models if not place.is_dir()]
    if missing:
        parser.error(
            f"there is no model in {missing[0]}: benchmarks/quality.py makes"
            " storybook/final-0, final-1 and final-2, or name the folders of"
            " others by --models"
        )
    runs = run_all(
        {name_of(place): partial(look_into, place, plan) for place in models},
        arguments.folder,
    )
    write_json(
        arguments.out,
        {
            "surroundings": surroundings(),
            "plan": asdict(plan),
            "summary": summary(list(runs.values())),
            "models": list(runs.values()),
        },
    )


if __name__ == "__main__":
    main()
