"""Where the benchmarks keep what they make, and what they are asked for."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from minitransformer.files import read_json, write_json

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
RESULTS = ROOT / "minitransformer" / "results"


class CommandLine(argparse.ArgumentParser):
    """What all benchmarks understand, and what some of them do.

    A quick test (``--small``) never touches what a whole measurement made.

    Args:
        name: Of the result, and of the folder for unfinished work.
        description: What the benchmark is for.
        rounds: How often each candidate is timed, if any is.
        folder: Whether unfinished work is kept.
        threads: Whether more than one thread can be asked for.
    """

    def __init__(
        self,
        name: str,
        description: str | None,
        *,
        rounds: int | None = None,
        folder: bool = False,
        threads: bool = False,
    ):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.name = name
        self.add_argument("--small", action="store_true", help="a quick test")
        self.add_argument("--out", type=Path, help="file for the result")
        if rounds:
            self.add_argument("--rounds", type=int, default=rounds)
        if folder:
            self.add_argument("--folder", type=Path, help="for finished runs")
        if threads:
            self.add_argument("--threads", type=int, default=1)

    def read(self) -> argparse.Namespace:
        """Read the command line, and keep to one thread or those asked for.

        What differs in threads or precision is another result.
        """
        found = self.parse_args()
        name = f"{self.name}-small" if found.small else self.name
        if "folder" in found:
            found.folder = found.folder or BUILD / name
        threads = getattr(found, "threads", 1)
        if threads < 1:
            self.error(f"--threads {threads} must be at least 1.")
        name += f"-{threads}-threads" * (threads > 1)
        name += "-bf16" * (getattr(found, "precision", "") == "bf16")
        home = BUILD if found.small else RESULTS
        found.out = found.out or home / f"{name}.json"
        torch.set_num_threads(threads)
        return found


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Keep a folder to one task: its runs must not pass for another's.

    Args:
        folder: Gets a note of the task; made if it is missing.
        asked: The task, as numbers and names.

    Raises:
        SystemExit: With code 2, if the folder holds something else.
    """
    said = json.loads(json.dumps(asked))  # as it will be read again
    note = folder / "asked.json"
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, said)
    elif not note.exists() or read_json(note) != said:
        print(
            f"{folder} holds runs of another task: move it away, or name"
            " another folder with --folder.",
            file=sys.stderr,
        )
        raise SystemExit(2)


def name_of(model: Path) -> str:
    """Name a trained model by its folder and by what it has learned.

    ``tatoeba-zh-en-final-0-1a2b3c4d``: other weights are another model.
    """
    path = model.resolve()
    mark = hashlib.sha256()  # not of the file, whose notes have no order
    for name, tensor in sorted(load_file(path / "model.safetensors").items()):
        mark.update(name.encode() + tensor.numpy().tobytes())
    return f"{path.parent.name}-{path.name}-{mark.hexdigest()[:8]}"
