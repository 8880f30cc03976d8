"""Checks of homework 4: the loss."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.config import PAD_ID
from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw4.tasks import draw_ids, loss
from minitransformer.homework.tasks import LEARNS

SIZES = ((3, 6, 11), (5, 8, 17))
MEAN = "What to minimise"
Mistakes = Iterable[tuple[Tensor, str]]


def draw(
    sizes: tuple[int, int, int], padded: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw logits and labels.

    Returns:
        Logits ``(B, T, V)``, labels ``(B, T)``, and for each label what it
        costs without smoothing, and the mean cost of all tokens in its place.
    """
    B, T, V = sizes
    logits = 3 * torch.randn(B, T, V, dtype=torch.double)
    logits[..., PAD_ID] += 4  # so that it shows if PAD is treated otherwise
    labels = torch.randint(1, V, (B, T))
    if padded:
        labels[draw_ids(B, T) == PAD_ID] = PAD_ID
    log_p = logits.log_softmax(dim=-1)
    own = -log_p.gather(-1, labels[..., None])[..., 0]  # (B, T)
    return logits, labels, own, -log_p.mean(dim=-1)


def found_loss(answer: Any, logits: Tensor, *others: Any) -> Tensor:
    """Run a learner's loss on single precision."""
    found = numbers(call(answer, logits.float(), *others))
    if found.shape == logits.shape[:-1]:
        raise Wrong(
            "there is a cost for every label; return their mean, one number."
        )
    return numbers(found, ())


def judge(
    found: Tensor, right: Tensor, mistakes: Mistakes, otherwise: str
) -> None:
    """Raise `Wrong` unless a loss is right."""
    if not is_near(found, right):
        explain(found, mistakes, f"{otherwise} {found:.4f}, not {right:.4f}.")


@loss.test("it is the mean of the labels' costs", 9, "By hand")
def check_mean(answer: Any) -> None:
    """Neither padding nor smoothing."""
    for B, T, V in SIZES:
        logits, labels, own, _ = draw((B, T, V), padded=False)
        p = logits.softmax(dim=-1)
        twice = F.cross_entropy(p.flatten(0, 1), labels.flatten())
        picked = logits.gather(-1, labels[..., None])
        judge(
            found_loss(answer, logits, labels, 0.0),
            own.mean(),
            [
                (own.sum(), "that is the sum of all costs, not their mean."),
                (
                    own.sum() / B,
                    "the sum is divided by the number of sentences: a long"
                    " sentence would count for more. Divide by the number of"
                    " labels.",
                ),
                (
                    own.sum() / T,
                    "the sum is divided by the length: divide by the number"
                    " of labels.",
                ),
                (-own.mean(), "the sign is turned: a cost is positive."),
                (
                    own.mean() / torch.tensor(2.0).log(),
                    "that is in bits: the natural logarithm is wanted.",
                ),
                (
                    twice,
                    "the softmax is taken twice: the logits are turned into"
                    " probabilities, and these are treated as logits.",
                ),
                (
                    -picked.mean(),
                    "the logits are not normalised: the cost is the negative"
                    " logarithm of a probability.",
                ),
                (
                    (1 - (-own).exp()).mean(),
                    "the logarithm is missing.",
                ),
            ],
            "without padding and smoothing it gives",
        )


@loss.test("padding costs nothing and does not count", 10, MEAN)
def check_padding(answer: Any) -> None:
    """Padding, no smoothing."""
    for B, T, V in SIZES:
        logits, labels, own, _ = draw((B, T, V))
        real = labels != PAD_ID
        kept = own * real
        judge(
            found_loss(answer, logits, labels, 0.0),
            own[real].mean(),
            [
                (
                    own.mean(),
                    "labels that are PAD are scored like words: they are no"
                    " one's to predict.",
                ),
                (
                    kept.mean(),
                    "PAD costs nothing, but is counted: the sum is divided by"
                    " all places, and should be by the real labels.",
                ),
                (
                    (kept.sum(1) / real.sum(1)).mean(),
                    "that is a mean of the sentences' means: a label of a"
                    " short sentence counts for more than one of a long one.",
                ),
                (
                    kept.sum() / B,
                    "the sum is divided by the number of sentences, and"
                    " should be by the number of real labels.",
                ),
            ],
            "with padding, and without smoothing, it gives",
        )


