"""Make what learners and graders get from each assignment's master.

    python tools/homework.py run [hw1 ...]  run the masters, make the copies
    python tools/homework.py check          fail unless they are in step

A master, ``book/homework/hw1.md``, is a whole notebook, in which what a
learner has to write stands between two marks. Three copies are made of it:

- ``notebooks/homework/hw1.ipynb``, the learner's: dots in place of what stands
  between the marks, and no outputs but the figures;
- ``solutions/homework/hw1.ipynb``, the teacher's: solved, and run from top to
  bottom;
- ``minitransformer/homework/solutions/hw1.py``: the cells tagged ``answer``
  alone, which grading tries itself on before it judges anyone.
"""

import argparse
import copy
import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient.exceptions import CellExecutionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import nb

ROOT = nb.ROOT
LEARNERS = nb.NOTEBOOKS / "homework"
SOLVED = nb.ROOT / "solutions" / "homework"  # as deep as the others
ANSWERS = nb.ROOT / "minitransformer" / "homework" / "solutions"
# What a learner writes; nbgrader knows these marks too.
SOLUTION = re.compile(
    r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$",
    re.DOTALL | re.MULTILINE,
)
STUB = r"\1...  # your code here"
MARK = re.compile(r"^ *### (?:BEGIN|END) SOLUTION\n", re.MULTILINE)


def masters() -> list[Path]:
    """Return the masters, in order."""
    return sorted((nb.BOOK / "homework").glob("hw[0-9].md"))


def places(master: Path) -> tuple[Path, Path, Path]:
    """Return where the learner's copy, the solved one and the code are."""
    name = master.stem
    return (
        LEARNERS / f"{name}.ipynb",
        SOLVED / f"{name}.ipynb",
        ANSWERS / f"{name}.py",
    )


def solved(master: Path) -> Any:
    """Return a master as a notebook, solved and not yet run."""
    notebook = nb.prepared(master, f"homework/{master.stem}")
    for cell in notebook.cells:
        cell.source = MARK.sub("", cell.source + "\n").removesuffix("\n")
    return nb.normalised(notebook)


def learners(master: Path, run: Any) -> Any:
    """Return the learner's copy of a master.

    Args:
        master: The master.
        run: The solved notebook with its outputs, of which figures stay.
    """
    notebook = nb.prepared(master, f"homework/{master.stem}")
    for cell, shown in zip(notebook.cells, run.cells, strict=True):
        cell.source = SOLUTION.sub(STUB, cell.source)
        if cell.cell_type == "code":
            cell.outputs = [
                copy.deepcopy(output)
                for output in shown.outputs
                if "image/png" in output.get("data", {})
            ]
    notebook = nb.normalised(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None  # it is the learner's to run
    return notebook


def answers(master: Path) -> str:
    """Return the code of the answers alone."""
    cells = [
        MARK.sub("", cell.source + "\n").strip()
        for cell in jupytext.read(master).cells
        if "answer" in cell.metadata.get("tags", [])
    ]
    title = f'"""Answers to {master.stem}, made by tools/homework.py."""'
    return title + "\n\n" + "\n\n\n".join(cells) + "\n"


def write(path: Path, text: str) -> None:
    """Write a copy and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
    print(f"made {path.relative_to(ROOT)} ({len(text) / 1000:.0f} kB)")


def run(names: list[str]) -> int:
    """Make the copies of the masters named, or of all of them."""
    unknown = set(names) - {master.stem for master in masters()}
    if unknown:
        print(f"no such master: {', '.join(sorted(unknown))}")
        return 1
    for master in masters():
        if names and master.stem not in names:
            continue
        learner, teacher, code = places(master)
        write(code, answers(master))
        try:
            notebook = nb.execute(solved(master))
        except CellExecutionError as error:
            print(f"{master.name}: a cell failed.\n{error}")
            return 1
        if found := nb.objections(notebook):
            print(f"{master.name}: an output {found[0]}")
            return 1
        if teacher.exists():
            nb.keep_ignored(notebook, nbformat.read(teacher, as_version=4))
        write(teacher, nbformat.writes(notebook) + "\n")
        copied = learners(master, notebook)
        nbformat.validate(copied)
        write(learner, nbformat.writes(copied) + "\n")
    return 0


def differences(master: Path) -> list[str]:
    """Say how a master and its copies are out of step, if they are."""
    learner, teacher, code = places(master)
    missing = [path for path in (learner, teacher, code) if not path.exists()]
    if missing:
        return [f"{path.relative_to(ROOT)} is missing" for path in missing]
    found = []
    run = nbformat.read(teacher, as_version=4)
    if nb.summary(run) != nb.summary(solved(master)):
        found.append(f"{teacher.relative_to(ROOT)} is behind its master")
    elif nbformat.read(learner, as_version=4) != learners(master, run):
        found.append(f"{learner.relative_to(ROOT)} is behind its master")
    if code.read_text("utf-8") != answers(master):
        found.append(f"{code.relative_to(ROOT)} is behind its master")
    return found


def check() -> int:
    """Print what is out of step; 1 if anything is."""
    found = [line for master in masters() for line in differences(master)]
    if found:
        print("\n".join([*found, "Run `make homework`."]))
    else:
        print(f"{len(masters())} assignments and their copies are in step")
    return 1 if found else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="make the copies")
    run_parser.add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("check", help="compare masters and copies")
    arguments = parser.parse_args()
    return run(arguments.names) if arguments.command == "run" else check()


if __name__ == "__main__":
    sys.exit(main())
