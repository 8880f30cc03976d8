"""A learner's file in pieces, of which one that fails hides no other."""

import ast

import pytest

from minitransformer.homework.inside.cells import (
    Compiler,
    pieces,
    pieces_of_script,
    without_magics,
)


@pytest.mark.parametrize(
    ("source", "clean"),
    [
        ("x = 1", "x = 1"),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("if x:\n    !pip install a\ny = 2", "if x:\n    pass\ny = 2"),
        ("files = !ls\nx, y = %who_ls\nz = 1", "pass\npass\nz = 1"),
        ("f?", "pass"),
        ("?f\n??g.h", "pass\npass"),
        ("%%time\nx = 1", "\nx = 1"),
        ("%%bash\nls", ""),
        ("\n%%html\n<b>", ""),
        ('x = """\n%no magic\n!this neither"""', None),
        ("x = (7\n% 4)", None),
    ],
)
def test_only_python_is_left_of_a_cell(source, clean):
    found = without_magics(source)
    assert found == (source if clean is None else clean)
    ast.parse(found)


@pytest.mark.parametrize("source", ['x = "\ud83d"', "x = " + "-" * 200_000])
def test_a_cell_that_can_not_be_parsed_is_left_to_fail_alone(source):
    assert without_magics(source)
    assert list(pieces_of_script(source + "\n\ny = 1"))


def run(text):
    """Run a script's pieces, and give its names and what failed."""
    names, failed = {}, []
    compiler = Compiler()
    for where, source in pieces_of_script(text):
        try:
            exec(compiler.compile(where, source), names)
        except Exception as error:
            failed.append((where, type(error).__name__))
    names = {k: v for k, v in names.items() if k[:2] != "__"}
    return names, failed


def test_a_script_is_cut_into_statements():
    names, failed = run(
        '"""Title."""\n\nx = 1\n1 / 0\n\n\n'
        "@staticmethod\n@property\ndef f():\n    return 3\n\ny = x; z = y\n"
        "if x:\n    a = '''\n0'''\nb = absent\n"
    )
    assert {"x", "y", "z", "a", "f"} == names.keys()
    assert isinstance(names["f"], staticmethod)
    assert failed == [
        ("line 4", "ZeroDivisionError"),
        ("line 16", "NameError"),
    ]


def test_a_script_with_marks_is_cut_there():
    names, failed = run("x = 1\n# %%\n1 / 0\ny = 2\n#%% title\nz = 3\n")
    assert names == {"x": 1, "z": 3}
    assert failed == [("line 2", "ZeroDivisionError")]


def test_blocks_around_a_syntax_error_count():
    names, failed = run(
        "import ast\n\n\ndef broken(:\n    return 1\n\n\n"
        "def f(x):\n    if x:\n        y = 2\n\n    return x\n\n\n"
        "@staticmethod\ndef g():\n    return 4\n\n\nx = f(3)\n"
    )
    assert {"ast", "f", "g", "x"} == names.keys()
    assert names["x"] == 3
    assert isinstance(names["g"], staticmethod)
    assert failed == [("line 4", "SyntaxError")]


def test_the_future_of_one_cell_holds_for_the_next():
    compiler = Compiler()
    names = {}
    exec(compiler.compile("a", "from __future__ import annotations"), names)
    exec(compiler.compile("b", "def f(x: Unknown): pass"), names)
    assert names["f"].__annotations__ == {"x": "Unknown"}
    with pytest.raises(NameError):
        exec(Compiler().compile("c", "def f(x: Unknown): pass"), {})


def test_cells_are_counted_from_one():
    assert list(pieces(["x", "%%bash\n"], True)) == [
        ("cell 1", "x"),
        ("cell 2", ""),
    ]
    assert list(pieces(["x\ny"], False)) == [("line 1", "x"), ("line 2", "y")]
    assert list(pieces_of_script("# only\n")) == []
