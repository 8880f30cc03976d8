"""What the checks of assignment 2 share: shapes, modules, what is refused."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from minitransformer.attention import MultiHeadAttention
from minitransformer.homework.checking import Wrong, call, numbers
from minitransformer.homework.hw2.slips import State

# B, T, H, d_k: no two alike, so that no axis passes for another.
SIZES = ((2, 5, 3, 4), (3, 4, 2, 7), (1, 7, 5, 2))

Shapes = Iterable[tuple[Sequence[int], str]]


def shaped(found: Tensor, wanted: Sequence[int], mistakes: Shapes) -> None:
    """Raise `Wrong` for another shape, with the words for it if there are."""
    if found.shape == tuple(wanted):
        return
    for shape, words in mistakes:
        if found.shape == tuple(shape):
            raise Wrong(f"{words} {tuple(wanted)} is wanted.")
    raise Wrong(
        f"the shape is {tuple(found.shape)}, and should be {tuple(wanted)}."
    )


def run(function: Any, *inputs: Any, hint: str, **options: Any) -> Any:
    """Call what a learner wrote; say ``hint`` after what it raises."""
    try:
        return call(function, *inputs, **options)
    except Wrong as wrong:
        if not str(wrong).startswith("your code raises"):
            raise
        raise Wrong(f"{wrong} ({hint}).") from wrong.__cause__


def method(module: Any, name: str) -> Any:
    """Return a method of a learner's module."""
    try:
        return getattr(module, name)
    except AttributeError:
        raise Wrong(
            "the class must be a torch nn.Module, with super().__init__() in"
            f" its constructor: what it makes has no {name}."
        ) from None


def loaded(made: Any, state: State) -> Any:
    """Put weights into a learner's module."""
    call(method(made, "load_state_dict"), state)
    return made


def output_of(module: Any, *inputs: Any, hint: str = "") -> Tensor:
    """Run a learner's module, which is to return a tensor alone."""
    hint = hint or "write the shape beside each line, and compare"
    found = run(module, *inputs, hint=hint)
    if isinstance(found, tuple | list):
        raise Wrong(
            "forward returns several things, and should return the output"
            " alone: whoever calls it expects a tensor."
        )
    return numbers(found)


def right_one(state: State, d_model: int, num_heads: int) -> Any:
    """Return the package's module with the same weights, without gradients."""
    module = MultiHeadAttention(d_model, num_heads)
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def same_layers(
    module: Any, state: State, otherwise: Iterable[tuple[str, str]] = ()
) -> None:
    """Compare a module's parameters with ``state`` by names and shapes.

    Args:
        module: The learner's.
        state: What it should hold.
        otherwise: Names, each with what to say if its shape differs.
    """
    held = call(method(module, "state_dict"))
    found = {name: tuple(held[name].shape) for name in held}
    missing = [name for name in state if name not in found]
    if missing and all(name.endswith(".bias") for name in missing):
        raise Wrong(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            " missing: every layer here has its bias, as nn.Linear has one"
            " unless told otherwise."
        )
    if missing:
        raise Wrong(
            f"{', '.join(missing)} cannot be found. The module holds"
            " w_q, w_k, w_v and w_o, each an nn.Linear, and all heads share"
            " them."
        )
    if extra := [name for name in found if name not in state]:
        raise Wrong(
            f"{', '.join(extra)} is learned or stored too, and w_q, w_k, w_v"
            " and w_o are all that is needed."
        )
    for name, words in otherwise:
        if found[name] != tuple(state[name].shape):
            raise Wrong(words)
    for name, weight in state.items():
        if found[name] != tuple(weight.shape):
            raise Wrong(
                f"{name} has shape {found[name]}, and should have"
                f" {tuple(weight.shape)}."
            )


def judge_refusal(
    answer: Any, sizes: Sequence[int], named: Sequence[int], why: str
) -> None:
    """Expect a `ValueError` with a sentence.

    Args:
        answer: The learner's class.
        sizes: What it is made with.
        named: Those of them that the sentence must name.
        why: What is wrong with them.
    """
    try:
        call(answer, *sizes)
    except Wrong as wrong:
        told = str(wrong).removeprefix("your code raises ")
        kind, _, sentence = told.partition(": ")
        if kind != "ValueError" and not isinstance(
            wrong.__cause__, ValueError
        ):
            raise Wrong(
                f"{why}, so raise a ValueError with a sentence; here {kind}"
                " is raised."
            ) from None
        unnamed = [size for size in named if str(size) not in sentence]
        if unnamed or len(sentence.split()) < 4:
            raise Wrong(
                f"{why}: the ValueError should say so in a sentence that"
                f" names both numbers, and it says {sentence!r}."
            ) from None
        return
    raise Wrong(f"{why}, and no ValueError is raised.")
