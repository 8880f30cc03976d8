"""From a model to a translation: greedy and beam search."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.errors import UserError
from minitransformer.packed_decoder import fast_start
from minitransformer.recurrent import TranslationModel

# On the validation sentences of Multi30k and of Tatoeba, none of 0.6, 1, 1.5,
# 2.5 and 3 was better by more than 0.01 BLEU.
LENGTH_PENALTY = 2.0
# `best_words` looks at so many neighbouring words together, and only where
# there are so many numbers that it pays.
BLOCK, MANY = 64, 50_000


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One translation that a search found.

    Attributes:
        ids: Target ids, without BOS and EOS.
        score: Log-probability divided by `length_divisor`.
    """

    ids: list[int]
    score: float


def length_limit(
    model: TranslationModel, source: Tensor, max_len: int | None = None
) -> int:
    """Return how many tokens, EOS included, a translation may have.

    Twice the source and ten more is ample between the languages here, and
    keeps a confused model from babbling on.

    Args:
        model: Says how long it can go on.
        source: Token ids, ``(B, S)``.
        max_len: The answer, if the caller has one.

    Raises:
        UserError: If ``max_len`` is below 1.
    """
    if max_len is None:
        return min(model.config.max_len, 2 * source.shape[1] + 10)
    if max_len < 1:
        raise UserError(
            f"{max_len=} leaves no room for a token: it must be at least 1."
        )
    return max_len


def length_divisor(length: int, alpha: float) -> float:
    """Return ``((5 + length) / 6)^alpha`` (Wu et al., 2016, equation 14).

    A log-probability sinks with every token, so a plain comparison prefers
    short translations; dividing by this makes up for it.

    >>> length_divisor(1, 1.0), length_divisor(7, 1.0), length_divisor(7, 0.0)
    (1.0, 2.0, 1.0)
    """
    return float(((5 + length) / 6) ** alpha)


@torch.inference_mode()
def greedy_decode(
    model: TranslationModel, source: Tensor, max_len: int | None = None
) -> list[list[int]]:
    """Take the likeliest next token, again and again.

    Args:
        model: In ``eval`` mode, or dropout decides too.
        source: Token ids, ``(B, S)``, padded on the right.
        max_len: Most tokens of a translation, EOS included; `length_limit`
            if not given.

    Returns:
        For each source sentence the target ids, without BOS and EOS.

    Raises:
        UserError: If ``max_len`` is below 1.
    """
    if not len(source):
        return []
    limit = length_limit(model, source, max_len)
    results: list[list[int]] = [[] for _ in source]
    rows = list(range(len(source)))  # the sentence each row works on
    state, step = fast_start(model, source)
    tokens = torch.full_like(source[:, 0], BOS_ID)  # (B,)
    for _ in range(limit):
        tokens = best_words(step(tokens, state), 1)[1].squeeze(1)
        chosen = tokens.tolist()
        going = [row for row, token in enumerate(chosen) if token != EOS_ID]
        for row in going:
            results[rows[row]].append(chosen[row])
        if not going:
            break
        if len(going) < len(rows):  # finished sentences cost nothing more
            kept = torch.tensor(going, device=source.device)
            state.reorder(kept)
            tokens = tokens[kept]
            rows = [rows[row] for row in going]
    return results


