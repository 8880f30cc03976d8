"""Files from elsewhere: found, fetched once, and never trusted unchecked."""

import hashlib
from pathlib import Path

from minitransformer.errors import UserError
from minitransformer.files import cache_dir
from minitransformer.files import data_dir as default_data_dir


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_file(name: str, sha256: str, data_dir: Path | None) -> Path | None:
    """Look for a file of a corpus in the user's folder, then in the cache.

    A file in the cache that is damaged is removed, to be fetched again.

    Args:
        name: The file, with its folder, such as ``"multi30k/val.de.gz"``.
        sha256: What the file must have.
        data_dir: The user's folder; None means ``$MINITRANSFORMER_DATA``.

    Returns:
        Where the file is, or None if it has to be fetched.

    Raises:
        UserError: If the user's copy is not the file meant.
    """
    folder = data_dir or default_data_dir()
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"The data folder {folder} is missing: check the path, or unset"
            " MINITRANSFORMER_DATA."
        )
    try:
        if folder is not None and (path := folder / name).is_file():
            if sha256_of(path) != sha256:
                raise UserError(
                    f"{path} is damaged or another version (its SHA-256 is"
                    f" not {sha256[:12]}...): put the right file there, or"
                    " none."
                )
            return path
        path = cache_dir() / name
        if path.is_file():
            if sha256_of(path) == sha256:
                return path
            path.unlink()
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}): check its permissions."
        ) from error
    return None