@loss.test(
    "smoothing spreads its share over all tokens", 10, "Label smoothing"
)
def check_smoothing(answer: Any) -> None:
    """Smoothing, no padding."""
    for (B, T, V), epsilon in zip(SIZES, (0.1, 0.3), strict=True):
        logits, labels, own, spread = draw((B, T, V), padded=False)
        total = V * spread  # (B, T)
        log_p = logits.log_softmax(dim=-1)
        words = -log_p[..., 1:].mean(dim=-1)  # without PAD
        q = torch.full((V,), epsilon / V, dtype=torch.double)
        q[0] += 1 - epsilon
        entropy = -(q * q.log()).sum()
        keep = 1 - epsilon
        right = keep * own + epsilon * spread  # (B, T)
        judge(
            found_loss(answer, logits, labels, epsilon),
            right.mean(),
            [
                (
                    own.mean(),
                    "smoothing changes nothing: the share ε belongs to all"
                    " tokens alike.",
                ),
                (
                    (keep * own + epsilon * (total - own) / (V - 1)).mean(),
                    "ε is spread over the other V - 1 tokens; here all V get"
                    " ε / V, the label among them.",
                ),
                (
                    (own + epsilon * spread).mean(),
                    "the label keeps all of its weight: it is to give ε away,"
                    " so its factor is 1 - ε.",
                ),
                (
                    (keep * own).mean(),
                    "ε is taken from the label and given to nobody: it goes"
                    " to all tokens, ε / V each.",
                ),
                (
                    (keep * own + epsilon * (total - own) / V).mean(),
                    "the label gets no ε / V of its own, so the shares don't"
                    " add up to one.",
                ),
                (
                    (keep * own + epsilon * total).mean(),
                    "each token gets ε; together they should get ε, so each"
                    " gets ε / V.",
                ),
                (
                    (keep * own + epsilon * words).mean(),
                    "ε is spread over all tokens but PAD; here all V get"
                    " ε / V.",
                ),
                (
                    (epsilon * own + keep * spread).mean(),
                    "ε and 1 - ε have changed places.",
                ),
                (
                    right.mean() - entropy,
                    "that is the divergence from the smoothed target, which"
                    " is less by that target's entropy.",
                ),
            ],
            f"with smoothing={epsilon} and no padding it gives",
        )


@loss.test("smoothing leaves padding out too", 10, "Label smoothing")
def check_both(answer: Any) -> None:
    """Smoothing and padding."""
    for (B, T, V), epsilon in zip(SIZES, (0.1, 0.3), strict=True):
        logits, labels, own, spread = draw((B, T, V))
        real = labels != PAD_ID
        right = (1 - epsilon) * own + epsilon * spread  # (B, T)
        plain = (1 - epsilon) * own[real].mean()
        everywhere = epsilon * spread.sum() / real.sum()
        judge(
            found_loss(answer, logits, labels, epsilon),
            right[real].mean(),
            [
                (
                    wrong,
                    "the smoothing's part is taken over padding as well: both"
                    " parts are means over real labels.",
                )
                for wrong in (
                    plain + epsilon * spread.mean(),
                    plain + everywhere,
                )
            ],
            f"with padding and smoothing={epsilon} it gives",
        )


@loss.test("large logits do no harm", 9, "By hand")
def check_large(answer: Any) -> None:
    """Logits whose exponentials overflow or vanish."""
    for B, T, V in SIZES:
        logits, labels, _, _ = draw((B, T, V))
        logits = 200 * logits
        found = found_loss(answer, logits, labels, 0.1)
        right = F.cross_entropy(
            logits.flatten(0, 1),
            labels.flatten(),
            ignore_index=PAD_ID,
            label_smoothing=0.1,
        )
        if not found.isfinite():
            raise Wrong(
                f"for logits of some hundreds it gives {found.item()}: take"
                " log_softmax, not the logarithm of a softmax."
            )
        judge(found, right, [], "for logits of some hundreds it gives")


@loss.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look whether it gives the logits a gradient."""
    logits, labels, _, _ = draw(SIZES[0])
    must_learn(answer, logits.float(), labels, 0.1)
