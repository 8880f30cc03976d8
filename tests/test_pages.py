"""The built pages: whole, offline, readable, and linked both ways.

Reads what `make book` built, without a browser.
"""

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import nb

HTML = nb.ROOT / "_build" / "html"
TOC = yaml.safe_load((nb.ROOT / "_toc.yml").read_text("utf-8"))
NAMES = [TOC["root"]] + [
    chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]
]
NOTEBOOKS = [name for name in NAMES if name.startswith("notebooks/")]
HOMEWORK = [name for name in NOTEBOOKS if "/homework/" in name]
CHAPTERS = [name for name in NOTEBOOKS if name not in HOMEWORK]
CLAIMS = yaml.safe_load((nb.BOOK / "claims.yml").read_text("utf-8"))
FAQ = yaml.safe_load((nb.BOOK / "faq.yml").read_text("utf-8"))
TERMS = yaml.safe_load((nb.BOOK / "glossary.yml").read_text("utf-8"))
EVERY_PAGE = [*NAMES, "index", "search", "genindex"]


@cache
def soup(path):
    assert path.exists(), f"{path.name} is not there: run `make book`"
    return BeautifulSoup(path.read_text("utf-8"), "lxml")


@cache
def anchors(path):
    return set(re.findall(r'\sid="([^"]+)"', path.read_text("utf-8")))


def page(name):
    return soup(HTML / f"{name}.html")


def article(name):
    return page(name).find("article")


def loaded(document):
    """Yield the address of everything that a page makes a browser load."""
    for tag in document.find_all(True):
        attributes = ["src", "srcset", "data", "poster"]
        if tag.name == "link" and "canonical" not in tag.get("rel", []):
            attributes.append("href")
        for attribute in attributes:
            if tag.get(attribute) and tag.name != "a":
                yield tag[attribute]


def followed(document):
    """Yield the address of every link of a page."""
    for tag in document.find_all("a", href=True):
        yield tag["href"]


def is_local(address):
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_a_page_loads_nothing_from_another_host(name):
    addresses = list(loaded(page(name)))
    assert addresses or name == "index"  # which only leads to the first page
    assert [x for x in addresses if not is_local(x)] == []


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_no_script_on_a_page_names_another_host(name):
    scripts = page(name).find_all("script", src=False)
    text = "\n".join(
        script.text
        for script in scripts
        if script.get("type") != "application/ld+json"
    )
    assert re.findall(r"https?://[^\s\"'<]+", text) == []


def test_no_style_sheet_loads_from_another_host():
    sheets = list(HTML.rglob("*.css"))
    assert len(sheets) > 3
    for sheet in sheets:
        text = sheet.read_text("utf-8")
        loads = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", text)
        remote = [x for x in loads if re.match(r"\s*(https?:)?//", x)]
        assert remote == [], sheet.name


@pytest.mark.parametrize("name", NAMES)
def test_every_local_address_leads_somewhere(name):
    here = HTML / f"{name}.html"
    document = page(name)
    for address in {*loaded(document), *followed(document)}:
        if not is_local(address) or address.startswith("data:"):
            continue
        parts = urlsplit(address)
        there = (here.parent / unquote(parts.path)).resolve()
        target = there if parts.path else here
        assert target.exists(), address
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in anchors(target), address


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_one_title_and_a_language(name):
    document = page(name)
    assert document.html["lang"] == "en"
    assert len(article(name).find_all("h1")) == 1
    assert document.title.text.strip().endswith("Attention, Tested")


@pytest.mark.parametrize("name", NAMES)
def test_headings_go_down_one_level_at_a_time(name):
    levels = [
        int(heading.name[1])
        for heading in article(name).find_all(re.compile(r"^h[1-6]$"))
    ]
    steps = [b - a for a, b in pairwise(levels)]
    assert max(steps, default=0) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_image_says_what_it_shows(name):
    for image in page(name).find_all("img"):
        assert image.get("alt", "").strip()
    for image in article(name).find_all("img"):
        assert len(image["alt"]) >= 20
        assert not re.search(r"\.png|_images", image["alt"])


@pytest.mark.parametrize("name", NAMES)
def test_no_markup_is_left_in_the_text(name):
    copy = BeautifulSoup(str(article(name)), "lxml")
    for code in copy.find_all(["pre", "code", "script", "dt"]):
        code.decompose()
    left = re.findall(r"\{\w+\}`|:{3,}|`{3,}|\*\*\w", copy.text)
    assert left == []


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_this_machine_is_on_a_page(name):
    text = (HTML / f"{name}.html").read_text("utf-8")
    assert str(nb.ROOT) not in text
    assert str(Path.home()) + "/" not in text


