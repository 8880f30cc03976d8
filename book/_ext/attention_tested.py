"""Sphinx extension of the book: pages made from lists, and their links.

- ``{claims}``, ``{faq}`` and ``{terms}`` make the ledger, the questions and
  the glossary from ``claims.yml``, ``faq.yml`` and ``glossary.yml``.
- A code cell tagged ``claim-C2.1`` gets the anchor ``#claim-c2-1`` and can be
  referred to by that name.
- A blockquote becomes a box, coloured by the first word of its bold lead.
- The theme's constant for live code, which names another host, is left out.
"""

from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).parents[1]
BOXES = {
    "after": "box-after",
    "common": "box-mistake",
    "exercise": "box-exercise",
    "task": "box-exercise",
}


def anchor(claim: str) -> str:
    """Return the anchor of a claim's cell: ``claim-c2-1`` for ``C2.1``."""
    return f"claim-{claim.lower().replace('.', '-')}"


def title(chapter: str) -> str:
    """Return the title of a chapter: the first heading of its source."""
    text = (BOOK / f"{chapter}.md").read_text("utf-8")
    return next(x for x in text.splitlines() if x.startswith("# "))[2:]


def section(entry: dict[str, str]) -> str:
    """Return the address of the section that an entry links to."""
    name = entry["chapter"]
    page = f"../notebooks/{name}.ipynb" if name[0].isdigit() else f"{name}.md"
    return f"{page}#{entry['section']}"


class FromYaml(SphinxDirective):
    """Write Markdown from a list of entries and let MyST read it."""

    source: ClassVar[str]

    def heading(self, entry: dict[str, str]) -> str:
        """Return the heading of the part of the page that an entry is in."""
        return title(entry["chapter"])

    def markdown(self, entries: list[dict[str, str]]) -> list[str]:
        """Return the lines of one part of the page."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        path = BOOK / self.source
        self.env.note_dependency(str(path))
        entries = yaml.safe_load(path.read_text("utf-8"))
        container = nodes.Element()
        for heading in dict.fromkeys(map(self.heading, entries)):
            lines = [f"## {heading}", ""]
            lines += self.markdown(
                [entry for entry in entries if self.heading(entry) == heading]
            )
            self.state.nested_parse(
                StringList(lines, str(path)), 0, container, match_titles=True
            )
        return container.children


class Claims(FromYaml):
    """The ledger: one row a claim, with its verdict and a link."""

    source = "claims.yml"

    def markdown(self, entries: list[dict[str, str]]) -> list[str]:
        rows = [
            f"| {{ref}}`{entry['id']} <{anchor(entry['id'])}>` "
            f"| {entry['claim']} | **{entry['verdict']}** "
            f"| {entry['finding']} |"
            for entry in entries
        ]
        return [
            "{.ledger}",
            "| Id | Claim | Verdict | What we found |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]


class Faq(FromYaml):
    """The questions, each with its answer and a link to the section."""

    source = "faq.yml"

    def markdown(self, entries: list[dict[str, str]]) -> list[str]:
        lines = []
        for entry in entries:
            link = section(entry)
            lines += [
                f"### {entry['question']}",
                "",
                f"{entry['answer']} [More, with the evidence]({link}).",
                "",
            ]
        return lines


class Terms(FromYaml):
    """The glossary: terms by letter, each a heading that can be linked to."""

    source = "glossary.yml"

    def heading(self, entry: dict[str, str]) -> str:
        return entry["term"][0].upper()

    def markdown(self, entries: list[dict[str, str]]) -> list[str]:
        lines = []
        for entry in entries:
            page = title(entry["chapter"])
            number = page.split()[0]
            where = f"Chapter {number}" if number.isdigit() else page
            lines += [
                f"### {entry['term']}",
                "",
                f'<span lang="zh-Hans">{entry["chinese"]}</span>',
                "",
                f"{entry['meaning']} ({where}: []({section(entry)}))",
                "",
            ]
        return lines


def anchor_claims(app: Sphinx, doctree: nodes.document) -> None:
    """Give each tagged cell its anchor, and Sphinx its name."""
    labels = app.env.get_domain("std").data["anonlabels"]
    named = app.env.get_domain("std").data["labels"]
    for cell in doctree.findall(nodes.container):
        for tag in cell["classes"]:
            if tag.startswith("tag_claim-"):
                name = anchor(tag.removeprefix("tag_claim-"))
                cell["ids"].append(name)
                labels[name] = (app.env.docname, name)
                named[name] = (app.env.docname, name, name)


def mark_boxes(app: Sphinx, doctree: nodes.document) -> None:
    """Give a blockquote the class of its bold lead, for its colour."""
    for quote in doctree.findall(nodes.block_quote):
        lead = next(iter(quote.findall(nodes.strong)), None)
        if lead is not None:
            word = lead.astext().split()[0].lower().rstrip(":.")
            quote["classes"].append(BOXES.get(word, "box"))


def drop_live_code(
    app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any
) -> None:
    """Leave out the scripts of sphinx-thebe: they name another host."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(script).lower()
        and "thebe" not in str(getattr(script, "attributes", "")).lower()
    ]


def leave_figures_unnumbered(app: Sphinx, config: Any) -> None:
    """Undo what an extension of Jupyter Book forces: one count for the book.

    With an unnumbered table of contents chapter 9 would begin with figure 7.
    """
    config.numfig = False


class PlainProperties:
    """Keep napoleon away from properties whose docstring is plain text.

    It takes "What it is: a number." for ``type: description``.
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}

    def hide(self, _app, what, name, _obj, _options, lines) -> None:
        """Take the docstring away before napoleon sees it."""
        plain = not any(line.endswith(":") for line in lines)  # no section
        if what == "property" and plain:
            self.kept[name] = lines[:]
            lines.clear()

    def show(self, _app, _what, name, _obj, _options, lines) -> None:
        """Put it back."""
        lines[:] = self.kept.pop(name, lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of the above."""
    app.add_directive("claims", Claims)
    app.add_directive("faq", Faq)
    app.add_directive("terms", Terms)
    app.connect("config-inited", leave_figures_unnumbered, priority=900)
    app.connect("doctree-read", anchor_claims)
    app.connect("doctree-read", mark_boxes)
    properties = PlainProperties()
    app.connect("autodoc-process-docstring", properties.hide, priority=400)
    app.connect("autodoc-process-docstring", properties.show, priority=600)
    app.connect("html-page-context", drop_live_code, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
