"""What the gate compares when the notebooks are run again.

Text must be the same to the letter, except that a decimal number may be off
by one unit of its last printed digit (another processor rounds differently);
integers may not. Figures must be the same to the eye. Everything else (kinds
of output, their number and order, HTML, LaTeX, exceptions, warnings) must be
the same exactly.
"""

import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

# A number that is not part of a name (w_1), a version (2.13.0) or a size
# (400x300), with the spaces before it: a column shifts when a sign appears.
NUMBER = re.compile(
    r" *(?<![\w.])([-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)(?!\w|\.\d)"
)
# Root mean square of the difference in grey levels (0 to 255). The same
# matplotlib draws the same bytes; data that differ by 1 % give about 4.
PIXEL_LIMIT = 1.0

Output = dict[str, Any]


def is_integer(token: str) -> bool:
    """Say whether a printed number shows no decimals: ``3``, but ``3.`` too.

    ``torch`` prints the whole numbers of a float tensor as ``3.``.
    """
    return bool(re.fullmatch(r"[-+]?\d+\.?", token))


def unit(token: str) -> Decimal:
    """Return one unit of the last printed digit: 0.01 for ``3.14``."""
    return Decimal(1).scaleb(int(Decimal(token).as_tuple().exponent))


def numbers_agree(stored: str, new: str) -> bool:
    """Compare two printed numbers."""
    if is_integer(stored) or is_integer(new):
        return Decimal(stored) == Decimal(new)
    allowed = min(unit(stored), unit(new))
    return abs(Decimal(stored) - Decimal(new)) <= allowed


def text_differences(stored: str, new: str) -> list[str]:
    """Compare two printed texts."""
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new):
        return [f"text was:\n{stored}\nand now is:\n{new}"]
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(new), strict=True)
    return [
        f"number was {a} and now is {b}"
        for a, b in pairs
        if not numbers_agree(a, b)
    ]


