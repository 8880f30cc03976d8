"""Write the inventories with which the book links to other documentation.

    python tools/inventories.py

Sphinx would fetch whole inventories from the net at every build. The book is
built offline, so it keeps inventories of the few names that it links to. Add a
name here when the strict build says that its reference was not found.
"""

import zlib
from pathlib import Path

INVENTORIES = Path(__file__).resolve().parents[1] / "book" / "_inv"
TORCH = {
    "torch.Tensor": ("py:class", "tensors.html"),
    "torch.device": ("py:class", "tensor_attributes.html"),
    "torch.dtype": ("py:class", "tensor_attributes.html"),
    "torch.Generator": ("py:class", "generated/torch.Generator.html"),
    "torch.nn.Linear": ("py:class", "generated/torch.nn.Linear.html"),
    "torch.nn.modules.linear.Linear": (
        "py:class",
        "generated/torch.nn.Linear.html",
    ),
    "torch.nn.Module": ("py:class", "generated/torch.nn.Module.html"),
    "torch.nn.modules.module.Module": (
        "py:class",
        "generated/torch.nn.Module.html#torch.nn.Module",
    ),
    "torch.nn.Transformer": (
        "py:class",
        "generated/torch.nn.Transformer.html",
    ),
    "torch.optim.optimizer.Optimizer": ("py:class", "optim.html"),
}
PYTHON = {
    **{
        name: ("py:class", f"library/functions.html#{name}")
        for name in ("bool", "int", "float", "object", "type")
    },
    **{
        name: ("py:class", f"library/stdtypes.html#{name}")
        for name in ("str", "bytes", "dict", "list", "tuple", "set", "range")
    },
    "None": ("py:data", "library/constants.html#None"),
    "ValueError": ("py:exception", "library/exceptions.html#ValueError"),
    "OSError": ("py:exception", "library/exceptions.html#OSError"),
    "contextlib.AbstractContextManager": (
        "py:class",
        "library/contextlib.html#contextlib.AbstractContextManager",
    ),
    "pathlib.Path": ("py:class", "library/pathlib.html#pathlib.Path"),
    **{
        f"collections.abc.{name}": (
            "py:class",
            f"library/collections.abc.html#collections.abc.{name}",
        )
        for name in (
            "Callable",
            "Collection",
            "Generator",
            "Iterable",
            "Iterator",
            "Mapping",
            "MutableMapping",
            "Sequence",
        )
    },
    "random.Random": ("py:class", "library/random.html#random.Random"),
    "typing.Any": ("py:data", "library/typing.html#typing.Any"),
}


def write(project: str, names: dict[str, tuple[str, str]]) -> None:
    """Write one inventory in Sphinx's format, version 2."""
    head = (
        "# Sphinx inventory version 2\n"
        f"# Project: {project}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    rows = "".join(
        f"{name} {kind} 1 {place} -\n"
        for name, (kind, place) in sorted(names.items())
    )
    INVENTORIES.mkdir(exist_ok=True)
    path = INVENTORIES / f"{project}.inv"
    path.write_bytes(head.encode() + zlib.compress(rows.encode(), 9))
    print(f"wrote {path.name}: {len(names)} names")


if __name__ == "__main__":
    write("torch", TORCH)
    write("python", PYTHON)
