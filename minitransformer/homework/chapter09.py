"""Checks for chapter 9: encoder, decoder, Transformer."""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.attention import MultiHeadAttention
from minitransformer.config import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    TransformerConfig,
)
from minitransformer.counting import count_parameters
from minitransformer.decoding import greedy_decode
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.model import Transformer
from minitransformer.recording import recorded_attention

WORDS = 16  # ids in the vocabulary of a small model


@exercise("9.1")
def check_size(answer: Any) -> None:
    """Compare a formula with the parameters of an encoder layer."""
    for D, d_ff in ((44, 53), (10, 7)):
        found = numbers(call(answer, D, d_ff), ())
        right = count_parameters(EncoderLayer(D, 2, d_ff))
        if is_near(found, right, 1e-9):
            continue
        missing = [
            (4 * D, "4 D too few: attention's biases, or the two norms?"),
            (8 * D, "8 D too few: attention's biases and both norms."),
            (2 * D, "2 D too few: there are two norms, with 2 D each."),
            (D * D + D, "one projection of attention is missing: W^O?"),
            (d_ff + D, "the feed-forward layers have biases too."),
            (5 * D + d_ff, "every linear layer has a bias."),
            (-2 * D, "2 D too many: there are two norms, not three."),
            (
                -4 * D * D - 4 * D,
                "an encoder layer has one attention; a decoder layer has two.",
            ),
        ]
        mistakes = [(right - number, words) for number, words in missing]
        otherwise = f"off by {float(found - right):g} at D = {D}."
        explain(found, mistakes, otherwise, 1e-9)


@exercise("9.2")
def check_shift(answer: Any) -> None:
    """Check what the decoder reads and what it must predict."""
    target = padded([[BOS_ID, *row, EOS_ID] for row in random_words(3, 6)])
    result = call(answer, target)
    if not isinstance(result, list | tuple) or len(result) != 2:
        raise Wrong("return two tensors: what is read, what is predicted.")
    reads, predicts = numbers(result[0]), numbers(result[1])
    if reads.shape != predicts.shape:
        raise Wrong(
            f"the shapes {tuple(reads.shape)} and {tuple(predicts.shape)} must"
            " be equal: each token read has one to predict."
        )
    if torch.equal(reads, predicts):
        raise Wrong("nothing is shifted: each position reads its own answer.")
    if (predicts == BOS_ID).any():
        raise Wrong("BOS is never predicted. Are the two swapped?")
    if not is_near(reads, target[:, :-1]):
        raise Wrong(
            "the decoder must read from BOS up to the last token but one."
        )
    if not is_near(predicts, target[:, 1:]):
        raise Wrong("predict the next token, and no later one.")


@exercise("9.3")
def check_masks(answer: Any) -> None:
    """Check the masks of encoder, decoder and cross-attention."""
    source = padded([[*row, EOS_ID] for row in random_words(3, 5)])
    target = padded([[BOS_ID, *row] for row in random_words(3, 7)])
    (B, S), T = source.shape, target.shape[1]
    masks = call(answer, source, target)
    if not isinstance(masks, list | tuple) or len(masks) != 3:
        raise Wrong("return three masks: encoder, decoder, cross.")
    sizes = {"encoder": (S, S), "decoder": (T, T), "cross": (T, S)}
    full = []
    for mask, (name, size) in zip(masks, sizes.items(), strict=True):
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise Wrong(f"{name}: a mask is boolean; True means may attend.")
        try:
            full.append(mask.expand(B, 2, *size))
        except RuntimeError:
            raise Wrong(
                f"{name}: {tuple(mask.shape)} does not fit {(B, 'H', *size)}."
                " A mask is about keys: whose tokens are they here?"
            ) from None
    encoder, decoder, cross = full
    real = padding_mask(source)  # (B, 1, 1, S)
    past = causal_mask(T) & torch.ones_like(decoder)  # (B, H, T, T)
    if torch.equal(encoder, ~real.expand_as(encoder)):
        raise Wrong("encoder: it is turned round. True means may attend.")
    if not torch.equal(encoder, real.expand_as(encoder)):
        raise Wrong(
            "encoder: hide the padding of the source, and nothing else."
        )
    if (decoder & ~past).any():
        raise Wrong("decoder: some position sees its future.")
    if not torch.equal(decoder, past) and not torch.equal(
        decoder, past & padding_mask(target)
    ):
        raise Wrong("decoder: it hides too much of the past.")
    if not torch.equal(cross, real.expand_as(cross)):
        raise Wrong(
            "cross: its keys are the source, so hide the source's padding."
        )


