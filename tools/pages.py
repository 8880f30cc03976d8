"""What the pages made from the benchmarks' results have in common."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "minitransformer" / "results"
BOOK = ROOT / "book"
STATIC = BOOK / "_static"


def drawn(figure: Figure, name: str) -> str:
    """Return a figure as SVG, the same on every run."""
    mpl.rcParams["svg.hashsalt"] = name
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Print a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(page: Path, text: str, folder: Path, svg: Mapping[str, str]) -> None:
    """Write a page, and its figures into their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {page: text} | {folder / f"{k}.svg": v for k, v in svg.items()}
    for path, content in files.items():
        path.write_text(content, encoding="utf-8", newline="\n")
