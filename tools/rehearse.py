"""Rehearse what happens when a reader opens the notebooks in Colab.

    python tools/rehearse.py [CHAPTER ...]

Builds the wheel, and runs the notebooks in an empty folder with a Python that
has what Colab has (``colab-packages.txt``) and not our package: the set-up
cell has to install it. Then the package must come from there, torch and numpy
must be the ones that were there, no file may be left behind, and no notebook
may have taken more time or memory than its first lines promise. Colab's
packages are installed once, in ``.venv-colab``; what a set-up cell installs
goes to a new environment on top of it each time.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import homework, nb

BASE = nb.ROOT / ".venv-colab"
PACKAGES = nb.ROOT / "tools" / "colab-packages.txt"
REQUIREMENTS = nb.ROOT / "requirements.txt"
# Versions of Python for which everything in the list exists.
PYTHONS = {(3, 11), (3, 12)}
FACTS = """\
import importlib.metadata as m, json, minitransformer
names = ("torch", "numpy")
versions = {n: m.version(n) for n in names}
print(json.dumps([minitransformer.__file__, versions]))
"""

# What a notebook took, asked at its end; the installation is not its own.
USED = """\
import json, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
unit = 1 if sys.platform == "darwin" else 1024  # bytes
seconds = used.ru_utime + used.ru_stime
print(json.dumps([seconds, used.ru_maxrss * unit / 1e9]))
"""


def python_of(environment: Path) -> Path:
    """Return the interpreter of an environment."""
    windows = sys.platform == "win32"
    return environment / ("Scripts/python.exe" if windows else "bin/python")


def output_of(*command: str | Path) -> str:
    """Run a command where it can import no file, and return what it prints."""
    with tempfile.TemporaryDirectory() as empty:
        return subprocess.run(
            [str(word) for word in command],
            check=True,
            cwd=empty,
            encoding="utf-8",
            stdout=subprocess.PIPE,
        ).stdout


def wanted_packages() -> list[str]:
    """Return what to install: Colab's list, with the torch that we pin."""

    def lines(path: Path) -> list[str]:
        bare = (
            x.split("#")[0].strip()
            for x in path.read_text("utf-8").splitlines()
        )
        return [line for line in bare if line]

    ours = next(x for x in lines(REQUIREMENTS) if x.startswith("torch=="))
    names = [ours if x == "torch" else x for x in lines(PACKAGES)]
    if sys.version_info[:2] not in PYTHONS:
        names = [ours, *(x.split("==")[0] for x in names if x != ours)]
    return names


def colab() -> Path:
    """Return the environment that has what Colab has; make it if need be."""
    wanted = wanted_packages()
    digest = hashlib.sha256(repr((wanted, sys.version)).encode()).hexdigest()
    stamp = BASE / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        print("installing what Colab has (once) ...", flush=True)
        shutil.rmtree(BASE, ignore_errors=True)
        output_of(sys.executable, "-m", "venv", BASE)
        pip = [python_of(BASE), "-m", "pip", "install", "-qq"]
        output_of(*pip, "--disable-pip-version-check", *wanted)
        stamp.write_text(digest)
    return BASE


def on_top_of(base: Path, folder: Path) -> Path:
    """Return the Python of a new environment that sees another's packages."""
    environment = folder / "environment"
    output_of(sys.executable, "-m", "venv", "--without-pip", environment)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    below = output_of(python_of(base), "-c", where).strip()
    above = output_of(python_of(environment), "-c", where).strip()
    Path(above, "colab.pth").write_text(below + "\n")
    return python_of(environment)


def build_wheel(folder: Path) -> Path:
    """Build our wheel from a copy of the sources, and return it."""
    copy = folder / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(nb.ROOT / name, copy)
    shutil.copytree(
        nb.ROOT / "minitransformer",
        copy / "minitransformer",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    output_of(*pip, "--no-build-isolation", "-w", folder, copy)
    return next(folder.glob("*.whl"))


def add_kernel(python: Path, folder: Path) -> None:
    """Make the kernel ``colab`` start with the given Python."""
    kernel = folder / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher"]
    spec = {
        "argv": [*command, "-f", "{connection_file}"],
        "display_name": "colab",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(spec))


def rehearse(path: Path, folder: Path) -> str:
    """Run a notebook in an empty folder, and say what it took.

    Raises:
        SystemExit: If it leaves files, or took more than it may.
    """
    content = folder / "content" / path.stem
    content.mkdir(parents=True)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(USED))
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="colab",
        resources={"metadata": {"path": str(content)}},
    ).execute()
    if left := sorted(file.name for file in content.rglob("*")):
        raise SystemExit(f"{path.name} leaves files: {', '.join(left)}")
    seconds, memory = json.loads(notebook.cells[-1].outputs[0].text)
    took = f"{seconds:.0f} CPU-seconds and {memory:.1f} GB"
    allowed = nb.cpu_seconds(path.stem)
    if seconds > allowed or memory > nb.MEMORY_GB:
        raise SystemExit(
            f"{path.name} took {took}; it promises less than"
            f" {allowed} and {nb.MEMORY_GB}"
        )
    return took


def main() -> int:
    """Rehearse the notebooks named, or all of them."""
    wanted = {Path(name).stem for name in sys.argv[1:]}
    paths = [nb.notebook_of(chapter) for chapter in nb.chapters()]
    paths += [homework.places(master)[1] for master in homework.masters()]
    base = colab()
    before = output_of(python_of(base), "-m", "pip", "freeze")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        python = on_top_of(base, folder)
        add_kernel(python, folder)
        os.environ.update(
            JUPYTER_PATH=str(folder),
            MINITRANSFORMER_SPEC=str(build_wheel(folder)),
            OMP_NUM_THREADS="1",
            PYDEVD_DISABLE_FILE_VALIDATION="1",  # a warning on each start
            PYTHONHASHSEED="0",
        )
        os.environ.pop("PYTHONPATH", None)
        os.environ.pop("MPLBACKEND", None)
        for path in paths:
            if wanted and path.stem not in wanted:
                continue
            try:
                took = rehearse(path, folder)
            except CellExecutionError as error:
                print(f"{path.name} fails in Colab:\n{error}")
                return 1
            print(f"rehearsed {path.name}: {took}", flush=True)
        file, versions = json.loads(output_of(python, "-c", FACTS))
        if not Path(file).is_relative_to(folder / "environment"):
            print(f"the package came from {file}")
            return 1
        for name, version in versions.items():
            if f"{name}=={version}\n" not in before:
                print(f"{name} was replaced by {version}")
                return 1
    print("the notebooks set themselves up and run as in Colab")
    return 0


if __name__ == "__main__":
    sys.exit(main())
