"""Checks for chapter 9: encoder, decoder, Transformer."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    scaled_dot_product_attention,
)
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
from minitransformer.masks import padding_mask
from minitransformer.model import Transformer
from minitransformer.recording import recorded_attention
from minitransformer.traces import Difference, Step
from minitransformer.tracing import trace

WORDS = 16  # ids in the vocabulary of a small model
NO_FAULT = "no fault"
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@exercise("9.1")
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


@exercise("9.2")
def check_fault(answer: Any) -> None:
    """Hide a fault in a model, or none, and ask for its first step."""
    source = padded([[*row, EOS_ID] for row in random_words(3, 6)])
    target = padded([[BOS_ID, *row] for row in random_words(3, 5)])
    for damage in (open_mask, change_weight, hide_inside, leave_whole):
        right = jittered(small_model(dropout=0.3, layers=2))
        mine = copy.deepcopy(right)
        damage(mine)
        wanted = differing_steps(mine, right, source, target)
        try:
            found = call(answer, mine.train(), right.train(), source, target)
        except Wrong as wrong:
            if "NoneType" not in str(wrong):
                raise
            raise Wrong(
                f"{wrong}. Two models may agree in every step; and a step may"
                " be missing in one of them, which is no fault: see"
                " skip_missing."
            ) from None
        explain_step(found, wanted)


def explain_step(found: Any, wanted: list[str]) -> None:
    """Raise `Wrong` unless a name is that of the first step that differs."""
    if isinstance(found, Difference | Step):
        raise Wrong(
            f"return a name, such as 'encoder.0', and not a"
            f" {type(found).__name__}: see what attributes it has."
        )
    if not isinstance(found, str):
        raise Wrong(f"a name is wanted, and this is {type(found).__name__}.")
    first = wanted[0] if wanted else NO_FAULT
    modules = [name for name in wanted if not is_inside(name)]
    if found == first or found in modules[:1]:  # with hooks of your own
        return
    if "dropout" in found:
        raise Wrong(
            f"{found} differs from run to run, since dropout is on: put both"
            " models in evaluation mode."
        )
    if not wanted:
        raise Wrong(
            f"you return {found!r} for two models that agree in every step"
            f" they share; the answer there is {NO_FAULT!r}."
        )
    if found == NO_FAULT:
        raise Wrong(f"you find no fault, but {first!r} differs.")
    if found == wanted[-1]:
        raise Wrong(f"{found!r} is the last step that differs, not the first.")
    raise Wrong(f"you return {found!r}; the first that differs is {first!r}.")


def differing_steps(
    mine: Transformer, right: Transformer, source: Tensor, target: Tensor
) -> list[str]:
    """Name all steps that differ, in order."""
    ours, theirs = (
        trace(model.eval(), source, target) for model in (mine, right)
    )
    return [
        name
        for name in ours.names
        if name in theirs.names and not is_near(ours[name], theirs[name], 1e-5)
    ]


def is_inside(name: str) -> bool:
    """Say whether only `trace` sees this step, and no hook."""
    last = name.rpartition(".")[2]
    return last in ("q", "k", "v", "scores", "weights", "heads")


class Unmasked(MultiHeadAttention):
    """An attention that forgets its mask."""

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """Attend to padding too."""
        return super().attend(q, k, v, None, causal)


class PlainAttention(nn.Module):
    """A right attention whose inside `trace` does not see."""

    def __init__(self, attention: MultiHeadAttention):
        super().__init__()
        self.w_q, self.w_k = attention.w_q, attention.w_k
        self.w_v, self.w_o = attention.w_v, attention.w_o
        self.split = attention.split_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attend, and mix the heads."""
        k, v = self.split(self.w_k(key)), self.split(self.w_v(value))
        q = self.split(self.w_q(query))  # (B, H, T, d_k)
        heads, _ = scaled_dot_product_attention(q, k, v, mask)
        output: Tensor = self.w_o(heads.transpose(1, 2).flatten(-2))
        return output


def draw_layer(layers: nn.ModuleList) -> Any:
    """Return a layer at random."""
    return layers[int(torch.randint(len(layers), ()))]


def open_mask(model: Transformer) -> None:
    """Let one cross-attention see padding."""
    draw_layer(model.decoder).cross_attention.__class__ = Unmasked


def change_weight(model: Transformer) -> None:
    """Change one number of one layer."""
    feed_forward = draw_layer(model.encoder).feed_forward
    feed_forward.linear1.bias.data += 1.0


def hide_inside(model: Transformer) -> None:
    """Give the encoder an attention of its own, and change a later norm."""
    layer = draw_layer(model.encoder)
    layer.self_attention = PlainAttention(layer.self_attention)
    draw_layer(model.decoder).add_norm2.norm.bias.data += 1.0


