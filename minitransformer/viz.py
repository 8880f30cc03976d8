"""Figures and source listings for the book: one colour for each role."""

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from minitransformer.errors import UserError

# A role keeps its colour through the whole book. The six were chosen to stay
# apart for the three kinds of colour blindness and to show on white paper.
QUERY = "#0C61EB"
KEY = "#A07506"
VALUE = "#18A672"
SCORES = "#464646"
WEIGHTS = "#71240B"
OUTPUT = "#E249AF"

# Above this many cells, the numbers would not fit in them.
MOST_NUMBERS = 64


def use_book_style() -> None:
    """Set matplotlib up as the book does: the same picture on every run.

    A white card behind each figure keeps it readable on a dark page.
    """
    mpl.rcdefaults()  # all but the backend
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.dpi": "figure",
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.prop_cycle": cycler(
                color=[QUERY, KEY, VALUE, SCORES, WEIGHTS, OUTPUT]
            ),
            "font.family": "DejaVu Sans",  # comes with matplotlib
            "font.size": 10,
            "legend.frameon": False,
        }
    )


def plot_attention(
    weights: Tensor,
    query_tokens: Sequence[str],
    key_tokens: Sequence[str],
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw attention weights: a row for each query, a column for each key.

    Args:
        weights: ``(T, S)``, from 0 (white) to 1.
        query_tokens: ``T`` labels.
        key_tokens: ``S`` labels.
        ax: Where to draw; a new figure if not given.
        title: What the reader should see.

    Returns:
        The axes drawn on.

    Raises:
        UserError: If the weights have not two dimensions, or the labels do
            not fit them.
    """
    ax = plot_matrix(
        weights, query_tokens, key_tokens, WEIGHTS, ax, title, top=1.0
    )
    ax.set(xlabel="key", ylabel="query")
    return ax


def plot_matrix(
    matrix: Tensor,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    colour: str,
    ax: Axes | None = None,
    title: str | None = None,
    top: float | None = None,
    digits: int = 2,
) -> Axes:
    """Draw a small matrix in a role's colour, its numbers in the cells.

    Args:
        matrix: ``(rows, columns)``; white is 0, or the least number if that
            is negative.
        row_labels: One for each row.
        column_labels: One for each column.
        colour: The role's colour, such as `SCORES`.
        ax: Where to draw; a new figure if not given.
        title: What the reader should see.
        top: The number drawn in full colour; the largest if not given.
        digits: Decimals of the numbers.

    Returns:
        The axes drawn on.

    Raises:
        UserError: If the matrix has not two dimensions, or the labels do not
            fit it.
    """
    if matrix.ndim != 2:
        raise UserError(
            f"A tensor of shape {tuple(matrix.shape)} is not one map: pick"
            " one sentence and one head, as in weights[0, 0]."
        )
    if matrix.shape != (len(row_labels), len(column_labels)):
        raise UserError(
            f"A {tuple(matrix.shape)} matrix needs as many labels, not"
            f" {len(row_labels)} and {len(column_labels)}."
        )
    if ax is None:
        _, ax = plt.subplots()
    numbers = matrix.detach().float().cpu()
    low = min(0.0, numbers.min().item())
    high = numbers.max().item() if top is None else top
    image = ax.imshow(
        numbers.numpy(),
        cmap=fade(colour),
        vmin=low,
        vmax=max(high, low + 1e-9),
    )
    ax.set_xticks(range(len(column_labels)), column_labels)
    ax.set_yticks(range(len(row_labels)), row_labels)
    if max(map(len, column_labels)) > 3 and len(column_labels) > 4:
        ax.tick_params(axis="x", rotation=45)
    ax.spines[:].set_visible(False)
    if numbers.numel() > MOST_NUMBERS:
        ax.figure.colorbar(image, ax=ax)
    else:
        write_numbers(ax, numbers, low, high, digits)
    if title is not None:
        ax.set_title(title)
    return ax


def write_numbers(
    ax: Axes, numbers: Tensor, low: float, high: float, digits: int
) -> None:
    """Write each number in its cell, light on dark and dark on light."""
    for row, line in enumerate(numbers.tolist()):
        for column, number in enumerate(line):
            dark = number - low > 0.55 * (high - low)
            ax.text(
                column,
                row,
                f"{number:.{digits}f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )


def fade(colour: str) -> LinearSegmentedColormap:
    """Return a colour map from white to ``colour``."""
    return LinearSegmentedColormap.from_list(colour, ["white", colour])


class Source:
    """A piece of source code that a notebook shows with highlighting.

    The page's own style colours it, so it is readable on a dark page too.
    """

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        """Return the code itself: the book's gate compares it."""
        return self.code

    def _repr_markdown_(self) -> str:
        """Return the code as a Markdown listing, for Jupyter and the book."""
        return f"```python\n{self.code}\n```"


def show_source(thing: Any) -> Source:
    """Show the source of a function, a method or a class in a notebook.

    Args:
        thing: Something written in Python.

    Returns:
        What a notebook displays; ``str()`` of it is the source.

    Raises:
        UserError: If ``thing`` has no Python source.
    """
    try:
        code = inspect.getsource(thing)
    except (OSError, TypeError) as error:
        raise UserError(
            f"{thing!r} has no Python source: pass a function or a class that"
            " is written in Python."
        ) from error
    return Source(textwrap.dedent(code).rstrip())