def test_formulas_are_set_by_the_copy_beside_the_book():
    script = page(CHAPTERS[0]).find("script", src=re.compile("tex-chtml"))
    path = (HTML / CHAPTERS[0]).parent / urlsplit(script["src"]).path
    fonts = path.parent / "output" / "chtml" / "fonts" / "woff-v2"
    assert path.stat().st_size > 1_000_000
    assert len(list(fonts.glob("*.woff"))) > 20


def test_search_finds_every_chapter():
    text = (HTML / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    found = set()
    for kind in ("terms", "titleterms"):
        hits = index[kind]["attent"]  # the stem of "attention"
        hits = hits if isinstance(hits, list) else [hits]
        found |= {index["docnames"][hit] for hit in hits}
    assert set(NOTEBOOKS) <= found
    assert page(NAMES[0]).find("form", action=re.compile("search.html"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_in_colab(name):
    link = nb.colab_link(name.removeprefix("notebooks/"))
    buttons = page(name).find("header", class_="bd-header-article") or page(
        name
    ).find("div", class_="header-article-items")
    assert buttons.find("a", href=link)
    assert article(name).find("a", href=link)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_folds_its_set_up(name):
    setup = article(name).find("div", class_="tag_set-up")
    assert "minitransformer is installed" in setup.text
    assert setup.find("details").summary.text.strip().startswith("Show the")


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_folds_its_solutions(name):
    solutions = article(name).find_all("div", class_="tag_hide-cell")
    assert solutions
    for solution in solutions:
        folded = solution.find("details", class_="hide")
        title = folded.find("pre").text.split("\n")[0]
        lead = title.removeprefix("# @title ")
        assert f"Show: {lead}" in folded.summary.text


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_caption_is_shown_once(name):
    figures = article(name).find_all("figcaption")
    assert len(figures) >= (2 if name in HOMEWORK else 3)
    assert article(name).find_all("strong", string="Figure.") == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_boxes_are_boxes(name):
    boxes = article(name).find_all("blockquote", class_=re.compile("^box"))
    kinds = {kind for box in boxes for kind in box["class"]}
    assert {"box-after", "box-exercise"} <= kinds
    for box in boxes:
        assert box.find("strong")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_the_ledger_leads_to_the_cell_that_asserts(claim):
    link = article("book/claims").find("a", string=claim["id"])
    chapter = f"notebooks/{claim['chapter']}"
    anchor = f"claim-{claim['id'].lower().replace('.', '-')}"
    assert link["href"] == f"../{chapter}.html#{anchor}"
    cell = page(chapter).find(id=anchor)
    if cell.name == "span":  # one of several claims of a cell
        cell = cell.find_parent("div", class_="cell")
    assert f"tag_claim-{claim['id']}" in cell["class"]
    assert claim["verdict"] in link.find_parent("tr").text


def test_the_ledger_has_no_other_rows():
    rows = article("book/claims").select("table.ledger tbody tr")
    assert len(rows) == len(CLAIMS)


@pytest.mark.parametrize("entry", FAQ, ids=lambda entry: entry["id"])
def test_a_question_leads_to_its_section(entry):
    link = f"../notebooks/{entry['chapter']}.html#{entry['section']}"
    assert article("book/faq").find("a", href=link)


@pytest.mark.parametrize("entry", TERMS, ids=lambda entry: entry["term"])
def test_a_term_leads_to_its_section(entry):
    name = entry["chapter"]
    page = f"../notebooks/{name}" if name[0].isdigit() else name
    own = entry["term"].lower().replace(" ", "-")
    term = article("book/glossary").find("section", id=own)
    assert term.find("span", lang="zh-Hans").text == entry["chinese"]
    link = term.find("a", href=f"{page}.html#{entry['section']}")
    assert link.text.strip()


def test_the_glossary_has_no_other_terms():
    names = [
        heading.find(string=True) for heading in article("book/glossary")("h3")
    ]
    assert names == [entry["term"] for entry in TERMS]


def test_the_reference_covers_every_module():
    documented = {
        match[1]
        for tag in article("book/api").find_all(id=True)
        if (match := re.fullmatch(r"module-minitransformer\.(\w+)", tag["id"]))
    }
    package = nb.ROOT / "minitransformer"
    modules = {
        path.stem
        for path in package.glob("*.py")
        if not path.stem.startswith("__")
    } | {path.parent.name for path in package.glob("*/__init__.py")}
    # The command line documents itself; the storybook's words and the
    # challenge set's sentences are data.
    hidden = {name for name in modules if name.startswith("story_")}
    assert documented == modules - hidden - {"cli", "challenge_table"}


def test_the_palette_on_the_notation_page_is_that_of_the_figures():
    from minitransformer import viz

    css = (nb.BOOK / "_static" / "custom.css").read_text("utf-8").lower()
    for role in ("query", "key", "value", "scores", "weights", "output"):
        colour = getattr(viz, role.upper()).lower()
        rule = re.search(rf"\.role-{role} {{([^}}]*)}}", css)
        assert colour in rule[1]