def pixels(png: str) -> np.ndarray:
    """Decode a figure as a notebook stores it: ``(height, width, 3)``."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    return np.asarray(image.convert("RGB"), dtype=float)


def figure_differences(stored: str, new: str) -> list[str]:
    """Compare two figures; elsewhere than on Linux only that there are two."""
    if stored == new or sys.platform != "linux":
        return []
    a, b = pixels(stored), pixels(new)
    if a.shape != b.shape:
        return [f"figure's size was {a.shape} and now is {b.shape}"]
    rms = float(np.sqrt(((a - b) ** 2).mean()))
    return [f"figure differs: RMS {rms:.2f}"] if rms > PIXEL_LIMIT else []


def exact_differences(stored: Any, new: Any) -> list[str]:
    """Compare what has to be the same to the letter."""
    return [] if stored == new else [f"was {stored!r} and now is {new!r}"]


COMPARE: dict[str, Callable[[str, str], list[str]]] = {
    "text": text_differences,
    "text/plain": text_differences,
    "image/png": figure_differences,
    "image/jpeg": figure_differences,
}


def merged(outputs: list[Any]) -> list[Output]:
    """Join neighbouring pieces of one stream: how it was cut is chance."""
    whole: list[Output] = []
    for output in outputs:
        last = whole[-1] if whole else {}
        if output["output_type"] == "stream" and (
            last.get("name") == output["name"]
        ):
            last["text"] += output["text"]
        else:
            whole.append(dict(output))
    return whole


def fields(output: Output) -> dict[str, Any]:
    """Flatten an output to what is compared, by name."""
    kind = output["output_type"]
    if kind == "stream":
        return {"stream": output["name"], "text": output["text"]}
    if kind == "error":
        return {"error": output["ename"], "message": output["evalue"]}
    return {"output": kind, **output["data"]}


def differences(stored: list[Any], new: list[Any]) -> list[str]:
    """Say how a cell's new outputs differ from the stored; [] if they don't.

    Args:
        stored: The outputs in the notebook.
        new: The outputs of running the cell again.
    """
    before = [fields(output) for output in merged(stored)]
    after = [fields(output) for output in merged(new)]
    if [list(sorted(f)) for f in before] != [list(sorted(f)) for f in after]:
        return [
            f"outputs were {[sorted(f) for f in before]} "
            f"and now are {[sorted(f) for f in after]}:\n{before}\n{after}"
        ]
    return [
        f"{name}: {difference}"
        for old, now in zip(before, after, strict=True)
        for name in old
        for difference in COMPARE.get(name, exact_differences)(
            old[name], now[name]
        )
    ]


# Alterations: what the gate must never let through. Each yields every copy
# of a cell's stored outputs with one thing changed.


def _texts(outputs: list[Any]) -> Iterator[tuple[Any, str]]:
    """Yield (holder, key) of each printed text."""
    for output in outputs:
        if output["output_type"] == "stream":
            yield output, "text"
        elif "text/plain" in output.get("data", {}):
            yield output["data"], "text/plain"


def _with_number(
    outputs: list[Any], wanted: Callable[[str], bool], step: int
) -> Iterator[list[Any]]:
    places = [
        (i, match)
        for i, (holder, key) in enumerate(_texts(outputs))
        for match in NUMBER.finditer(holder[key])
        if wanted(match[1])
    ]
    for i, match in places:
        altered = deepcopy(outputs)
        holder, key = list(_texts(altered))[i]
        token, text = match[1], holder[key]
        by = step * (1 if is_integer(token) else unit(token))
        changed = f"{Decimal(token) + by}" + "." * token.endswith(".")
        holder[key] = text[: match.start(1)] + changed + text[match.end(1) :]
        yield altered


def number_changed(outputs: list[Any]) -> Iterator[list[Any]]:
    """Move a decimal number by two units of its last digit."""
    return _with_number(outputs, lambda token: not is_integer(token), 2)


def integer_changed(outputs: list[Any]) -> Iterator[list[Any]]:
    """Add one to a whole number."""
    return _with_number(outputs, is_integer, 1)


def figure_changed(outputs: list[Any]) -> Iterator[list[Any]]:
    """Draw a thin line into a figure."""
    for i, output in enumerate(outputs):
        if "image/png" in output.get("data", {}):
            png = base64.b64decode(output["data"]["image/png"])
            image = Image.open(io.BytesIO(png)).convert("RGB")
            width, height = image.size
            ends = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
            ImageDraw.Draw(image).line(ends, fill=(200, 0, 0))
            file = io.BytesIO()
            image.save(file, "PNG")
            altered = deepcopy(outputs)
            altered[i]["data"]["image/png"] = base64.b64encode(
                file.getvalue()
            ).decode()
            yield altered


def exception_changed(outputs: list[Any]) -> Iterator[list[Any]]:
    """Change the message of an exception."""
    for i, output in enumerate(outputs):
        if output["output_type"] == "error":
            altered = deepcopy(outputs)
            altered[i]["evalue"] += "!"
            yield altered


def output_dropped(outputs: list[Any]) -> Iterator[list[Any]]:
    """Forget an output."""
    for i in range(len(merged(outputs))):
        yield [*merged(outputs)[:i], *merged(outputs)[i + 1 :]]


def warning_added(outputs: list[Any]) -> Iterator[list[Any]]:
    """Store a warning that running the cell does not give."""
    text = "UserWarning: this is deprecated\n"
    yield [
        *deepcopy(outputs),
        {"output_type": "stream", "name": "stderr", "text": text},
    ]


ALTERATIONS = (
    number_changed,
    integer_changed,
    figure_changed,
    exception_changed,
    output_dropped,
    warning_added,
)


def let_through(new: list[Any]) -> list[str]:
    """Name the alterations of a cell's outputs that would pass unnoticed.

    The outputs are those of this run: stored ones may be a unit off already,
    on another processor, and an alteration may bring them nearer.
    """
    return [
        alter.__name__
        for alter in ALTERATIONS
        if any(not differences(copy, new) for copy in alter(new))
    ]
