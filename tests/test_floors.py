"""A module imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minitransformer"
# Ground floor first. Modules on one floor do not know each other.
FLOORS = [
    {"errors"},
    {"processor"},
    {
        "allocator",
        "compact",
        "counting",
        "dropout",
        "files",
        "loss",
        "masks",
        "onednn",
        "traces",
        "workers",
    },
    {"products"},
    {"attention", "feed_forward", "positions", "residual"},
    {"config"},
    {"layers"},
    {"model"},
    {"recurrent"},
    {"recording"},
    {"heads", "packed_decoder", "probes", "tracing"},
    {"challenge_table", "pairs", "story_french", "story_tables", "text"},
    {"challenge", "downloads", "story_lexicon"},
    {"multi30k", "story_grammar", "tatoeba"},
    {"story_patterns"},
    {"storybook"},
    {"own_files"},
    {"corpora"},
    {"checkpoints", "data"},
    {
        "ctranslate2_export",
        "decoding",
        "evaluation",
        "onnx_export",
        "training",
    },
    {"exporting", "recipes", "sampling"},
    {"translator"},
    {"homework", "viz"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {
    module: height for height, floor in enumerate(FLOORS) for module in floor
}


def imports(source):
    """Name the modules of the package that a source imports, anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            if node.module == "minitransformer":
                names = {alias.name for alias in node.names}
                found |= {name for name in names if name[:2] != "__"}
            elif (node.module or "").startswith("minitransformer."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {
                n[1] for n in names if n[0] == "minitransformer" and n[1:]
            }
    return found


def sources(module):
    """Return the files of a module, or of a package within ours."""
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) or [folder.with_suffix(".py")]


def test_every_module_has_a_floor():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules | packages - {"results"} == HEIGHT.keys()


@pytest.mark.parametrize("module", sorted(HEIGHT))
def test_imports_point_down(module):
    for path in sources(module):
        below = imports(path.read_text("utf-8")) - {module}
        assert [m for m in below if HEIGHT[m] >= HEIGHT[module]] == []


def test_imports_inside_functions_are_seen():
    source = "def f():\n    from minitransformer.cli import main\n"
    source += "import minitransformer.viz\nfrom minitransformer import text"
    assert imports(source) == {"cli", "viz", "text"}