@exercise("9.4")
def check_mean(answer: Any) -> None:
    """Check a mean over real positions."""
    labels = padded([[*row, EOS_ID] for row in random_words(3, 6)])
    losses = torch.rand(labels.shape)
    found = numbers(call(answer, losses, labels))
    if found.shape != ():
        raise Wrong(
            f"the shape is {tuple(found.shape)}; one number is wanted, for the"
            " whole batch."
        )
    real = labels != PAD_ID
    total, count = losses[real].sum(), real.sum()
    right = total / count
    if is_near(found, right):
        return
    by_sentence = (losses * real).sum(dim=1) / real.sum(dim=1)
    mistakes = [
        (losses.mean(), "this mean counts padding."),
        (total, "this is a sum: divide by the number of real tokens."),
        (
            total / labels.numel(),
            "padding adds nothing now, but you divide by it too.",
        ),
        (
            by_sentence.mean(),
            "a mean of means: words of short sentences count more.",
        ),
        (losses[~real].mean(), "turned round: this is the mean of padding."),
        (total / len(labels), "divide by real tokens, not by sentences."),
    ]
    otherwise = f"it gives {float(found):.3f}, and should give {right:.3f}."
    explain(found, mistakes, otherwise)


@exercise("9.5")
def check_decoding(answer: Any) -> None:
    """Check greedy decoding, and that no token is computed twice."""
    model, source, wanted = talkative_model()
    widths: list[int] = []
    reads: list[int] = []

    def saw_target(module: Any, inputs: Any, output: Tensor) -> None:
        widths.append(output.shape[1])

    def saw_source(module: Any, inputs: Any, output: Tensor) -> None:
        reads.append(output.shape[0])

    model.target_embedding.register_forward_hook(saw_target)
    model.source_embedding.register_forward_hook(saw_source)
    found = call(answer, model, source)
    if (
        not isinstance(found, list | tuple)
        or len(found) != len(source)
        or not all(isinstance(ids, list | tuple) for ids in found)
    ):
        raise Wrong(
            f"return a list of {len(source)} lists of ids, one for each"
            " sentence."
        )
    for ids, right in zip(found, wanted, strict=True):
        explain_translation([int(n) for n in numbers(ids)], right)
    if max(widths, default=1) > 1:
        raise Wrong("right, but old tokens are computed again: use step.")
    if sum(reads) > len(source):
        raise Wrong(
            "right, but the source is read again and again: start once."
        )
    short = call(answer, model, source, limit=2)
    if any(len(ids) > 2 for ids in short):
        raise Wrong("with limit=2 a translation has more than two tokens.")


def explain_translation(found: list[int], right: list[int]) -> None:
    """Raise `Wrong` if a translation is not what it should be."""
    if found == right:
        return
    if BOS_ID in found or EOS_ID in found:
        raise Wrong("leave BOS out, and stop before EOS.")
    if found[: len(right)] == right:
        raise Wrong("it runs on after its end: cut it at the first EOS.")
    if len(set(found)) == 1 and len(found) > 1:
        raise Wrong("one word again and again: feed back the newest token.")
    if found in (right[:-1], right[1:]):
        raise Wrong("one word short: look at the first and the last step.")
    raise Wrong(f"the ids {found} should be {right}.")


def talkative_model() -> tuple[Transformer, Tensor, list[list[int]]]:
    """Make a model, sentences, and what it makes of them.

    Its numbers are random, but each translation has at least three different
    words and an end, and no special token in between.
    """
    found: dict[tuple[int, ...], Tensor] = {}
    while len(found) < 5:
        model = small_model(tied=False).eval()
        nn.init.normal_(model.output.weight)
        with torch.no_grad():
            model.output.weight[[PAD_ID, BOS_ID, UNK_ID]] = 0.0
        source = torch.randint(UNK_ID + 1, WORDS, (200, 6))
        results = greedy_decode(model, source, 12)
        found = {
            tuple(ids): sentence
            for sentence, ids in zip(source, results, strict=True)
            if len(ids) < 10 and len(set(ids)) > 2 and min(ids) > UNK_ID
        }
    wanted = list(found)[:5]
    source = torch.stack([found[ids] for ids in wanted])
    return model, source, [list(ids) for ids in wanted]