@torch.inference_mode()
def beam_search(
    model: TranslationModel,
    source: Tensor,
    beam_size: int = 4,
    length_penalty: float = LENGTH_PENALTY,
    max_len: int | None = None,
) -> list[list[Hypothesis]]:
    """Keep the ``beam_size`` best beginnings of each sentence at every step.

    A sentence is done when ``beam_size`` translations of it have ended, or
    when no beginning that is left could still beat the best of them.

    Args:
        model: In ``eval`` mode.
        source: Token ids, ``(B, S)``, padded on the right.
        beam_size: Beginnings kept, ``K``; 1 is greedy search.
        length_penalty: The exponent of `length_divisor`; 0 compares plain
            log-probabilities.
        max_len: Most tokens of a translation, EOS included; `length_limit`
            if not given. One that is cut off there is returned only where
            none ended.

    Returns:
        For each source sentence up to ``K`` hypotheses, the best first.

    Raises:
        UserError: If ``beam_size`` or ``max_len`` is below 1, or
            ``length_penalty`` below 0.
    """
    if beam_size < 1 or length_penalty < 0:
        raise UserError(
            f"{beam_size=} and {length_penalty=} won't do: a beam has at least"
            " 1 beginning, and the penalty's exponent is at least 0."
        )
    if not len(source):
        return []
    limit = length_limit(model, source, max_len)
    found: list[list[Hypothesis]] = [[] for _ in source]
    rows = list(range(len(source)))  # the sentence of each group of K beams
    K, device = beam_size, source.device
    state, step = fast_start(model, source)
    state.reorder(
        torch.arange(len(source), device=device)[:, None].repeat(1, K)
    )
    ids = source.new_full((len(source), K, 1), BOS_ID)  # (B, K, 1)
    sums = torch.full((len(source), K), -math.inf, device=device)  # (B, K)
    sums[:, 0] = 0.0  # the K beginnings are equal as yet: one is enough
    for length in range(1, limit + 1):
        logits = step(ids[:, :, -1].flatten(), state).float()
        # At most K of the best 2K end, for a beginning ends in one way only.
        most = min(2 * K, logits.shape[1])
        steps, words = best_words(logits.log_softmax(dim=1), most)
        totals = sums[:, :, None] + steps.view(len(rows), K, most)
        sums, index = totals.flatten(1).topk(2 * K)  # (B, 2K)
        parents = index // most
        tokens = words.view(len(rows), -1).gather(1, index)
        ends = tokens == EOS_ID
        divisor = length_divisor(length, length_penalty)
        for row, rank in ends[:, :K].nonzero().tolist():
            if sums[row, rank] > -math.inf:
                ended = ids[row, parents[row, rank], 1:].tolist()
                score = float(sums[row, rank]) / divisor
                found[rows[row]].append(Hypothesis(ended, score))
        sums, rank = sums.masked_fill(ends, -math.inf).topk(K)
        parents, tokens = parents.gather(1, rank), tokens.gather(1, rank)
        ids = torch.cat([_take(ids, parents), tokens[:, :, None]], dim=2)
        if length == limit:
            for row, sentence in enumerate(rows):
                if not found[sentence]:
                    cut = Hypothesis(
                        ids[row, 0, 1:].tolist(), float(sums[row, 0]) / divisor
                    )
                    found[sentence].append(cut)
            break
        hopes = sums[:, 0] / length_divisor(limit, length_penalty)
        going = [
            row
            for row, hope in enumerate(hopes.tolist())
            if _may_improve(found[rows[row]], K, hope)
        ]
        if not going:
            break
        kept = torch.tensor(going, device=device)
        first = torch.arange(len(rows), device=device)[:, None] * K
        state.reorder((first + parents)[kept])
        ids, sums = ids[kept], sums[kept]
        rows = [rows[row] for row in going]
    return [sorted(each, key=lambda one: -one.score)[:K] for each in found]


def best_words(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Do ``logits.topk(count)`` in a fraction of its time.

    The best words lie in the blocks with the best maxima, and a maximum is
    much faster to find than its place.

    Args:
        logits: ``(N, V)``.
        count: Words wanted, ``C``.

    Returns:
        Their logits and their ids, ``(N, C)`` each, the best first.
    """
    if logits.numel() < MANY:
        values, words = logits.topk(count)
        return values, words
    whole = logits.shape[1] // BLOCK * BLOCK  # the rest is always looked at
    shape = len(logits), whole // BLOCK, BLOCK
    peaks = logits[:, :whole].reshape(shape).amax(dim=2)
    blocks = peaks.topk(min(count, peaks.shape[1])).indices  # (N, C)
    inside = torch.arange(BLOCK, device=logits.device)
    rest = torch.arange(whole, logits.shape[1], device=logits.device)
    words = torch.cat(
        [
            (blocks[:, :, None] * BLOCK + inside).flatten(1),
            rest.expand(len(logits), -1),
        ],
        dim=1,
    )
    best, places = logits.gather(1, words).topk(count)
    return best, words.gather(1, places)


def _take(ids: Tensor, parents: Tensor) -> Tensor:
    """Pick beginnings ``parents (B, K)`` out of ``ids (B, K, t)``."""
    return ids.gather(1, parents[:, :, None].expand(-1, -1, ids.shape[2]))


def _may_improve(found: list[Hypothesis], beam_size: int, hope: float) -> bool:
    """Say whether a search should go on.

    Args:
        found: What ended so far.
        beam_size: How many are enough.
        hope: The score of the best beginning, if all it still needs came
            free, up to the greatest length.
    """
    if len(found) >= beam_size or hope == -math.inf:
        return False
    return not found or hope > max(one.score for one in found)
