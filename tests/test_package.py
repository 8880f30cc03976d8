"""The package: its public names are there, documented, and late if heavy."""

import importlib
import inspect
from pathlib import Path

import pytest

import minitransformer

PACKAGE = Path(minitransformer.__file__).parent
MODULES = sorted(
    path.stem for path in PACKAGE.glob("*.py") if path.stem[0] != "_"
)


@pytest.mark.parametrize("name", minitransformer.__all__)
def test_a_public_name_is_there_and_documented(name):
    thing = getattr(minitransformer, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_class_and_method_is_documented(module):
    module = importlib.import_module(f"minitransformer.{module}")
    assert module.__doc__
    missing = []
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", "") != module.__name__:
            continue
        parts = vars(thing).items() if inspect.isclass(thing) else ()
        found = {name: thing} | {f"{name}.{n}": part for n, part in parts}
        missing += [
            name
            for name, part in found.items()
            if "._" not in f".{name}"
            and (inspect.isroutine(part) or inspect.isclass(part))
            and not part.__doc__
        ]
    assert missing == []


def test_a_name_nobody_knows():
    with pytest.raises(AttributeError, match="has no attribute 'Transformr'"):
        minitransformer.Transformr  # noqa: B018


def test_names_that_come_late_are_listed():
    assert {*minitransformer.__all__} <= {*dir(minitransformer)}
    assert "__version__" in dir(minitransformer)


def test_a_submodule_can_be_imported_from_the_package():
    from minitransformer import storybook

    assert storybook.__name__ == "minitransformer.storybook"
