"""How good is a translation, or an alignment, and how sure are we?

BLEU and chrF are sacreBLEU's, printed with its signature so that another
paper's number can be compared (Post, 2018). The baselines say what a score is
worth: one copies the source, one translates word for word.
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minitransformer.challenge import Item
from minitransformer.config import BOS_ID
from minitransformer.data import encode_source, pad
from minitransformer.errors import UserError
from minitransformer.model import Transformer
from minitransformer.recording import recorded_attention
from minitransformer.storybook import StoryPair, words
from minitransformer.text import Tokenizer

Link = tuple[int, int]
ROWS = ("predicting", "reading")
PRONOUNS = frozenset({"il", "elle", "ils", "elles"})
# Languages that write no space between words; Chinese has its own tokenizer.
UNSPACED = frozenset({"ja", "km", "lo", "my", "th"})
# A Chinese character, a word with an elided article's apostrophe, or a mark.
WORD = re.compile(
    r"[\u3400-\u9fff]"
    r"|[^\W\u3400-\u9fff]+(?:-[^\W\u3400-\u9fff]+)*['’]?"
    r"|[^\w\s]"
)


# Chinese characters and their marks, with no space before or after.
CJK_SPACE = re.compile(
    r"(?<=[\u3000-\u9fff\uff00-\uffef]) | (?=[\u3000-\u9fff\uff00-\uffef])"
)


@dataclass(frozen=True, slots=True)
class Score:
    """One number, in per cent, with all that is needed to compare it.

    Attributes:
        name: What was measured.
        value: From 0 to 100.
        interval: The 95 % bootstrap interval, if asked for.
        signature: How it was measured, in sacreBLEU's form.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    signature: str = ""

    def __str__(self) -> str:
        text = f"{self.name} {self.value:.1f}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return f"{text}  {self.signature}".rstrip()


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: str = "13a",
    lowercase: bool = False,
    n_bootstrap: int = 0,
) -> Score:
    """Score translations by the word n-grams they share with references.

    Args:
        hypotheses: One translation per sentence.
        references: For each sentence its references, one or more; sentences
            may have different numbers of them.
        tokenize: sacreBLEU's tokenizer: "13a" for European languages, "zh"
            for Chinese; `bleu_tokenizer` knows which.
        lowercase: Ignore case.
        n_bootstrap: How many resamplings make the interval; 0 for none.

    Returns:
        BLEU (Papineni et al., 2002) from 0 to 100.

    Raises:
        UserError: If the numbers of sentences differ, there are none, or a
            sentence has no reference.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    return _corpus_score(metric, hypotheses, references, n_bootstrap)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    n_bootstrap: int = 0,
) -> Score:
    """Score translations by the character n-grams they share with references.

    chrF (Popović, 2015) needs no word tokenizer and forgives a wrong ending.
    Arguments and errors are those of `bleu`.
    """
    from sacrebleu.metrics.chrf import CHRF

    return _corpus_score(CHRF(), hypotheses, references, n_bootstrap)


def bleu_tokenizer(language: str) -> str:
    """Name the sacreBLEU tokenizer for a target language.

    >>> bleu_tokenizer("fr"), bleu_tokenizer("zh"), bleu_tokenizer("ja")
    ('13a', 'zh', 'char')
    """
    if language.startswith("zh"):
        return "zh"
    # Without spaces, "13a" would take a whole sentence for one word.
    return "char" if language.split("-")[0] in UNSPACED else "13a"


def _corpus_score(
    metric: Any,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    n_bootstrap: int,
) -> Score:
    """Turn references sentence by sentence into sacreBLEU's streams."""
    _check_equal(len(hypotheses), len(references))
    for i, several in enumerate(references):
        if isinstance(several, str) or not several:
            raise UserError(
                f"Sentence {i} needs a list of one or more references, "
                f"not {several!r}."
            )
    # None, unlike "", is no reference at all to sacreBLEU.
    streams = [list(stream) for stream in zip_longest(*references)]
    result = metric.corpus_score(
        list(hypotheses), streams, n_bootstrap=max(n_bootstrap, 1)
    )
    signature = metric.get_signature().format()
    interval = None
    if n_bootstrap > 1:
        facts = json.loads(
            result.format(width=6, is_json=True, signature=signature)
        )
        mean = facts.get("confidence_mean", 0.0)  # left out if it is 0
        half = facts.get("confidence_var", 0.0)
        interval = (mean - half, mean + half)
    return Score(result.name, result.score, interval, signature)