def small_model(tied: bool = True) -> Transformer:
    """Make a model of one layer on each side."""
    config = TransformerConfig(
        source_vocab_size=WORDS,
        d_model=32,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        d_ff=64,
        dropout=0.0,
        tie_embeddings=tied,
    )
    return Transformer(config)


def random_words(rows: int, longest: int) -> list[list[int]]:
    """Draw sentences of unequal lengths; the first is the longest."""
    lengths = range(longest, longest - rows, -1)
    return [
        torch.randint(UNK_ID + 1, WORDS, (length,)).tolist()
        for length in lengths
    ]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Fill rows up to the longest with PAD."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, True, PAD_ID)


@quiz(9)
def compute_key() -> str:
    """Do what each question asks, and see which answer it gives."""
    shape, runs = look_inside()
    heads = [count_parameters(EncoderLayer(44, h, 53)) for h in (2, 4)]
    parts = base_model_parts()
    choices = [
        ([(7, 5), (5, 7), (5, 5), (7, 7)], shape),
        (
            [2 * heads[0], heads[0] // 2, heads[0], heads[0] + 44**2],
            heads[1],
        ),
        (parts, max(parts)),
        ([(1, 1), (10, 10), (1, 10), (10, 1)], runs),
        (
            [(False, False), (False, True), (True, True), (True, False)],
            learn_with_a_leak(),
        ),
    ]
    return "".join(
        "ABCD"[cast(list[Any], values).index(value)]
        for values, value in choices
    )


def look_inside() -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return the shape of a map, and how often the two ends run."""
    model = small_model()
    runs = {"encoder": 0, "output": 0}

    def count_encoder(module: Any, inputs: Any, output: Any) -> None:
        runs["encoder"] += 1

    def count_output(module: Any, inputs: Any, output: Any) -> None:
        runs["output"] += 1

    model.encoder[0].register_forward_hook(count_encoder)
    model.output.register_forward_hook(count_output)
    source = torch.randint(UNK_ID + 1, WORDS, (1, 7))
    target = torch.randint(UNK_ID + 1, WORDS, (1, 10))
    with torch.no_grad():
        state = model.start(source)
        for token in target[0]:  # nine tokens and EOS come out
            model.step(token[None], state)
        often = runs["encoder"], runs["output"]
        with recorded_attention(model) as maps:
            model(source, target[:, :5])
    return tuple(maps["decoder.0.cross_attention"].shape[2:]), often


def base_model_parts() -> list[int]:
    """Count the paper's base model: forward, attention, embedding, norms."""
    with torch.device("meta"):
        encoder, decoder = (
            kind(512, 8, 2048) for kind in (EncoderLayer, DecoderLayer)
        )
        embedding = nn.Embedding(37_000, 512)
    sizes = {"feed_forward": 0, "attention": 0, "norm": 0}
    for layer in (encoder, decoder):
        for name, parameter in layer.named_parameters():
            (part,) = [part for part in sizes if part in name]
            sizes[part] += 6 * parameter.numel()
    shared = count_parameters(embedding)
    return [sizes["feed_forward"], sizes["attention"], shared, sizes["norm"]]


@cache
def learn_with_a_leak() -> tuple[bool, bool]:
    """Train without the causal mask: is the loss low, is it any good?"""
    model = small_model()
    for layer in model.decoder:
        leave_open(cast(DecoderLayer, layer).self_attention)
    source = torch.randint(UNK_ID + 1, WORDS, (16, 4))
    words = torch.randint(UNK_ID + 1, WORDS, (16, 5))
    target = F.pad(F.pad(words, (1, 0), value=BOS_ID), (0, 1), value=EOS_ID)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(80):
        logits = model(source, target[:, :-1]).flatten(0, 1)
        loss = F.cross_entropy(logits, target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = greedy_decode(model.eval(), source)
    pairs = zip(found, words.tolist(), strict=True)
    right = sum(ids == wanted for ids, wanted in pairs)
    return loss.item() < 0.2, right > len(words) / 2


def leave_open(attention: MultiHeadAttention) -> None:
    """Take the causal mask off one attention."""
    before = attention.attend

    def attend(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        return before(q, k, v, mask, False)

    vars(attention)["attend"] = attend
