"""Make the notebooks from the chapters, and keep the two in step.

    python tools/nb.py run [CHAPTER ...]  run book/*.md, make notebooks/
    python tools/nb.py check              fail unless each pair is in step
    python tools/nb.py format             format the code in book/*.md

A chapter is edited in ``book/``. Its notebook has what the chapter has, a
link to Colab, a set-up cell, and the outputs of one run from top to bottom
in an empty folder. Two runs give the same bytes.
"""

import argparse
import difflib
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = ROOT / "notebooks"

NOTEBOOK_METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
CELL_METADATA = {"tags", "mystnb", "cellView", "jupyter"}
# The fence of a code cell with its options, the code, and the closing fence.
CODE_CELL = re.compile(
    r"(^```\{code-cell\}[^\n]*\n(?:---\n.*?^---\n|(?::[^\n]*\n)*\n?))"
    r"(.*?)(^```\n)",
    re.DOTALL | re.MULTILINE,
)
IGNORED = {"nbval-ignore-output", "nbval-skip"}
# What a reader needs. The rehearsal refuses a notebook that takes more.
CPU_SECONDS, MEMORY_GB = 60, 2
CPU_SECONDS_OF = {"10_training": 150, "hw5": 150}  # they train translators
WORDS_A_MINUTE, LINES_A_MINUTE = 180, 12  # of text that explains; of code
FOLDED = {"hide-cell", "hide-input"}
EXERCISE = re.compile(r"^> \*\*Exercise (\d+\.\d+)\. .+?\*\* (★+) (\d+) min")
TASK = re.compile(
    r"^> \*\*Task (hw\d\.\w+)\. .+?\*\* (\d+) points?, (\d+) min",
    re.MULTILINE,
)

SETUP = """\
# Set-up. Where minitransformer is installed, this does nothing; elsewhere, as
# on Colab, it is installed beside the torch and the numpy that are there.
import importlib.util

if importlib.util.find_spec("minitransformer") is None:
    import os
    import subprocess
    import sys
    import tempfile
    from importlib.metadata import version
    from pathlib import Path

    package = os.environ.get(
        "MINITRANSFORMER_SPEC",
        "git+{url}@v{version}",
    )
    here = [n for n in ("torch", "numpy") if importlib.util.find_spec(n)]
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder, "keep.txt")
        keep.write_text("".join(f"{{n}}=={{version(n)}}\\n" for n in here))
        pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(keep)]
        subprocess.run([*pip, package], check=True)
    importlib.invalidate_caches()\
"""


def address() -> str:
    """Return the one address of the repository, from ``_config.yml``."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    return str(config["repository"]["url"])


def version() -> str:
    """Return the package's version, from ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return str(project["project"]["version"])


def chapters() -> list[Path]:
    """Return the sources of the notebooks, in order."""
    return sorted(BOOK.glob("[0-9][0-9]_*.md"))


def notebook_of(chapter: Path) -> Path:
    """Return where the notebook of a chapter is kept."""
    return NOTEBOOKS / f"{chapter.stem}.ipynb"


def colab_link(stem: str) -> str:
    """Return the address that opens a notebook in Colab."""
    place = address().removeprefix("https://github.com/")
    return (
        f"https://colab.research.google.com/github/{place}"
        f"/blob/main/notebooks/{stem}.ipynb"
    )


