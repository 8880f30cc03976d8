"""The glossary's terms are complete, and stand where it says they do."""

import re
from functools import cache

import pytest
import yaml

from tools import nb

TERMS = yaml.safe_load((nb.BOOK / "glossary.yml").read_text("utf-8"))


def slug(heading):
    """Return a heading's anchor, as CONTRIBUTING.md describes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def sections(chapter):
    """Return the text below each heading, by its anchor.

    Text is what a reader sees outside the cells, in one line and without
    emphasis. A section holds its subsections.
    """
    text = (nb.BOOK / f"{chapter}.md").read_text("utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    parts = re.split(r"^(#+) (.*)$", text, flags=re.M)[1:]
    found, opened = {}, []
    for hashes, heading, body in zip(
        parts[::3], parts[1::3], parts[2::3], strict=True
    ):
        while opened and opened[-1][0] >= len(hashes):
            opened.pop()
        opened.append((len(hashes), slug(heading)))
        found.setdefault(slug(heading), "")
        for _, name in opened:
            found[name] += f"{heading}\n{body}"
    return {
        name: " ".join(body.replace("*", "").split())
        for name, body in found.items()
    }


def stands_in(words, text):
    """Say whether words, or their plural, begin a word of the text."""
    return re.search(rf"\b{re.escape(words)}", text, re.I) is not None


every_term = pytest.mark.parametrize(
    "entry", TERMS, ids=lambda entry: slug(entry["term"])
)


@every_term
def test_a_term_is_complete(entry):
    keys = {"term", "chinese", "meaning", "chapter", "section"}
    assert set(entry) - {"text"} == keys
    assert all(isinstance(x, str) and x == x.strip() for x in entry.values())
    assert entry["meaning"].endswith(".")
    assert len(re.findall(r"[.?](?= [A-Z]|$)", entry["meaning"])) <= 2


@every_term
def test_the_chinese_name_is_chinese(entry):
    han = r"[\u4e00-\u9fff]+(、[\u4e00-\u9fff]+)?"
    latin = entry["term"].split()[0]  # a name that Chinese texts keep
    assert re.fullmatch(rf"{han}|{latin}|{latin} {han}", entry["chinese"])


@every_term
def test_the_section_has_the_term(entry):
    text = sections(entry["chapter"])[entry["section"]]
    assert stands_in(entry.get("text", entry["term"]), text)


@every_term
def test_other_words_are_given_only_where_they_are_needed(entry):
    text = sections(entry["chapter"])[entry["section"]]
    assert "text" not in entry or not stands_in(entry["term"], text)


def test_terms_are_in_alphabetical_order_and_none_stands_twice():
    names = [entry["term"].casefold() for entry in TERMS]
    assert names == sorted(set(names))
    anchors = [slug(name) for name in names]
    assert len(anchors) == len(set(anchors))


def test_a_section_holds_its_subsections_and_no_cells():
    text = sections("03_self_attention")["what-does-each-projection-buy"]
    assert "May keys and values be the same?" in text
    assert "What does it cost?" not in text
    assert "def deal" not in text


def test_a_word_within_another_word_does_not_count():
    assert stands_in("head", "Heads differ.")
    assert not stands_in("head", "Looking ahead.")
