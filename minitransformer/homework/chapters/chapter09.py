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
NO_CLASS = (
    "a class is wanted, such as MyDecoderLayer: pass its name, without"
    " brackets behind it."
)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@exercise("9.1")
def check_feed(answer: Any) -> None:
    """Check what the decoder reads and what it must predict."""
    for rows, longest in ((3, 6), (5, 7)):
        # The longest sentence is not the first one.
        sentences = random_words(rows, longest)[::-1]
        target = padded([[BOS_ID, *row, EOS_ID] for row in sentences])
        explain_feed(call(answer, sentences), target)


def explain_feed(result: Any, target: Tensor) -> None:
    """Raise `Wrong` unless a batch can be trained on.

    Where the label is PAD, the loss does not look: there a short row may
    read its EOS, or PAD in its place.
    """
    if not isinstance(result, list | tuple) or len(result) != 2:
        raise Wrong("return two tensors: what is read, what is predicted.")
    reads, predicts = numbers(result[0]), numbers(result[1])
    if reads.shape != predicts.shape:
        raise Wrong(
            f"the shapes {tuple(reads.shape)} and {tuple(predicts.shape)} must"
            " be equal: each token read has one to predict."
        )
    wanted, labels = target[:, :-1].double(), target[:, 1:].double()
    if reads.ndim != 2 or len(reads) != len(target):
        raise Wrong(
            f"of {len(target)} sentences you make a batch of shape"
            f" {tuple(reads.shape)}: each sentence is a row, and what is"
            " dropped is a column."
        )
    if is_near(reads, predicts):
        raise Wrong("nothing is shifted: each position reads its own answer.")
    if is_near(reads, labels) and is_near(predicts, wanted):
        raise Wrong("what is read and what is predicted are swapped.")
    if (predicts[:, 0] == PAD_ID).any():
        raise Wrong("the padding stands before the words: put it behind.")
    if (predicts == BOS_ID).any():
        raise Wrong("BOS is among what must be predicted; it is only read.")
    if not (predicts == EOS_ID).any(dim=1).all():
        raise Wrong("some row never predicts EOS: how would it end?")
    if not (reads[:, 0] == BOS_ID).all():
        raise Wrong("every row must begin by reading BOS.")
    real = labels != PAD_ID
    if predicts.shape != labels.shape:
        raise Wrong(
            f"the shape is {tuple(predicts.shape)}; the longest sentence of"
            f" {labels.shape[1] - 1} words and one mark make"
            f" {labels.shape[1]} columns."
        )
    if not is_near(predicts, labels):
        raise Wrong(
            "at each position the label is the next token, no later one, and"
            " behind EOS it is PAD."
        )
    if not is_near(reads[real], wanted[real]):
        raise Wrong(
            "the shift is by one: where token t is to be predicted, token"
            " t - 1 is read."
        )
    if not ((reads == wanted) | (reads == PAD_ID))[~real].all():
        raise Wrong("behind its words a short row may read EOS and PAD only.")


@exercise("9.2")
def check_fault(answer: Any) -> None:
    """Hide a fault in a model, or none, and ask for its first step."""
    source = padded([[*row, EOS_ID] for row in random_words(3, 6)])
    target = padded([[BOS_ID, *row] for row in random_words(3, 5)])
    for damage in (open_mask, change_weight, hide_inside, leave_whole):
        right = jittered(small_model(dropout=0.3, layers=2))
        mine = copy.deepcopy(right)
        damage(mine)
        shared, wanted = compare_steps(mine, right, source, target)
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
        explain_step(found, wanted, shared)


def explain_step(found: Any, wanted: list[str], shared: list[str]) -> None:
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
    if is_inside(found) and found not in shared:
        raise Wrong(
            f"{found!r} is no fault: one of the models has no such step. See"
            " skip_missing."
        )
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