def prepared(chapter: Path, name: str = "") -> Any:
    """Return a chapter as a notebook not yet run, with what is added to it.

    A link to Colab and what the chapter takes stand under the title; the
    set-up cell stands before the first code cell; solutions (tag
    ``hide-cell``) are folded in Colab too, and captions are shown there.

    Args:
        chapter: Its source.
        name: Of the notebook under ``notebooks/``, if it is not the source's.
    """
    notebook = jupytext.read(chapter)
    title, _, rest = notebook.cells[0].source.partition("\n")
    if notebook.cells[0].cell_type != "markdown" or title[:2] != "# ":
        raise SystemExit(f"{chapter.name}: the first line must be its title")
    what = "homework" if name else "chapter"
    link = f"[Open this {what} in Colab]({colab_link(name or chapter.stem)})"
    takes = effort(notebook, chapter.stem)
    top = f"{title}\n\n{link}\n\n{takes}\n{rest}".rstrip()
    notebook.cells[0].source = top
    kinds = [cell.cell_type for cell in notebook.cells]
    setup = nbformat.v4.new_code_cell(
        SETUP.format(url=address(), version=version()),
        metadata={
            "cellView": "form",
            "mystnb": {
                "code_prompt_hide": "Hide the set-up cell",
                "code_prompt_show": "Show the set-up cell",
            },
            "tags": ["hide-input", "set-up"],
        },
    )
    if "code" in kinds:
        notebook.cells.insert(kinds.index("code"), setup)
    for cell in notebook.cells:
        if "hide-cell" in cell.metadata.get("tags", []):
            # Colab shows what stands behind @title; so does the book.
            lead = cell.source.split("\n")[0].removeprefix("# @title ")
            prompts = cell.metadata.setdefault("mystnb", {})
            prompts.setdefault("code_prompt_show", f"Show: {lead}")
            prompts.setdefault("code_prompt_hide", f"Hide: {lead}")
            cell.metadata["cellView"] = "form"
            cell.metadata["jupyter"] = {"source_hidden": True}
    notebook.cells = [
        part for cell in notebook.cells for part in with_caption(cell)
    ]
    return normalised(notebook)


def with_caption(cell: Any) -> list[Any]:
    """Put a figure's caption under its cell, for Colab and GitHub.

    They show no metadata. The book does, and leaves this cell out.
    """
    caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
    if not caption:
        return [cell]
    below = nbformat.v4.new_markdown_cell(
        f"**Figure.** {caption}", metadata={"tags": ["remove-cell"]}
    )
    return [cell, below]


def cpu_seconds(stem: str) -> int:
    """Return what a chapter may take to run."""
    return CPU_SECONDS_OF.get(stem, CPU_SECONDS)


def effort(notebook: Any, stem: str = "") -> str:
    """Say how long a chapter takes to read, to practise and to run.

    Hints and folded code are not counted: most readers pass over them.
    """
    words = lines = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"(?s)<details>.*?</details>", "", cell.source)
            words += len(text.split())
        elif not FOLDED & set(cell.metadata.get("tags", [])):
            lines += len(cell.source.split("\n"))
    reading = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE
    practice = sum(minutes for _, _, minutes in exercises(notebook))
    work = f"Exercises: {practice} minutes"
    if found := tasks(notebook):
        points = sum(worth for _, worth, _ in found)
        work = f"Tasks: {sum(x[2] for x in found)} minutes, {points} points"
    return (
        f"*To read: about {5 * math.ceil(reading / 5)} minutes. {work}."
        f" To run: less than {cpu_seconds(stem)} seconds of one processor"
        f" core, and less than {MEMORY_GB} GB of memory.*"
    )


def exercises(notebook: Any) -> list[tuple[str, int, int]]:
    """List the exercises of a chapter: number, stars and minutes."""
    return [
        (match[1], len(match[2]), int(match[3]))
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.split("\n")
        if (match := EXERCISE.match(line))
    ]


def tasks(notebook: Any) -> list[tuple[str, int, int]]:
    """List the tasks of an assignment: name, points and minutes."""
    return [
        (name, int(points), int(minutes))
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for name, points, minutes in TASK.findall(cell.source)
    ]


def normalised(notebook: Any) -> Any:
    """Drop whatever differs from run to run: ids, times, versions, paths."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    count = 0
    for cell in notebook.cells:
        digest = hashlib.sha256((cell.cell_type + cell.source).encode())
        name = digest.hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        )
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
            if output.output_type == "error":
                # The traceback has paths of this machine in it.
                output.traceback = [f"{output.ename}: {output.evalue}"]
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def objections(notebook: Any) -> list[str]:
    """Say which outputs would not be the same on another machine."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = str(output.get("text", output.get("data", "")))
            if output.get("name") == "stderr":
                found.append(f"writes to stderr: {output.text.strip()}")
            elif " at 0x" in text:
                found.append(f"prints an address in memory: {text[:80]}")
            elif str(Path.home()) in text or tempfile.gettempdir() in text:
                found.append(f"prints a path of this machine: {text[:80]}")
    return found


