"""What goes over the pipe: the same values, and nothing that could harm."""

import io
import json
import math
import random
from collections import OrderedDict, namedtuple
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from minitransformer.homework.inside import wire
from minitransformer.homework.inside.wire import Packer, Unpacker, WireError


def refuse(value):
    raise WireError(f"an object: {value!r:.40}")


def sent(value):
    """Give a value as it arrives."""
    packer = Packer(refuse)
    packed = packer.pack(value)
    whole = wire.frame({"value": packed}, bytes(packer.data))
    message, data = wire.read_frame(io.BytesIO(whole))
    return Unpacker(data, refuse).unpack(message["value"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        -(2**70),
        0.1,
        math.inf,
        "ü \udc80 \x00",
        ...,
        [1, [2.5, "a"], ()],
        (1, (None, ...)),
        {"a": 1, 2: [True], (1, "b"): None},
        torch.float16,
        [],
    ],
)
def test_plain_values_arrive_as_they_were(value):
    assert sent(value) == value
    assert type(sent(value)) is type(value)


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (2, 3, 5)])
def test_tensors_arrive_as_they_were(dtype, shape):
    tensor = (torch.rand(shape) * 10).to(dtype)
    found = sent([tensor, {"b": tensor.mT if tensor.dim() > 1 else tensor}])
    assert found[0].dtype == dtype
    assert torch.equal(found[0], tensor)
    assert torch.equal(found[1]["b"], tensor.mT if len(shape) > 1 else tensor)


def test_nan_and_other_kinds_of_numbers_arrive():
    assert math.isnan(sent(math.nan))
    assert sent(torch.tensor([math.nan, -math.inf])).isnan().tolist() == [1, 0]
    assert sent(Fraction(1, 4)) == sent(np.float32(0.25)) == 0.25
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert isinstance(sent(array), np.ndarray)
    assert np.array_equal(sent(array[:, ::-1]), array[:, ::-1])
    assert sent(torch.eye(3).to_sparse()).equal(torch.eye(3))
    conjugate = torch.tensor([1 + 2j]).conj()
    assert sent(conjugate).tolist() == [1 - 2j]


def test_what_is_cleverer_arrives_as_something_plain():
    class Liar(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, inputs=(), options=None):
            return torch.tensor(42.0)

    class Text(str):
        def __str__(self):
            return "lies"

    Pair = namedtuple("Pair", ["a", "b"])
    liar = torch.rand(3).as_subclass(Liar)
    with torch._C.DisableTorchFunctionSubclass():
        true = liar.detach().clone().as_subclass(torch.Tensor)
    assert torch.equal(sent(liar), true)
    parameter = sent(nn.Parameter(torch.rand(2)))
    assert type(parameter) is torch.Tensor
    assert not parameter.requires_grad
    assert type(sent(Pair(1, 2))) is tuple
    assert type(sent(OrderedDict(a=1))) is dict
    assert sent(Text("true")) == "true"


def test_an_object_stays_where_it_is():
    kept = []

    def keep(value):
        kept.append(value)
        return ["object", len(kept) - 1, "Thing"]

    class Bomb:
        def __reduce__(self):
            raise AssertionError("pickled")

    bombs = [Bomb(), Bomb, torch.rand(1, device="meta"), b"bytes", {1}]
    packer = Packer(keep)
    packed = packer.pack([*bombs, 5])
    assert [x[0] for x in packed[1:6]] == ["object"] * 5
    assert packed[6] == 5
    assert kept[0] is bombs[0]
    found = Unpacker(b"", lambda packed: packed[1]).unpack(packed)
    assert found == [0, 1, 2, 3, 4, 5]
    assert wire.named(["object", 3, "x"], "object") == 3
    for wrong in (["object"], ["thing", 1], ["object", True], ["object", "1"]):
        with pytest.raises(WireError):
            wire.named(wrong, "object")


# What is too much ---


