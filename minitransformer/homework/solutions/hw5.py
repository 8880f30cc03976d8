"""Answers to hw5, made by tools/homework.py."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import islice
from math import exp, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer import Tokenizer, Transformer, TransformerConfig
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.data import encode_pairs, encode_source, endless_batches
from minitransformer.homework import check
from minitransformer.pairs import Pair
from minitransformer.storybook import stories

Step = Callable[[list[int]], Tensor]  # ids -> log-probabilities (T, V)


def greedy(step: Step, bos: int, eos: int, limit: int) -> list[int]:
    """Take the likeliest next token, again and again.

    Args:
        step: From ids, `bos` first, to log-probabilities ``(T, V)``.
        bos: Id that begins.
        eos: Id that ends.
        limit: Most steps.

    Returns:
        Ids without `bos` and `eos`.
    """
    ids = [bos]
    for _ in range(limit):
        token = int(step(ids)[-1].argmax())
        if token == eos:
            break
        ids.append(token)
    return ids[1:]


def beam(
    step: Step,
    bos: int,
    eos: int,
    width: int,
    limit: int,
    length_penalty: float,
) -> tuple[list[int], float]:
    """Keep the `width` best beginnings at every step.

    Args:
        step: From ids, `bos` first, to log-probabilities ``(T, V)``.
        bos: Id that begins.
        eos: Id that ends.
        width: Beginnings kept, ``K``.
        limit: Most steps.
        length_penalty: The exponent of the divisor.

    Returns:
        Ids without `bos` and `eos`, and their score.
    """

    def score(total: float, length: int) -> float:
        return float(total / ((5 + length) / 6) ** length_penalty)

    going = [(0.0, [bos])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, limit + 1):
        longer = []
        for total, ids in going:
            row = step(ids)[-1]
            gains, tokens = row.topk(min(width + 1, len(row)))
            for gain, token in zip(
                gains.tolist(), tokens.tolist(), strict=True
            ):
                longer.append((total + gain, [*ids, token]))
        longer.sort(reverse=True)
        for total, ids in longer[:width]:
            if ids[-1] == eos:
                ended.append((score(total, length), ids[1:-1]))
        going = [one for one in longer if one[1][-1] != eos][:width]
        hope = score(going[0][0], limit)
        if ended and max(ended)[0] >= hope:
            break
    if not ended:
        return going[0][1][1:], hope
    best, ids = max(ended)
    return ids, best


def sample(
    log_probs: Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Tensor:
    """Make the probabilities that a next token is drawn from.

    Args:
        log_probs: ``(V,)``.
        temperature: Divides them.
        top_k: Words to keep at most; ``None`` for all.
        top_p: Probability to keep at least; ``None`` for all.

    Returns:
        Probabilities ``(V,)``, 0 for what was cut off.
    """
    p = (log_probs / temperature).softmax(dim=-1)
    ordered, places = p.sort(descending=True)
    if top_k is not None:
        ordered[top_k:] = 0.0
        ordered = ordered / ordered.sum()
    if top_p is not None:
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered * (before < top_p)
        ordered = ordered / ordered.sum()
    kept = torch.zeros_like(p)
    kept[places] = ordered
    return kept


def bleu(hypotheses: list[list[str]], references: list[list[str]]) -> float:
    """Score translations, one reference each.

    Args:
        hypotheses: Tokens of each translation.
        references: Tokens of each reference.

    Returns:
        BLEU, from 0 to 100.
    """
    right, total = [0] * 4, [0] * 4
    ours = theirs = 0
    for a, b in zip(hypotheses, references, strict=True):
        ours, theirs = ours + len(a), theirs + len(b)
        for n in range(1, 5):
            mine, given = (
                Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1))
                for x in (a, b)
            )
            right[n - 1] += sum((mine & given).values())
            total[n - 1] += sum(mine.values())
    if 0 in right:
        return 0.0
    shares = [r / t for r, t in zip(right, total, strict=True)]
    penalty = min(1.0, exp(1 - theirs / ours))
    return 100 * penalty * prod(shares) ** (1 / 4)


def learning_rate(
    update: int, peak: float, warmup: int, updates: int
) -> float:
    """Return the rate of an update.

    Args:
        update: Which, from 1.
        peak: The highest rate.
        warmup: The update that has it.
        updates: The last update, which has 0.

    Returns:
        The rate.
    """
    if update <= warmup:
        return peak * update / warmup
    return peak * (updates - update) / (updates - warmup)


@cache
def train() -> tuple[Transformer, Tokenizer, list[float]]:
    """Train a translator, once, however often this is called.

    Returns:
        The model, ready to translate; the tokenizer of both languages; and
        the loss of each update.
    """
    updates = 1000
    told = {  # each sentence once
        pair.source: Pair(pair.source, pair.target)
        for pair, split in islice(stories(), 20_000)
        if split == "train"
    }
    pairs = list(told.values())
    lines = [text for pair in pairs for text in (pair.source, pair.target)]
    tokenizer = Tokenizer.train(lines, vocab_size=2000)
    examples = encode_pairs(pairs, tokenizer, tokenizer, max_len=64)
    torch.manual_seed(0)
    config = TransformerConfig(
        source_vocab_size=tokenizer.vocab_size,
        d_model=64,
        num_heads=4,
        num_encoder_layers=1,
        num_decoder_layers=1,
        d_ff=128,
        dropout=0.0,
        max_len=64,
    )
    model = Transformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    losses = []
    batches = islice(endless_batches(examples, 320, seed=0), updates)
    for update, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, 0.006, 100, updates)
        logits = model(batch.source, batch.decoder_input)
        loss = F.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=PAD_ID
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), tokenizer, losses


def translate(lines: list[str]) -> list[str]:
    """Translate sentences from English to French.

    Args:
        lines: The sentences.

    Returns:
        A translation of each, in the same order.
    """
    model, tokenizer, _ = train()

    def follow(source: Tensor) -> Step:
        memory = model.encode(source)  # (1, S, D)

        def step(said: list[int]) -> Tensor:
            target = torch.tensor([said])
            logits = model.decode(target, memory, source)  # (1, T, V)
            return logits[0].log_softmax(dim=-1)

        return step

    found = []
    with torch.no_grad():
        for ids in encode_source(tokenizer, lines):
            step = follow(torch.tensor([ids]))
            limit = 2 * len(ids) + 10
            said, _ = beam(step, BOS_ID, EOS_ID, 4, limit, 1.0)
            found.append(tokenizer.decode(said))
    return found


def cached(
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    state: Tensor,
    bos: int,
    eos: int,
    width: int,
    limit: int,
    length_penalty: float,
) -> tuple[list[int], float]:
    """Search as `beam` does, and read each token once.

    Args:
        step: From the newest tokens ``(K,)`` and a state to log-probabilities
            ``(K, V)`` and the new state.
        state: The first state, ``(1, ...)``.
        bos: Id that begins.
        eos: Id that ends.
        width: Beginnings kept.
        limit: Most steps.
        length_penalty: The exponent of the divisor.

    Returns:
        Ids without `bos` and `eos`, and their score.
    """

    def divided(total: float, length: int) -> float:
        return float(total * (6 / (5 + length)) ** length_penalty)

    sums, said = [0.0], [[bos]]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, limit + 1):
        newest = torch.tensor([ids[-1] for ids in said])
        rows, state = step(newest, state)
        longer = [
            (total + gain, parent, token)
            for parent, total in enumerate(sums)
            for token, gain in enumerate(rows[parent].tolist())
        ]
        longer.sort(reverse=True)
        for total, parent, token in longer[:width]:
            if token == eos:
                ended.append((divided(total, length), said[parent][1:]))
        going = [one for one in longer if one[2] != eos][:width]
        state = state[[parent for _, parent, _ in going]]
        said = [[*said[parent], token] for _, parent, token in going]
        sums = [total for total, _, _ in going]
        if ended and max(ended)[0] >= divided(sums[0], limit):
            break
    if not ended:
        return said[0][1:], divided(sums[0], limit)
    best, ids = max(ended)
    return ids, best
