"""What a traced model gave: a table, and a comparison with another."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor

from minitransformer.errors import UserError


@dataclass(frozen=True, eq=False)
class Step:
    """One thing a model worked out.

    Attributes:
        name: Where in the model, such as ``"decoder.0.cross_attention"``.
        value: A copy, of any shape, without gradient.
    """

    name: str
    value: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value, such as ``(B, T, D)``."""
        return tuple(self.value.shape)


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """The first place where two traces part; printed, it is one sentence.

    Attributes:
        kind: ``"missing"`` if only one has the step, ``"shape"``, or
            ``"values"``.
        here: The step in this trace; ``None`` if it has none.
        there: The step in the other trace; ``None`` if it has none.
        largest: How far two numbers are apart; 0 unless ``"values"``.
        agreeing: How many steps were compared before it; all agree.
    """

    kind: str
    here: Step | None
    there: Step | None
    largest: float
    agreeing: int

    def __repr__(self) -> str:
        if self.here is None or self.there is None:
            where = "this trace" if self.here is None else "the other"
            what = f"missing in {where}"
        elif self.kind == "shape":
            what = f"{self.here.shape} here, {self.there.shape} in the other"
        else:
            what = f"values differ by up to {self.largest:.2g}"
        before = {
            0: "no step was compared before it",
            1: "the step before it agrees",
        }
        agree = f"all {self.agreeing} steps before it agree"
        names = dict.fromkeys(s.name for s in (self.here, self.there) if s)
        return (
            f"{' = '.join(names)}: {what}; {before.get(self.agreeing, agree)}."
        )


class Trace:
    """What `trace` saw: the steps, in the order they were worked out.

    Printed, it is a table: name, shape, mean and standard deviation.

    Attributes:
        steps: Every `Step`; no two names are equal.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    @property
    def names(self) -> list[str]:
        """The names of the steps, in order."""
        return [step.name for step in self.steps]

    def __getitem__(self, name: str) -> Tensor:
        """Return the value of a step.

        Raises:
            UserError: If there is no step of that name.
        """
        for step in self.steps:
            if step.name == name:
                return step.value
        raise _unknown(name, self.names)

    def __repr__(self) -> str:
        rows = [("name", "shape", "mean", "std"), *self._rows()]
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            f"{name:{width[0]}}  {shape:{width[1]}}"
            f"  {mean:>{width[2]}}  {std:>{width[3]}}"
            for name, shape, mean, std in rows
        )

    def _repr_markdown_(self) -> str:
        rows = [
            f"| `{name}` | {shape} | {mean} | {std} |"
            for name, shape, mean, std in self._rows()
        ]
        head = ["| name | shape | mean | std |", "| :-- | :-- | --: | --: |"]
        return "\n".join(head + rows)

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for step in self.steps:
            numbers = _numbers(step.value)
            mean = numbers.mean().item()
            std = (numbers - mean).square().mean().sqrt().item()
            # Three decimals: what is only rounding shows as zero, unsigned.
            yield step.name, str(step.shape), f"{mean:z.3f}", f"{std:.3f}"

    def first_difference(
        self,
        other: "Trace",
        tolerance: float = 1e-5,
        names: Mapping[str, str] | None = None,
        skip_missing: bool = False,
    ) -> Difference | None:
        """Compare step by step, by name, in the order of this trace.

        Trace both models in evaluation mode, or dropout is what differs.

        Args:
            other: The trace of the other model, for the same inputs.
            tolerance: How far two numbers may be apart, as a share of the
                step's largest number, or of 1 if all are smaller.
            names: What has another name in the other model: its name there
                to its name here. A module's name stands for all that is in
                the module: ``{"layers.0.attn": "encoder.0.self_attention"}``.
            skip_missing: Pass over steps that only one of them has, such as
                the inside of attention if the other model brings its own.

        Returns:
            The first difference, or ``None``.

        Raises:
            UserError: If a name is unknown, or names two steps, the
                tolerance is no number from 0 up, or no step is in both.
        """
        if not isinstance(other, Trace):
            raise UserError(
                f"A trace compares with a trace, not a"
                f" {type(other).__name__}: pass what trace() gave."
            )
        if not tolerance >= 0:
            raise UserError(f"{tolerance=} must be 0 or more.")
        here = {step.name: step for step in self.steps}
        there = other._renamed(names or {}, self.names)
        agreeing = 0
        for name in _in_order(here, there):
            ours, theirs = here.get(name), there.get(name)
            kind, largest = _compare(ours, theirs, tolerance)
            if not kind:
                agreeing += 1
            elif kind != "missing" or not skip_missing:
                return Difference(kind, ours, theirs, largest, agreeing)
        if not agreeing:
            raise UserError(
                "The two traces have no step in common: say with names= what"
                " corresponds to what."
            )
        return None

    def _renamed(
        self, names: Mapping[str, str], known: list[str]
    ) -> dict[str, Step]:
        """Map each step's name in the other trace to the step."""
        for theirs, ours in names.items():
            for path, steps in ((theirs, self.names), (ours, known)):
                if not any(_is_in(path, name) for name in steps):
                    raise _unknown(path, steps)
        renamed: dict[str, Step] = {}
        for step in self.steps:
            paths = [path for path in names if _is_in(path, step.name)]
            name = step.name
            if paths:
                longest = max(paths, key=len)
                name = names[longest] + name.removeprefix(longest)
            if name in renamed:
                raise UserError(
                    f"names= calls two steps {name!r}: {renamed[name].name!r}"
                    f" and {step.name!r}; give each a name of its own."
                )
            renamed[name] = step
        return renamed


def _in_order(here: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    """Merge names as ``here``; what is only there, before what follows it."""
    here, waiting = list(here), list(there)
    for name in here:
        while name in waiting:
            first = waiting.pop(0)
            if first not in here:
                yield first
        yield name
    yield from (name for name in waiting if name not in here)


def _compare(
    ours: Step | None, theirs: Step | None, tolerance: float
) -> tuple[str, float]:
    """Say what kind of difference there is, if any, and how large."""
    if ours is None or theirs is None:
        return "missing", 0.0
    if ours.shape != theirs.shape:
        return "shape", 0.0
    a, b = _numbers(ours.value), _numbers(theirs.value)
    same = (a == b) | (a.isnan() & b.isnan())
    gaps = (a - b).abs().masked_fill(same, 0.0)
    gaps = gaps.where(~gaps.isnan(), math.inf)
    largest, scale = _largest(gaps), _largest(a[a.isfinite()].abs())
    if largest > tolerance * max(1.0, scale):
        return "values", largest
    return "", 0.0


def _largest(numbers: Tensor) -> float:
    return float(numbers.max()) if len(numbers) else 0.0


def _numbers(value: Tensor) -> Tensor:
    """Lay out a tensor's numbers in a row, exactly."""
    return value.cpu().double().flatten()


def _is_in(path: str, name: str) -> bool:
    """Say whether a step is a module's output, or is inside the module."""
    rest = name.removeprefix(path)
    return name.startswith(path) and rest[:1] in ("", ".", "[", " ")


def _unknown(name: str, names: list[str]) -> UserError:
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "see names."
    return UserError(f"There is no step {name!r}: {hint}")
