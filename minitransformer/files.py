"""Files that are either whole or absent, and where data is kept."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from minitransformer.errors import UserError


def data_dir() -> Path | None:
    """Return the folder the user keeps corpora in, if there is one.

    It is ``$MINITRANSFORMER_DATA``, and is only ever read from.
    """
    folder = os.environ.get("MINITRANSFORMER_DATA")
    return Path(folder).expanduser() if folder else None


def cache_dir() -> Path:
    """Return the folder downloads are kept in; it may not exist yet.

    It is ``$MINITRANSFORMER_CACHE``, or ``~/.cache/minitransformer``.
    """
    folder = os.environ.get("MINITRANSFORMER_CACHE")
    return Path(folder or "~/.cache/minitransformer").expanduser()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Lend a temporary path that becomes ``path`` if all goes well.

    A reader sees the old file or the new one, never half of it: the new file
    is flushed to the disk, then put in place in one step.

    Raises:
        UserError: If the disk is full, ``path`` is a folder, or its folder
            can't be written to. The temporary file is removed.
    """
    path = Path(path)
    temporary = None
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        temporary.touch(exist_ok=False)  # as readable as any new file
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # the writer may have put another in its place
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # not every system can flush a folder
            _flush(path.parent, os.O_RDONLY)  # the new name itself
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): make room"
            " or choose another place."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _flush(path: Path, flags: int) -> None:
    """Ask the system to put a file, or a folder's names, on the disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: If it is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: check the path.") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} can't be read as JSON: it is damaged or no JSON file."
        ) from error