def leave_whole(model: Transformer) -> None:
    """Give it an attention of its own, which is right."""
    layer = draw_layer(model.encoder)
    layer.self_attention = PlainAttention(layer.self_attention)


@exercise("9.3")
def check_pre_norm(answer: Any) -> None:
    """Compare a decoder layer with ours in pre-norm, step by step."""
    mask = padding_mask(padded(random_words(3, 6)))  # (B, 1, 1, S)
    for D, H, d_ff, T in ((12, 3, 20, 5), (16, 2, 9, 4)):
        library = jittered(DecoderLayer(D, H, d_ff, norm_first=True))
        layer = call(answer, D, H, d_ff)
        if not isinstance(layer, nn.Module):
            raise Wrong(
                "a class is wanted, such as MyDecoderLayer: pass its name,"
                " without brackets behind it."
            )
        take_weights(layer, library)
        x, memory = torch.randn(3, T, D), torch.randn(3, 6, D)
        found = numbers(call(layer, x, memory, mask), x.shape)
        right = library(x, memory, mask)
        if is_near(found, right):
            continue
        mistakes = wrong_layers(library, x, memory, mask)
        ours = trace(layer, x, memory, mask)
        theirs = trace(library, x, memory, mask)
        names = {
            f"add_norm{i}.norm": f"norm{i}"
            for i in (1, 2, 3)
            if f"norm{i}" in ours.names
        }
        step = ours.first_difference(theirs, 1e-4, names, skip_missing=True)
        name = step.here.name if step and step.here else "the end"
        place = "the end" if name == "(model)" else name
        explain(
            found,
            mistakes,
            f"up to {place} it agrees with the package's layer, and there it"
            " differs: what goes in?",
        )


def take_weights(layer: nn.Module, library: DecoderLayer) -> None:
    """Copy our weights into a learner's layer, name by name."""
    weights = {
        name.replace("add_norm", "norm").replace(".norm.", "."): weight
        for name, weight in library.state_dict().items()
    }
    try:
        layer.load_state_dict(weights)
    except RuntimeError:
        raise Wrong(
            "its weights have other names or shapes than those of"
            " MyDecoderLayer: inherit from that, and write forward alone."
        ) from None


def wrong_layers(
    library: DecoderLayer, x: Tensor, memory: Tensor, mask: Tensor
) -> list[tuple[Tensor, str]]:
    """Do what learners do, and say what is wrong with it."""
    first, second, third = (
        norm.norm
        for norm in (library.add_norm1, library.add_norm2, library.add_norm3)
    )
    look, cross = library.self_attention, library.cross_attention

    def layer(
        norms: Sequence[nn.Module] = (first, second, third),
        see: Tensor = memory,
        real: Tensor | None = mask,
        causal: bool = True,
        norm_keys: bool = True,
        norm_x: bool = False,
        post: bool = False,
    ) -> Tensor:
        def ask_itself(y: Tensor, x: Tensor) -> Tensor:
            key = y if norm_keys else x
            found: Tensor = look(y, key, key, causal=causal)
            return found

        def ask_memory(y: Tensor, x: Tensor) -> Tensor:
            found: Tensor = cross(y, see, see, real)
            return found

        def think(y: Tensor, x: Tensor) -> Tensor:
            found: Tensor = library.feed_forward(y)
            return found

        z = x
        steps = (ask_itself, ask_memory, think)
        for norm, step in zip(norms, steps, strict=True):
            y = z if post else norm(z)
            z = (y if norm_x else z) + step(y, z)
            z = norm(z) if post else z
        return z

    return [
        (layer(post=True), "the norms still stand after the sums: post-norm."),
        (
            layer(norm_x=True),
            "what you add to is normalised too. The residual goes round the"
            " norm.",
        ),
        (
            layer(see=second(memory)),
            "the memory comes normalised; norm2 is for x alone.",
        ),
        (layer(causal=False), "the self-attention sees the future."),
        (layer(real=None), "the cross-attention sees padding: its mask?"),
        (
            layer(norm_keys=False),
            "in self-attention, keys and values too are made from the"
            " normalised tokens.",
        ),
        (
            layer(norms=(first, first, first)),
            "each sublayer has a norm of its own: norm1, norm2, norm3.",
        ),
    ]


def jittered(module: ModuleT) -> ModuleT:
    """Move all weights, as fresh norms hide mistakes; end in evaluation."""
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module.eval()


@exercise("9.4")
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


def small_model(
    tied: bool = True, dropout: float = 0.0, layers: int = 1
) -> Transformer:
    """Make a model of few layers on each side."""
    config = TransformerConfig(
        source_vocab_size=WORDS,
        d_model=32,
        num_heads=2,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        d_ff=64,
        dropout=dropout,
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
