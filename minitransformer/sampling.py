"""From a model to translations by chance: temperature, top-k and top-p."""

import math

import torch
from torch import Tensor

from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.decoding import Hypothesis, length_limit
from minitransformer.errors import UserError
from minitransformer.packed_decoder import fast_start
from minitransformer.recurrent import TranslationModel


def next_probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Turn logits into what the next token is drawn from.

    First the temperature, then the ``top_k`` likeliest words, then of these
    the fewest that together have ``top_p``; what is left sums to one.

    Args:
        logits: ``(..., V)``.
        temperature: Divides the logits. Below 1 the likely words gain, above
            1 they lose.
        top_k: Words to keep at most; ``None`` for all.
        top_p: Probability to keep at least; ``None`` for all.

    Returns:
        Probabilities ``(..., V)``. A word that was not kept has 0.

    Raises:
        UserError: If a choice is impossible.

    >>> logits = torch.tensor([4.0, 3, 2, 1]).log()
    >>> [round(p, 2) for p in next_probabilities(logits).tolist()]
    [0.4, 0.3, 0.2, 0.1]
    >>> kept = next_probabilities(logits, top_p=0.65)
    >>> [round(p, 2) for p in kept.tolist()]
    [0.57, 0.43, 0.0, 0.0]
    """
    _check_choices(temperature, top_k, top_p)
    # Less the largest: a temperature near 0 would make infinities of it.
    shifted = logits.float() - logits.float().amax(dim=-1, keepdim=True)
    found = (shifted / temperature).softmax(dim=-1)
    if top_k is None and top_p is None:
        return found
    most = min(top_k or found.shape[-1], found.shape[-1])
    ordered, words = found.topk(most, dim=-1)
    if top_p is not None:
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
        before = ordered.cumsum(dim=-1) - ordered  # of the likelier words
        # The likeliest stays: nothing is before it.
        ordered = ordered.masked_fill(before >= top_p, 0.0)
    ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(found).scatter(-1, words, ordered)


def _check_choices(
    temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Raise a ``UserError`` unless there is something to draw from."""
    if not 0 < temperature < math.inf:
        raise UserError(
            f"{temperature=} won't do: it divides, so it must be above 0."
            " For the likeliest word every time, search greedily."
        )
    if top_k is not None and top_k < 1:
        raise UserError(f"{top_k=} keeps no word: give 1 or more, or None.")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(
            f"{top_p=} is no probability to keep: give one above 0 and up"
            " to 1, or None."
        )


@torch.inference_mode()
def sample(
    model: TranslationModel,
    source: Tensor,
    count: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    max_len: int | None = None,
) -> list[list[Hypothesis]]:
    """Draw translations, token by token.

    Args:
        model: In ``eval`` mode.
        source: Token ids, ``(B, S)``, padded on the right.
        count: Translations of each sentence, ``K``.
        temperature: As in `next_probabilities`.
        top_k: As there.
        top_p: As there.
        seed: The same seed, batch and machine give the same translations.
        max_len: Most tokens of a translation, EOS included; `length_limit`
            if not given.

    Returns:
        For each source sentence ``K`` hypotheses, as they were drawn. Their
        score is their log-probability under the model as it is, whatever
        the temperature.

    Raises:
        UserError: If ``count`` is below 1 or another choice is impossible.
    """
    if count < 1:
        raise UserError(f"{count=} translations can't be drawn: ask for 1.")
    _check_choices(temperature, top_k, top_p)
    limit = length_limit(model, source, max_len)
    device = source.device
    generator = torch.Generator(device).manual_seed(seed)
    state, step = fast_start(model, source)
    state.reorder(
        torch.arange(len(source), device=device)[:, None].repeat(1, count)
    )
    tokens = source.new_full((len(source) * count,), BOS_ID)  # (B·K,)
    ids: list[list[int]] = [[] for _ in tokens]
    scores = [0.0] * len(tokens)
    ended = [False] * len(tokens)
    # Each K rows work on one of these; the rows get fewer as they end.
    sentences = list(range(len(source)))
    for _ in range(limit):
        logits = step(tokens, state).float()
        chances = next_probabilities(logits, temperature, top_k, top_p)
        tokens = chances.multinomial(1, generator=generator)[:, 0]
        taken = logits.gather(1, tokens[:, None])[:, 0]
        steps = (taken - logits.logsumexp(dim=1)).tolist()
        for row, (token, gain) in enumerate(
            zip(tokens.tolist(), steps, strict=True)
        ):
            place = sentences[row // count] * count + row % count
            if ended[place]:
                continue  # others of the same sentence go on
            scores[place] += gain
            if token == EOS_ID:
                ended[place] = True
            else:
                ids[place].append(token)
        going = [
            index
            for index, sentence in enumerate(sentences)
            if not all(ended[sentence * count : (sentence + 1) * count])
        ]
        if not going:
            break
        if len(going) < len(sentences):
            kept = torch.tensor(going, device=device)[:, None] * count
            rows = kept + torch.arange(count, device=device)
            state.reorder(rows)
            tokens = tokens[rows.flatten()]
            sentences = [sentences[index] for index in going]
    drawn = [
        Hypothesis(its_ids, score)
        for its_ids, score in zip(ids, scores, strict=True)
    ]
    return [
        drawn[start : start + count] for start in range(0, len(drawn), count)
    ]
