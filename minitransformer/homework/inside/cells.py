r"""Cut a learner's file into pieces that run one after the other.

This runs in the learner's process: the text may be anything.

>>> without_magics("%matplotlib inline\nx = 1")
'pass\nx = 1'
>>> without_magics("%%bash\nls")
''
>>> [where for where, _ in pieces_of_script("x = 1\n\ny = x")]
['line 1', 'line 3']
"""

import __future__

import ast
import linecache
import re
from collections.abc import Iterator
from types import CodeType

# Cell magics whose cell is Python all the same.
PYTHON_MAGICS = ("%%time", "%%capture", "%%prun")
SPECIAL = re.compile(
    r"^(\s*)(?:(?:[\w, ]+= *)?[%!].*|\?{1,2}\S.*|[\w.]+\?{1,2}\s*)$"
)
BLOCK = re.compile(
    r"^(?=(?:(?:async )?def |class |import |from |@|\w+ *=))", re.MULTILINE
)
PERCENT = re.compile(r"^# ?%%.*$", re.MULTILINE)
# What `ast.parse` raises: also for half an emoji, or 200,000 minus signs.
UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError)
FUTURES = {
    name: getattr(__future__, name).compiler_flag
    for name in __future__.all_feature_names
}


def pieces(texts: list[str], notebook: bool) -> Iterator[tuple[str, str]]:
    """Give what is to run, in order.

    Args:
        texts: The code cells of a notebook, or the one text of a script.
        notebook: Which of the two it is.

    Yields:
        Where a piece is, such as ``"cell 3"``, and its source.
    """
    if notebook:
        for number, text in enumerate(texts, start=1):
            yield f"cell {number}", without_magics(text)
    else:
        for text in texts:
            yield from pieces_of_script(text)


def without_magics(source: str) -> str:
    """Return a notebook's cell without what only a notebook understands."""
    if source.lstrip().startswith("%%"):
        first, _, rest = source.lstrip().partition("\n")
        if not first.startswith(PYTHON_MAGICS):
            return ""
        source = "\n" + rest
    try:
        ast.parse(source)
    except UNREADABLE:
        lines = [SPECIAL.sub(r"\1pass", line) for line in source.split("\n")]
        return "\n".join(lines)
    return source


def pieces_of_script(text: str) -> Iterator[tuple[str, str]]:
    """Cut a ``.py`` file into cells, statements, or what looks like them.

    Yields:
        Where a piece begins, such as ``"line 3"``, and the piece.
    """
    starts = [match.start() for match in PERCENT.finditer(text)]
    if not starts:
        try:
            tree = ast.parse(text)
        except UNREADABLE:  # the blocks before and behind it still count
            starts = [match.start() for match in BLOCK.finditer(text)]
            starts = _decorated(text, starts)
        else:
            for node in tree.body:
                decorators = getattr(node, "decorator_list", [])
                first = min(part.lineno for part in [node, *decorators])
                yield f"line {first}", _source_of(node, first, text)
            return
    starts = sorted({0, *starts})
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if text[start:end].strip():
            line = text.count("\n", 0, start) + 1
            yield f"line {line}", text[start:end]


def _source_of(node: ast.stmt, first: int, text: str) -> str:
    """Return a statement's text, or one that does the same."""
    lines = text.split("\n")
    source = "\n".join(lines[first - 1 : node.end_lineno])
    try:
        alone = ast.parse(source).body
    except SyntaxError:
        alone = []
    # Two statements may share a line, with a semicolon between them.
    return source if len(alone) == 1 else ast.unparse(node)


def _decorated(text: str, starts: list[int]) -> list[int]:
    """Leave out starts of what belongs to a decorator above."""
    kept: list[int] = []
    for start in starts:
        if (
            kept
            and text[kept[-1]] == "@"
            and "\n\n" not in text[kept[-1] : start]
        ):
            continue
        kept.append(start)
    return kept


class Compiler:
    """Compiles pieces, of which later ones know earlier ones' futures."""

    def __init__(self) -> None:
        """Begin with no feature of the future."""
        self._flags = 0

    def compile(self, where: str, source: str) -> CodeType:
        """Compile a piece; tracebacks and `inspect` will find its lines.

        Raises:
            SyntaxError: If it is no Python.
        """
        name = f"<{where}>"
        linecache.cache[name] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            name,
        )
        code: CodeType = compile(
            source, name, "exec", flags=self._flags, dont_inherit=True
        )
        for flag in FUTURES.values():
            self._flags |= code.co_flags & flag
        return code
