"""Files: the old one or the new one, whole, whatever happens."""

import errno
import os
import stat
from pathlib import Path

import pytest

from minitransformer import files
from minitransformer.errors import UserError
from minitransformer.files import (
    atomic_write,
    cache_dir,
    data_dir,
    read_json,
    read_lines,
    write_json,
    write_text,
)


@pytest.fixture
def path(tmp_path):
    """Return a file that holds "old", alone in its folder."""
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    return path


def refuse(number):
    """Return a function that fails as the system does."""

    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


def assert_untouched(path):
    assert path.read_text(encoding="utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


# What is written ---


def test_a_new_file_replaces_the_old_one_at_the_end(path):
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "one\ntwo – drei\n")
    assert path.read_bytes() == "one\ntwo – drei\n".encode()


def test_two_writers_do_not_meet(path):
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"  # closed last
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_may_read_what_the_system_lets_them_read(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "file.txt", "new")
    finally:
        os.umask(before)
    mode = (tmp_path / "file.txt").stat().st_mode
    assert stat.S_IMODE(mode) == 0o644


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_the_permissions_of_the_old_file_stay(path, mode):
    path.chmod(mode)
    with atomic_write(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a right to link")
def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "folder" / "link"
    link.parent.mkdir()
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "new"
    assert os.listdir(link.parent) == ["link"]


def test_the_file_is_flushed_before_it_is_put_in_place(path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def spy(handle):
        flushed.append(path.read_text(encoding="utf-8"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    write_text(path, "new")
    assert flushed[0] == "old"  # the temporary file
    assert flushed[1:] in ([], ["new"])  # the folder, where that is possible


def test_json_reads_back(tmp_path):
    path = tmp_path / "facts.json"
    value = {"b": [1, 2.5, None], "a": "语言 – é", "c": {}}
    write_json(path, value)
    assert read_json(path) == value
    text = path.read_text(encoding="utf-8")
    assert text.index('"a"') < text.index('"b"')
    assert "语言" in text
    assert text.endswith("}\n")


# What goes wrong ---


def test_an_error_in_the_block_keeps_the_old_file(path):
    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the n", encoding="utf-8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert_untouched(path)


def test_a_stopped_program_keeps_the_old_file(path):
    with pytest.raises(KeyboardInterrupt), atomic_write(path):
        raise KeyboardInterrupt
    assert_untouched(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_keeps_the_old_file(path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(UserError) as caught:
        write_text(path, "new")
    assert str(caught.value) == (
        f"{path} can't be written ({os.strerror(number)}): make room or"
        " choose another place."
    )
    assert_untouched(path)


def test_a_disk_that_fills_up_in_the_block_is_named_too(path):
    with pytest.raises(UserError, match="No space left"), atomic_write(path):
        refuse(errno.ENOSPC)()
    assert_untouched(path)


def test_what_fails_in_the_block_beside_the_file_is_not_blamed_on_it(path):
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(path):
        path.with_name("other").read_text(encoding="utf-8")
    with pytest.raises(BrokenPipeError), atomic_write(path):
        refuse(errno.EPIPE)()
    assert_untouched(path)


def test_a_temporary_file_that_can_not_be_opened_is_blamed(path):
    def write_to_a_folder():
        with atomic_write(path) as temporary:
            temporary.unlink()
            temporary.mkdir()
            temporary.write_text("new", encoding="utf-8")

    with pytest.raises(UserError, match=r"file\.txt can't be written \(Is a"):
        write_to_a_folder()


def test_a_name_may_be_as_long_as_the_system_lets_it_be(tmp_path):
    path = tmp_path / ("a" * 251 + ".txt")
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    longer = tmp_path / ("a" * 300)
    with pytest.raises(UserError, match="can't be written"):
        write_text(longer, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_error_is_told_though_the_cleaning_fails(path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", refuse(errno.EROFS))
    with pytest.raises(ZeroDivisionError), atomic_write(path):
        raise ZeroDivisionError


def test_a_read_only_folder_is_named(path, monkeypatch):
    monkeypatch.setattr(Path, "touch", refuse(errno.EROFS))
    with pytest.raises(UserError, match=r"file\.txt can't be written \(Read"):
        write_text(path, "new")
    assert_untouched(path)


def test_a_folder_that_can_not_be_flushed_is_no_failure(path, monkeypatch):
    flush = files._flush

    def spy(what, flags):
        if what == path.parent:
            refuse(errno.EINVAL)()
        flush(what, flags)

    monkeypatch.setattr(files, "_flush", spy)
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"


def test_a_folder_is_not_replaced(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=r"folder can't be written \(it is a"):
        write_text(folder, "new")
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_a_file_can_not_hold_files(path):
    with pytest.raises(UserError, match=r"inside\.txt can't be written"):
        write_text(path / "inside.txt", "new")
    assert_untouched(path)


def test_what_is_no_json_is_not_written(path):
    with pytest.raises(TypeError):
        write_json(path, {"a": {1, 2}})
    assert_untouched(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json is missing: check the"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    "content", [b"", b'{"a": ', b'{"a": 1}}', b'{"a": "\xff"}', b"\x00\x01"]
)
def test_a_damaged_file_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"file\.txt can't be read as JSON: it"
    ):
        read_json(path)


def test_a_folder_is_no_json(tmp_path):
    with pytest.raises(UserError, match="can't be read as JSON"):
        read_json(tmp_path)


# Lines ---


def test_only_a_line_feed_ends_a_line(path):
    path.write_bytes(b"\xef\xbb\xbfone\rstill\xc2\x85one\r\n\xef\xbb\xbftwo")
    assert list(read_lines(path)) == [
        (1, "one\rstill\x85one\r\n"),
        (2, "two"),
    ]


# Where things are kept ---


def test_the_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MINITRANSFORMER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    assert data_dir() == tmp_path / "data"
    assert cache_dir() == tmp_path / "cache"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unset", [True, False], ids=["unset", "empty"])
def test_the_folders_nobody_named(monkeypatch, unset):
    for name in ("MINITRANSFORMER_DATA", "MINITRANSFORMER_CACHE"):
        monkeypatch.setenv(name, "")
        if unset:
            monkeypatch.delenv(name)
    assert data_dir() is None
    assert cache_dir() == Path.home() / ".cache" / "minitransformer"


def test_a_tilde_is_home(monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_DATA", "~/data")
    monkeypatch.setenv("MINITRANSFORMER_CACHE", "~/cache")
    assert data_dir() == Path.home() / "data"
    assert cache_dir() == Path.home() / "cache"
