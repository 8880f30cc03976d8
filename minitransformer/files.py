"""Files that are either whole or absent, and where data is kept."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from minitransformer.errors import UserError

# What a write ends with when the disk is full, the user's share of it is used
# up, a file may grow no more, or the disk is broken. None is a library's own
# error, which has no number.
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, None)


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
    is flushed to the disk, then put in place in one step. It may be read by
    whom the old one let read it. A link stays a link.

    Raises:
        UserError: If the disk is full, ``path`` is a folder, or its folder
            can't be written to. The temporary file is removed.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))  # what a link points to
    # No longer than it must be: a name that fits leaves no room to add to it.
    temporary = place.parent / f".{uuid4().hex[:8]}.part"
    lent = False
    try:
        if place.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # as readable as any new file
        old = place if place.exists() else temporary
        mode = old.stat().st_mode
        temporary.chmod(0o600)  # half a file is for nobody's eyes
        lent = True
        yield temporary
        lent = False
        _flush(temporary, os.O_RDWR)
        temporary.chmod(mode)
        os.replace(temporary, place)
        with suppress(OSError):  # not every system can flush a folder
            _flush(place.parent, os.O_RDONLY)  # the new name itself
    except OSError as error:
        if lent and not _is_write_error(error, temporary):
            raise  # the borrower's, with another file or a pipe
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): make room"
            " or choose another place."
        ) from error
    finally:
        with suppress(OSError):  # which would hide what went wrong
            temporary.unlink()


def _is_write_error(error: OSError, path: Path) -> bool:
    """Tell whether an error comes from writing ``path``.

    A write knows no name, so that its number must tell.
    """
    if error.filename is not None:
        return str(error.filename) == str(path)
    return error.errno in WRITE_ERRORS


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


def read_lines(path: Path | None) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line of a file, at least one.

    Only a line feed ends a line, as in ``wc -l`` and the tools that align
    texts; what else stands at its end belongs to the line.

    Args:
        path: UTF-8 text; ``None`` for the standard input.

    Raises:
        UserError: If it is missing, unreadable, empty or not UTF-8; the
            message names the line.
    """
    name = path or "The standard input"
    number = 0
    try:
        source = path.open("rb") if path else nullcontext(sys.stdin.buffer)
        with source as file:
            for number, line in enumerate(file, start=1):
                # Files that were joined have the mark in the middle, too.
                yield number, line.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{name} is missing: check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder: give a text file.") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{name}, line {number}, is not UTF-8: save the file as UTF-8."
        ) from None
    except OSError as error:
        raise UserError(
            f"{name} can't be read ({error.strerror}): check its permissions."
        ) from error
    if not number:
        raise UserError(f"{name} is empty: give one sentence per line.")
