"""One page for each student: what was right, what was not, and where to look.

What comes from a learner's code is escaped, so that it can't dress up as
anything but text.
"""

import re

from minitransformer.homework.grading.folders import Row

SPECIAL = re.compile(r"([\\`*_{}\[\]>#|~$!])")


def page(row: Row) -> str:
    """Return a student's feedback in Markdown."""
    report = row.report
    lines = [
        f"# {report.assignment}: {escaped(row.student)}",
        "",
        f"**{report.points} of {report.out_of} points** for"
        f" {escaped(row.file)}.",
        "",
    ]
    for task in report.tasks:
        points = f"{task.points} of {task.out_of}"
        if not task.out_of:
            points = "stretch"
        mark = "right" if task.passed else "not yet"
        lines += [
            f"## {escaped(task.name)}: {mark} ({points})",
            "",
            escaped(task.message),
            "",
        ]
    if report.errors:
        lines += ["## What failed while your file ran", ""]
        lines += [
            f"- {escaped(where)}: {escaped(text)}"
            for where, text in report.errors
        ]
        lines += [
            "",
            "Cells and lines count from 1; of a notebook, only code cells.",
            "",
        ]
    elif report.reason:
        lines += [f"Remark: {escaped(report.reason)}.", ""]
    lines += [
        "## Try it yourself",
        "",
        f"Your answers were tried on inputs drawn with seed {report.seed}."
        " In your notebook, this gives the same inputs and the same words:",
        "",
    ]
    lines += [
        f'    check("{task.name}", {task.name.partition(".")[2]},'
        f" seed={report.seed})"
        for task in report.tasks
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    r"""Return text that Markdown shows as it is.

    >>> print(escaped("<b> x_1"))
    &lt;b\> x\_1
    """
    return (
        SPECIAL.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    )


def file_names(rows: list[Row]) -> list[str]:
    """Return a name for each student's page, no two alike."""
    names: list[str] = []
    taken: set[str] = set()
    for row in rows:
        stem = re.sub(r"[^\w-]+", "_", f"{row.student}_{row.id}").strip("_")
        stem = stem.encode()[:120].decode(errors="ignore") or "student"
        name, count = f"{stem}.md", 1
        while name.lower() in taken:
            count += 1
            name = f"{stem}_{count}.md"
        taken.add(name.lower())
        names.append(name)
    return names