def keep_ignored(notebook: Any, old: Any) -> None:
    """Let cells whose output is not compared keep the one they had."""
    before = {cell.id: cell for cell in old.cells}
    for cell in notebook.cells:
        ignored = IGNORED & set(cell.metadata.get("tags", []))
        if ignored and cell.id in before:
            cell.outputs = before[cell.id].outputs


def execute(notebook: Any, timeout: float = 600) -> Any:
    """Run a notebook in an empty folder, on one thread, and normalise it."""
    os.environ.update(OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
    os.environ.pop("MPLBACKEND", None)  # the notebook's own is wanted
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    return normalised(notebook)


def run(stems: list[str]) -> int:
    """Make the notebooks of the chapters named, or of all of them."""
    wanted = {Path(stem).stem for stem in stems}
    unknown = wanted - {chapter.stem for chapter in chapters()}
    if unknown:
        print(f"no such chapter in book/: {', '.join(sorted(unknown))}")
        return 1
    for chapter in chapters():
        if wanted and chapter.stem not in wanted:
            continue
        path = notebook_of(chapter)
        try:
            notebook = execute(prepared(chapter))
        except CellExecutionError as error:
            print(f"{chapter.name}: a cell failed.\n{error}")
            return 1
        if found := objections(notebook):
            print(f"{chapter.name}: an output {found[0]}")
            return 1
        if path.exists():
            keep_ignored(notebook, nbformat.read(path, as_version=4))
        nbformat.validate(notebook)
        path.parent.mkdir(exist_ok=True)
        text = nbformat.writes(notebook) + "\n"
        path.write_text(text, "utf-8", newline="\n")
        print(f"made {path.relative_to(ROOT)} ({len(text) / 1000:.0f} kB)")
    return 0


def summary(notebook: Any) -> list[str]:
    """Return a notebook's cells, without outputs, as lines to compare."""
    lines = []
    for cell in notebook.cells:
        metadata = json.dumps(cell.metadata, sort_keys=True)
        lines += [f"[{cell.cell_type}] {metadata}", *cell.source.split("\n")]
    return lines


def differences(chapter: Path) -> list[str]:
    """Say how a chapter and its notebook are out of step, if they are."""
    path = notebook_of(chapter)
    if not path.exists():
        return [f"notebooks/{path.name} is missing"]
    notebook = nbformat.read(path, as_version=4)
    found = list(
        difflib.unified_diff(
            summary(notebook),
            summary(prepared(chapter)),
            f"notebooks/{path.name}",
            f"book/{chapter.name}",
            lineterm="",
            n=1,
        )
    )
    counts = [c.execution_count for c in notebook.cells if "outputs" in c]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"notebooks/{path.name} was not run from top to bottom")
    return found


def check() -> int:
    """Print how chapters and notebooks are out of step; 1 if they are."""
    found = [line for chapter in chapters() for line in differences(chapter)]
    stems = {chapter.stem for chapter in chapters()}
    found += [
        f"notebooks/{path.name} has no chapter in book/"
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        if path.stem not in stems
    ]
    if found:
        print("\n".join([*found, "Run `make notebooks`."]))
    else:
        print(f"{len(stems)} chapters and their notebooks are in step")
    return 1 if found else 0


def format_code() -> int:
    """Format the code cells of the chapters, and nothing else in them."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "x.py"]
    for chapter in [*chapters(), *sorted(BOOK.glob("homework/hw*.md"))]:
        text = chapter.read_text("utf-8")
        new = CODE_CELL.sub(
            lambda cell: (
                cell[1]
                + subprocess.run(
                    [*ruff, "-"],
                    input=cell[2],
                    cwd=ROOT,
                    check=True,
                    encoding="utf-8",
                    stdout=subprocess.PIPE,
                ).stdout
                + cell[3]
            ),
            text,
        )
        if new != text:
            chapter.write_text(new, "utf-8", newline="\n")
            print(f"formatted {chapter.name}")
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="make the notebooks")
    run_parser.add_argument("chapters", nargs="*", metavar="CHAPTER")
    commands.add_parser("check", help="compare chapters and notebooks")
    commands.add_parser("format", help="format the code of the chapters")
    arguments = parser.parse_args()
    if arguments.command == "run":
        return run(arguments.chapters)
    return check() if arguments.command == "check" else format_code()


if __name__ == "__main__":
    sys.exit(main())
