"""Values on a pipe between the judge and the process of a learner.

A frame is a head of fixed size, a JSON text, and the raw bytes of tensors.
Nothing in it can run code, and whoever reads it believes nothing: sizes are
bounded before anything is read, and numbers of bytes must agree with shapes.

In the JSON, a number, a string, ``true``, ``false`` and ``null`` stand for
themselves; all else is a list that begins with the name of its kind.
"""

import json
import struct
from collections.abc import Callable
from numbers import Real
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

HEAD = struct.Struct("<4sIQ")  # a mark, bytes of JSON, bytes of tensors
MARK = b"mt1\n"
MAX_TEXT = 4 << 20
MAX_DATA = 64 << 20
MAX_DEPTH = 50
MAX_AXES = 16
MAX_BITS = 1024  # of an integer
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# How an object is named that stays where it is; and found by that name.
Keep = Callable[[Any], list[Any]]
Find = Callable[[list[Any]], Any]


class WireError(Exception):
    """What came over the pipe is not what was agreed on."""


def frame(message: dict[str, Any], data: bytes = b"") -> bytes:
    """Return a frame as it goes over the pipe.

    Raises:
        WireError: If it is larger than a frame may be.
    """
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MAX_TEXT or len(data) > MAX_DATA:
        raise WireError(
            f"the result is too large: {(len(text) + len(data)) >> 20} MB,"
            f" and at most {MAX_DATA >> 20} are read"
        )
    return b"".join([HEAD.pack(MARK, len(text), len(data)), text, data])


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Read one frame.

    Raises:
        EOFError: If the pipe ends.
        WireError: If it is no frame, or too large.
    """
    mark, text_size, data_size = HEAD.unpack(_exactly(stream, HEAD.size))
    if mark != MARK or text_size > MAX_TEXT or data_size > MAX_DATA:
        raise WireError("no frame, or one that is too large")
    text, data = _exactly(stream, text_size), _exactly(stream, data_size)
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("a frame without JSON") from error
    if not isinstance(message, dict):
        raise WireError("a frame that is no object")
    return message, data


def _exactly(stream: BinaryIO, size: int) -> bytes:
    pieces = []
    while size:
        piece = stream.read(min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


class Packer:
    """Turns values into JSON and bytes.

    Attributes:
        data: The bytes of the tensors packed so far, one behind the other.
    """

    def __init__(self, keep: Keep):
        """Prepare.

        Args:
            keep: Names an object that can't be sent.
        """
        self.data = bytearray()
        self._keep = keep

    def pack(self, value: Any, depth: int = 0) -> Any:
        """Return what stands in the JSON for a value.

        Raises:
            WireError: If it is nested too deeply, or too large.
        """
        if depth > MAX_DEPTH:
            raise WireError("the result is nested too deeply")
        if value is None or isinstance(value, bool):
            return value
        if value is ...:
            return ["dots"]
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            if int(value).bit_length() > MAX_BITS:
                raise WireError("the result holds a number that is too large")
            return int(value)
        if isinstance(value, Tensor):
            return self._pack_tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._pack_array(np.asarray(value))
        if isinstance(value, Real):  # fractions too
            return float(value)
        if isinstance(value, torch.dtype) and value in NAMES:
            return ["dtype", NAMES[value]]
        for kind in (list, tuple):
            if isinstance(value, kind):
                return [
                    kind.__name__,
                    *(self.pack(part, depth + 1) for part in value),
                ]
        if isinstance(value, dict):
            return [
                "dict",
                *(
                    [self.pack(key, depth + 1), self.pack(part, depth + 1)]
                    for key, part in value.items()
                ),
            ]
        return self._keep(value)

    def _pack_tensor(self, value: Tensor) -> list[Any]:
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            try:
                numbers = value.detach()
                if numbers.layout != torch.strided:
                    numbers = numbers.to_dense()
                # Bits that say "conjugate" or "negative" become numbers.
                numbers = numbers.cpu().resolve_conj().resolve_neg()
                name, shape = NAMES[numbers.dtype], list(numbers.shape)
                self._check_room(numbers.numel() * numbers.element_size())
                flat = numbers.contiguous().reshape(-1)
                raw = flat.view(torch.uint8).numpy().tobytes()
            except (KeyError, NotImplementedError, RuntimeError):
                return self._keep(value)
        self.data += raw
        return ["tensor", name, shape]

    def _pack_array(self, value: Any) -> list[Any]:
        name = value.dtype.name
        if name not in DTYPES or not value.dtype.isnative:
            return self._keep(value)
        self._check_room(value.nbytes)
        self.data += value.tobytes()
        return ["array", name, list(value.shape)]

    def _check_room(self, size: int) -> None:
        if len(self.data) + size > MAX_DATA:
            raise WireError(
                f"the result is too large: at most {MAX_DATA >> 20} MB are"
                " read"
            )


class Unpacker:
    """Turns JSON and bytes back into values."""

    def __init__(self, data: bytes, find: Find):
        """Prepare.

        Args:
            data: The bytes of all tensors.
            find: Gives the object that a list in the JSON names; raises
                WireError if it names none.
        """
        self._data = memoryview(data)
        self._start = 0
        self._find = find

    def unpack(self, packed: Any, depth: int = 0) -> Any:
        """Return the value that JSON stands for.

        Raises:
            WireError: If it stands for none.
        """
        if depth > MAX_DEPTH:
            raise WireError("nested too deeply")
        if packed is None or isinstance(packed, bool | int | float | str):
            return packed
        if not isinstance(packed, list) or not packed:
            raise WireError("no value")
        kind, parts = packed[0], packed[1:]
        if kind == "list":
            return [self.unpack(part, depth + 1) for part in parts]
        if kind == "tuple":
            return tuple(self.unpack(part, depth + 1) for part in parts)
        if kind == "dict":
            return self._unpack_dict(parts, depth)
        if kind == "dots":
            return ...
        if kind in ("tensor", "array"):
            return self._unpack_numbers(kind, parts)
        if kind == "dtype" and len(parts) == 1:
            return self._dtype(parts[0])
        return self._find(packed)

    def _unpack_dict(self, parts: list[Any], depth: int) -> dict[Any, Any]:
        found = {}
        for pair in parts:
            if not isinstance(pair, list) or len(pair) != 2:
                raise WireError("no pair")
            key = self.unpack(pair[0], depth + 1)
            try:
                found[key] = self.unpack(pair[1], depth + 1)
            except TypeError as error:
                raise WireError("no key") from error
        return found

    def _dtype(self, name: Any) -> torch.dtype:
        if not isinstance(name, str) or name not in DTYPES:
            raise WireError("no type of numbers")
        return DTYPES[name]

    def _unpack_numbers(self, kind: str, parts: list[Any]) -> Any:
        if len(parts) != 2 or not isinstance(parts[1], list):
            raise WireError("no tensor")
        dtype, shape = self._dtype(parts[0]), parts[1]
        if kind == "array" and dtype == torch.bfloat16:
            raise WireError("no type of numpy's")
        if len(shape) > MAX_AXES or any(type(n) is not int for n in shape):
            raise WireError("no shape")
        size = extent = dtype.itemsize
        for length in shape:
            size *= length
            extent *= max(length, 1)  # an empty tensor may not be huge either
            if length < 0 or extent > MAX_DATA:
                raise WireError("no shape, or too large")
        raw = bytearray(self._data[self._start : self._start + size])
        if len(raw) != size:
            raise WireError("fewer numbers than the shape says")
        self._start += size
        if dtype == torch.bool:  # a byte that is neither 0 nor 1 is no truth
            raw = bytearray((np.frombuffer(raw, np.uint8) != 0).tobytes())
        if not size:
            found = torch.empty(shape, dtype=dtype)
        else:
            found = torch.frombuffer(raw, dtype=dtype).reshape(shape)
        return found.numpy() if kind == "array" else found


def named(packed: list[Any], kind: str) -> int:
    """Return the number in ``[kind, number, ...]``.

    Raises:
        WireError: If it is something else.
    """
    if len(packed) < 2 or packed[0] != kind or type(packed[1]) is not int:
        raise WireError("an object that is not known")
    return packed[1]