def test_too_much_is_refused_where_it_is_made(monkeypatch):
    monkeypatch.setattr(wire, "MAX_DATA", 1000)
    monkeypatch.setattr(wire, "MAX_TEXT", 1000)
    for value in (
        torch.rand(251),
        [torch.rand(126), np.zeros(63)],
        torch.zeros(1).expand(10**12),
        "x" * 1001,
        10 ** (5000),
    ):
        with pytest.raises(WireError, match="too large"):
            sent(value)
    assert len(sent(torch.rand(250))) == 250
    deep = []
    for _ in range(wire.MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(WireError, match="deep"):
        sent(deep)
    endless = []
    endless.append(endless)
    with pytest.raises(WireError, match="deep"):
        sent(endless)


def read(content):
    return wire.read_frame(io.BytesIO(content))


def test_what_is_no_frame_is_refused_before_it_is_read():
    good = wire.frame({"a": 1}, b"123")
    assert read(good) == ({"a": 1}, b"123")
    for size in range(len(good)):
        with pytest.raises(EOFError):
            read(good[:size])
    endless = io.BytesIO(bytes(wire.HEAD.size))

    def fail(size):
        raise AssertionError(f"read {size} more")

    for head in (
        wire.HEAD.pack(b"none", 1, 1),
        wire.HEAD.pack(wire.MARK, wire.MAX_TEXT + 1, 0),
        wire.HEAD.pack(wire.MARK, 2, wire.MAX_DATA + 1),
        wire.HEAD.pack(wire.MARK, 2, 2**64 - 1),
    ):
        endless = io.BytesIO(head)
        first = endless.read
        endless.read = lambda n, f=first: f(n) or fail(n)
        with pytest.raises(WireError, match="no frame"):
            wire.read_frame(endless)
    for text in (b"[1]", b"{", b"\xff{}", b"[" * 100_000, b"9" * 5000, b""):
        whole = wire.HEAD.pack(wire.MARK, len(text), 0) + text
        with pytest.raises(WireError):
            read(whole)


LIES = [
    [],
    {},
    ["unknown"],
    [None],
    [["list"]],
    ["tensor"],
    ["tensor", "float32"],
    ["tensor", "float32", 3],
    ["tensor", "float32", [1], 2],
    ["tensor", "object", [1]],
    ["tensor", ["float32"], [1]],
    ["tensor", "float32", [-1]],
    ["tensor", "float32", [-1, -1]],
    ["tensor", "float32", [1.0]],
    ["tensor", "float32", [True]],
    ["tensor", "float32", ["1"]],
    ["tensor", "float32", [5]],  # more than the four that were sent
    ["tensor", "float32", [2**62, 4]],
    ["tensor", "float32", [0, 2**62]],
    ["tensor", "float32", [2**40, 0, 2**40]],
    ["tensor", "float32", [1] * 17],
    ["array", "bfloat16", [1]],
    ["array", "O", [1]],
    ["dtype", "Tensor"],
    ["dtype"],
    ["dict", 1],
    ["dict", [1]],
    ["dict", [["list"], 1]],
    ["object", 0],
    ["list", ["list", {"a": 1}]],
]


@pytest.mark.parametrize("lie", LIES, ids=json.dumps)
def test_a_lie_is_refused(lie):
    with pytest.raises(WireError):
        Unpacker(bytes(16), refuse).unpack(lie)


def test_bytes_that_are_no_truth_become_one():
    found = Unpacker(bytes([0, 1, 2, 255]), refuse).unpack(
        ["tensor", "bool", [4]]
    )
    assert found.view(torch.uint8).tolist() == [0, 1, 1, 1]


def test_noise_is_refused_or_plain():
    """Mutilated values give a plain value or the one error, and no other."""
    draw = random.Random(0)
    packer = Packer(refuse)
    value = {"a": [torch.rand(2, 3), (1.5, "x")], "b": np.zeros(2)}
    text = json.dumps(packer.pack(value))
    refused = 0
    for _ in range(3000):
        letters = list(text)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(letters))
            letters[place] = draw.choice('[]{},":0129-.eabtrue')
        try:
            packed = json.loads("".join(letters))
        except ValueError:
            continue
        try:
            Unpacker(bytes(packer.data), refuse).unpack(packed)
        except WireError:
            refused += 1
    assert refused > 100