def compare_steps(
    mine: Transformer, right: Transformer, source: Tensor, target: Tensor
) -> tuple[list[str], list[str]]:
    """Name all steps that both have, and those that differ, in order."""
    ours, theirs = (
        trace(model.eval(), source, target) for model in (mine, right)
    )
    shared = [name for name in ours.names if name in theirs.names]
    differing = [
        name for name in shared if not is_near(ours[name], theirs[name], 1e-5)
    ]
    return shared, differing


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
    if isinstance(answer, nn.Module):
        raise Wrong(NO_CLASS)
    mask = padding_mask(padded(random_words(3, 6)))  # (B, 1, 1, S)
    for D, H, d_ff, T in ((12, 3, 20, 5), (16, 2, 9, 4)):
        library = jittered(DecoderLayer(D, H, d_ff, norm_first=True))
        layer = call(answer, D, H, d_ff)
        if not isinstance(layer, nn.Module):
            raise Wrong(NO_CLASS)
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
    tokens: list[int] = []
    reads: list[int] = []

    def saw_target(module: Any, inputs: Any, output: Tensor) -> None:
        widths.append(output.shape[1])
        tokens.append(output.shape[0] * output.shape[1])

    def saw_source(module: Any, inputs: Any, output: Tensor) -> None:
        reads.append(output.shape[0])

    def decode(limit: int) -> list[list[int]]:
        for counts in (widths, tokens, reads):
            counts.clear()
        try:
            found = call(answer, model, source, limit=limit)
        except Wrong as wrong:
            if f"({len(source)}, 1, 1)" not in str(wrong):
                raise
            raise Wrong(
                "step takes the newest token of each sentence, shape (B,), and"
                " not (B, 1)."
            ) from None
        return as_lists(found, len(source))

    model.target_embedding.register_forward_hook(saw_target)
    model.source_embedding.register_forward_hook(saw_source)
    enough = 1 + max(map(len, wanted))  # the longest, and its EOS
    for limit in (30, enough):
        for ids, right in zip(decode(limit), wanted, strict=True):
            explain_translation(ids, right)
    wide, sources = max(widths, default=1), sum(reads)
    targets = sum(tokens)
    for ids, right in zip(decode(2), wanted, strict=True):
        if len(ids) > 2:
            raise Wrong("with limit=2 a translation has more than two tokens.")
        if ids != right[:2]:
            raise Wrong(
                f"with limit=2 the ids {ids} should be {right[:2]}: as many"
                " tokens as the limit allows."
            )
    if wide > 1:
        raise Wrong("right, but old tokens are computed again: use step.")
    if sources > len(source):
        raise Wrong(
            "right, but the source is read again and again: start once."
        )
    if targets > len(source) * (enough + 1):  # one more does no harm
        raise Wrong(
            "right, but old tokens go through step again: the state keeps"
            " them, so only the newest is new."
        )


def as_lists(found: Any, count: int) -> list[list[int]]:
    """Take ids of sentences as lists, whatever kind of rows they are."""
    if not isinstance(found, list | tuple) or len(found) != count:
        raise Wrong(
            f"return a list of {count} lists of ids, one for each sentence."
        )
    rows = [numbers(ids) for ids in found]
    if any(row.ndim != 1 for row in rows):
        raise Wrong(
            f"return a list of {count} lists of ids, one for each sentence."
        )
    return [[int(number) for number in row] for row in rows]


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
    shape = look_inside()
    length, runs = count_runs()
    heads = [count_parameters(EncoderLayer(44, h, 53)) for h in (2, 4)]
    parts = base_model_parts()
    choices = [
        ([(7, 5), (5, 7), (5, 5), (7, 7)], shape),
        (
            [2 * heads[0], heads[0] // 2, heads[0], heads[0] + 44**2],
            heads[1],
        ),
        (parts, max(parts)),
        ([(1, 1), (length, length), (1, length), (length, 1)], runs),
        (
            [(False, False), (False, True), (True, True), (True, False)],
            learn_with_a_leak(),
        ),
    ]
    return "".join(
        "ABCD"[cast(list[Any], values).index(value)]
        for values, value in choices
    )


def look_inside() -> tuple[int, ...]:
    """Return the shape of a map, seven tokens asked by five."""
    model = small_model()
    source = torch.randint(UNK_ID + 1, WORDS, (1, 7))
    target = torch.randint(UNK_ID + 1, WORDS, (1, 5))
    with torch.no_grad(), recorded_attention(model) as maps:
        model(source, target)
    return tuple(maps["decoder.0.cross_attention"].shape[2:])


@torch.no_grad()
def count_runs() -> tuple[int, tuple[int, int]]:
    """Translate up to EOS: how many tokens, how often do both ends run?"""
    model, source, wanted = talkative_model()
    runs = {"encoder": 0, "output": 0}

    def count_encoder(module: Any, inputs: Any, output: Any) -> None:
        runs["encoder"] += 1

    def count_output(module: Any, inputs: Any, output: Any) -> None:
        runs["output"] += 1

    model.encoder[0].register_forward_hook(count_encoder)
    model.output.register_forward_hook(count_output)
    state = model.start(source[:1])
    token = torch.tensor([BOS_ID])
    while token != EOS_ID:
        token = model.step(token, state).argmax(dim=-1)  # (1,)
    return len(wanted[0]) + 1, (runs["encoder"], runs["output"])


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