def bootstrap_interval(
    hits: Sequence[float],
    totals: Sequence[float],
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimate how far a ratio would move on another sample of sentences.

    Sentences are drawn with replacement (Efron, 1979; for translation, Koehn,
    2004); the interval holds the middle 95 % of the ratios.

    Args:
        hits: Per sentence, what was right.
        totals: Per sentence, what there was to get right.
        n_bootstrap: How many resamplings.
        seed: Of the resampling.

    Returns:
        The interval of ``100 * sum(hits) / sum(totals)``.

    >>> bootstrap_interval([2, 3, 5], [2, 3, 5])
    (100.0, 100.0)
    """
    n = len(hits)
    draws = np.random.default_rng(seed).multinomial(
        n, np.full(n, 1 / n), size=n_bootstrap
    )
    right, all_ = draws @ np.asarray(hits), draws @ np.asarray(totals)
    ratios = 100 * right[all_ > 0] / all_[all_ > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


# Storybook: the truth is known ---


def pronoun_accuracy(
    hypotheses: Sequence[str], pairs: Sequence[StoryPair]
) -> Score:
    """Count the subject pronouns whose gender and number came out right.

    The k-th of il, elle, ils, elles in a translation is held against the
    k-th of the reference: words may differ, the order of clauses does not. A
    pronoun that is missing counts as wrong.

    Args:
        hypotheses: One French translation per pair.
        pairs: Storybook pairs; those without a pronoun are passed over.

    Returns:
        The percentage of right pronouns, with its interval.

    Raises:
        UserError: If the numbers differ, or no pair has a pronoun.
    """
    _check_equal(len(hypotheses), len(pairs))
    hits, totals = [], []
    for hypothesis, pair in zip(hypotheses, pairs, strict=True):
        ours = _pronouns(hypothesis)
        truth = _pronouns(pair.target)
        reference = words(pair.target)
        right = 0
        for pronoun in pair.pronouns:
            at = pronoun.target_index
            k = len(_pronouns(" ".join(reference[:at])))
            right += k < len(ours) and ours[k] == truth[k]
        hits.append(right)
        totals.append(len(pair.pronouns))
    if not sum(totals):
        raise UserError(
            "No sentence of this split has a pronoun to score: "
            "choose another split."
        )
    return Score(
        "pronouns",
        100 * sum(hits) / sum(totals),
        bootstrap_interval(hits, totals),
        f"n:{sum(totals)}",
    )


def _pronouns(text: str) -> list[str]:
    """List the subject pronouns of a French sentence, in order."""
    return [word for word in map(str.lower, words(text)) if word in PRONOUNS]


# Challenge set: the point is known ---


@dataclass(frozen=True, slots=True)
class PhenomenonScore(Score):
    """How well one phenomenon was translated.

    Attributes:
        kept: Translations that kept the point; ``value`` is their share.
        items: Sentences of the phenomenon.
        chrf: chrF of their translations.
    """

    kept: int = 0
    items: int = 0
    chrf: float = 0.0

    def __str__(self) -> str:
        points = f"{self.kept}/{self.items} points kept"
        return f"{self.name}: {points}, chrF2 {self.chrf:.1f}"


def points_kept(hypotheses: Sequence[str], items: Sequence[Item]) -> Score:
    """Count the translations that kept the point of their sentence.

    Args:
        hypotheses: One English translation per item.
        items: Items of the challenge set.

    Returns:
        Their percentage, with its interval.

    Raises:
        UserError: If the numbers differ, or there are none.
    """
    _check_equal(len(hypotheses), len(items))
    hits = [i.kept(h) for h, i in zip(hypotheses, items, strict=True)]
    return Score(
        "points",
        100 * sum(hits) / len(items),
        bootstrap_interval(hits, [1] * len(items)),
        f"kept:{sum(hits)}/{len(items)}",
    )


def phenomenon_scores(
    hypotheses: Sequence[str], items: Sequence[Item]
) -> list[PhenomenonScore]:
    """Score the phenomena one by one, in the order of the items.

    Arguments and errors are those of `points_kept`.
    """
    _check_equal(len(hypotheses), len(items))
    groups: dict[str, list[tuple[str, Item]]] = {}
    for hypothesis, item in zip(hypotheses, items, strict=True):
        groups.setdefault(item.phenomenon, []).append((hypothesis, item))
    scores = []
    for phenomenon, group in groups.items():
        lines = [hypothesis for hypothesis, _ in group]
        kept = sum(item.kept(hypothesis) for hypothesis, item in group)
        value = chrf(lines, [item.references for _, item in group])
        scores.append(
            PhenomenonScore(
                phenomenon,
                100 * kept / len(group),
                signature=value.signature,
                kept=kept,
                items=len(group),
                chrf=value.value,
            )
        )
    return scores


def alignment_error(
    links: Sequence[Collection[Link]], gold: Sequence[Collection[Link]]
) -> Score:
    """Score word alignments by their alignment error rate; 0 is best.

    Computes ``1 - 2 |A ∩ G| / (|A| + |G|)`` over the whole corpus (Och and
    Ney, 2003, with every gold link sure).

    Args:
        links: Per sentence, the (source word, target word) links found.
        gold: Per sentence, the true links.

    Raises:
        UserError: If the numbers of sentences differ, or there is no link.

    >>> str(alignment_error([{(0, 0), (1, 2)}], [{(0, 0), (1, 1)}]))
    'AER 50.0 [50.0, 50.0]  n:1'
    """
    _check_equal(len(links), len(gold))
    totals = [
        len(set(a)) + len(set(g)) for a, g in zip(links, gold, strict=True)
    ]
    if not sum(totals):
        raise UserError(
            "There is no link to score: give sentences with links."
        )
    errors = [
        total - 2 * len(set(a) & set(g))
        for total, a, g in zip(totals, links, gold, strict=True)
    ]
    return Score(
        "AER",
        100 * sum(errors) / sum(totals),
        bootstrap_interval(errors, totals),
        f"n:{len(links)}",
    )


def attention_links(
    weights: Tensor, source_words: Sequence[int], target_words: Sequence[int]
) -> set[Link]:
    """Read a word alignment off an attention map.

    Each target word is linked with the source word that receives most of its
    weight: added up over the tokens of the source word, averaged over the
    tokens of the target word.

    Args:
        weights: One head, or a mean of heads, ``(T, S)``; row ``t`` belongs
            to the target token ``t``.
        source_words: For each of the first source tokens, its word. Columns
            beyond them, such as that of EOS, are left out.
        target_words: The same for the rows.

    Returns:
        Links (source word, target word), one per target word.

    >>> weights = torch.tensor([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    >>> sorted(attention_links(weights, [0, 0, 1], [0, 1]))
    [(0, 0), (1, 1)]
    """
    if not source_words or not target_words:
        return set()
    S, T = len(source_words), len(target_words)
    if weights.shape[0] < T or weights.shape[1] < S:
        raise UserError(
            f"Weights {tuple(weights.shape)} are smaller than the "
            f"{T} target and {S} source tokens to cover: take "
            "the map of this very pair."
        )
    by_source = torch.zeros(T, max(source_words) + 1, dtype=weights.dtype)
    by_source.index_add_(1, torch.tensor(source_words), weights[:T, :S].cpu())
    rows: dict[int, list[int]] = {}
    for row, word in enumerate(target_words):
        rows.setdefault(word, []).append(row)
    return {
        (int(by_source[its_rows].mean(0).argmax()), word)
        for word, its_rows in rows.items()
    }


@torch.no_grad()
def views(
    model: Transformer,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    pairs: Sequence[StoryPair],
    batch_size: int = 64,
) -> dict[str, list[set[Link]]]:
    """Read a word alignment off every head of every cross-attention.

    The decoder is given the reference, not its own translation. A word can
    be looked up at two rows: where the decoder predicts it, and one later,
    where it reads it (Chen et al., 2020, found the second the better one).

    Args:
        model: The model, in ``eval`` mode.
        source_tokenizer: Its source tokenizer.
        target_tokenizer: Its target tokenizer.
        pairs: Storybook pairs.
        batch_size: Pairs read together.

    Returns:
        Under a name such as ``"decoder.0.cross_attention, head 2, reading"``
        the links of each pair.
    """
    found: dict[str, list[set[Link]]] = {}
    for start in range(0, len(pairs), batch_size):
        some = pairs[start : start + batch_size]
        owners = [
            (
                source_tokenizer.word_ids(pair.source, words(pair.source)),
                target_tokenizer.word_ids(pair.target, words(pair.target)),
            )
            for pair in some
        ]
        device = model.output.weight.device
        sources = encode_source(source_tokenizer, [p.source for p in some])
        targets = target_tokenizer.encode_batch([p.target for p in some])
        with recorded_attention(model) as maps:
            model(
                pad(sources).to(device),
                pad([[BOS_ID, *ids] for ids in targets]).to(device),
            )
        for name, weights in maps.items():
            if not name.endswith("cross_attention"):
                continue
            for head, row in product(range(weights.shape[1]), (0, 1)):
                view = f"{name}, head {head}, {ROWS[row]}"
                found.setdefault(view, []).extend(
                    attention_links(one[head, row:], *both)
                    for one, both in zip(weights.cpu(), owners, strict=True)
                )
    return found


def best_alignment(
    model: Transformer,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    tune: Sequence[StoryPair],
    test: Sequence[StoryPair],
) -> Score:
    """Score the alignment of the head that aligns best.

    The head is chosen on other sentences than it is scored on: the best of
    many heads is flattered by the sentences it was chosen on.

    Args:
        model: The model, in ``eval`` mode.
        source_tokenizer: Its source tokenizer.
        target_tokenizer: Its target tokenizer.
        tune: Storybook pairs to choose on.
        test: Storybook pairs to score on.

    Returns:
        The alignment error rate; its signature names the head.
    """
    tokenizers = source_tokenizer, target_tokenizer
    gold = [pair.alignment for pair in tune]
    errors = {
        view: alignment_error(links, gold).value
        for view, links in views(model, *tokenizers, tune).items()
    }
    best = min(errors, key=lambda view: errors[view])
    links = views(model, *tokenizers, test)[best]
    score = alignment_error(links, [pair.alignment for pair in test])
    return replace(score, signature=f"{score.signature}|{best}")


# Baselines: what is a score worth? ---


def split_words(text: str) -> list[str]:
    """Split a text into words, marks, and single Chinese characters.

    >>> split_words("L'âne dort.")
    ["L'", 'âne', 'dort', '.']
    >>> split_words("我有3只猫。")
    ['我', '有', '3', '只', '猫', '。']
    """
    return WORD.findall(text)


def join_words(tokens: Iterable[str]) -> str:
    """Undo `split_words`, as far as spaces go.

    >>> join_words(["L'", "âne", "dort", "."])
    "L'âne dort."
    """
    text = " ".join(tokens)
    text = re.sub(r"(?<=['’]) | (?=[.,;:!?…%)\]])|(?<=[(\[]) ", "", text)
    return CJK_SPACE.sub("", text)


class CopyBaseline:
    """Translate by copying: names and marks are right, and nothing else."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return the texts unchanged."""
        return list(texts)


class DictionaryBaseline:
    """Translate word for word with a dictionary learned from pairs.

    It shows what a translator can do without order, context or agreement.

    Args:
        best: Each source word's translation. Learn them with `fit`.
    """

    def __init__(self, best: dict[str, str]) -> None:
        self.best = best

    @classmethod
    def fit(
        cls,
        pairs: Iterable[tuple[str, str]],
        iterations: int = 5,
        max_pairs: int = 20_000,
    ) -> "DictionaryBaseline":
        """Learn which target word each source word most often stands for.

        Args:
            pairs: (source, target) texts.
            iterations: See `word_probabilities`.
            max_pairs: How many pairs to read; more hardly change a word.

        Raises:
            UserError: If there is no pair.
        """
        some = islice(pairs, max_pairs)
        table = word_probabilities(
            [(split_words(s), split_words(t)) for s, t in some], iterations
        )
        ascending = sorted(table, key=lambda entry: table[entry])
        return cls({s: t for s, t in ascending if s})

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Replace each word; a word never seen is copied."""
        return [
            join_words(self.best.get(word, word) for word in split_words(text))
            for text in texts
        ]


def word_probabilities(
    pairs: Iterable[tuple[Sequence[str], Sequence[str]]], iterations: int = 5
) -> dict[tuple[str, str], float]:
    """Learn a dictionary by IBM model 1 (Brown et al., 1993, section 4.2).

    Each target word is shared out over the source words of its sentence, in
    proportion to the probabilities so far; counting the shares gives the next
    ones. The empty source word ``""`` takes what has no counterpart.

    Args:
        pairs: (source words, target words) of each sentence.
        iterations: Steps of expectation-maximisation.

    Returns:
        For (source word, target word) the probability of the second, given
        the first.

    Raises:
        UserError: If there is no word.

    >>> table = word_probabilities([(["x"], ["c"]), (["x", "y"], ["c", "d"])])
    >>> table["x", "c"] > 0.75 > table["x", "d"]
    True
    """
    sources: dict[str, int] = {"": 0}
    targets: dict[str, int] = {}
    # One entry for each source word beside each target word of its sentence;
    # a slot is one target word in one sentence.
    lefts: list[int] = []
    rights: list[int] = []
    slots: list[int] = []
    slot = 0
    for source, target in pairs:
        ids = [0, *(sources.setdefault(w, len(sources)) for w in source)]
        for word in target:
            right = targets.setdefault(word, len(targets))
            lefts += ids
            rights += [right] * len(ids)
            slots += [slot] * len(ids)
            slot += 1
    if not slot:
        raise UserError("A dictionary needs one pair or more to learn from.")
    entries, entry = np.unique(
        np.array(lefts) * len(targets) + np.array(rights), return_inverse=True
    )
    left, right_ = np.divmod(entries, len(targets))
    slot_of = np.array(slots)
    probability = np.ones(len(entries))
    for _ in range(iterations):
        share = probability[entry]
        share /= np.bincount(slot_of, share)[slot_of]
        counts = np.bincount(entry, share)
        probability = counts / np.bincount(left, counts)[left]
    source_words, target_words = list(sources), list(targets)
    return {
        (source_words[s], target_words[t]): float(p)
        for s, t, p in zip(left, right_, probability, strict=True)
    }


def _check_equal(ours: int, theirs: int) -> None:
    """Refuse to score translations of other sentences, or of none."""
    if ours != theirs:
        raise UserError(
            f"{ours} translations cannot be scored against {theirs} "
            "sentences: give one translation per sentence."
        )
    if not ours:
        raise UserError("There is nothing to score: give some translations.")
