"""Write a model as two ONNX graphs, which many engines run.

``start.onnx`` reads the source once; ``step.onnx`` reads one more target
token and scores the next, as `Transformer.start` and `Transformer.step` do.
Between them travel tensors: for each of ``L`` decoder layers the keys and the
values, in this order, of the source (``memory``) and of the target so far
(``past``), with the layers first.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from minitransformer.config import PAD_ID
from minitransformer.errors import UserError
from minitransformer.layers import LayerState
from minitransformer.masks import padding_mask
from minitransformer.model import DecodingState, Transformer


class Start(nn.Module):
    """`Transformer.start`, with tensors for the state.

    Args:
        model: The model.
    """

    def __init__(self, model: Transformer):
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Read the source ids ``(B, S)``.

        Returns:
            The memory ``(L, 2, B, H, S, d_k)``, and the source's mask
            ``(B, 1, 1, S)``.
        """
        state = self.model.start(source)
        layers = [layer.memory for layer in state.layers]
        return torch.stack(layers), padding_mask(source, PAD_ID)


class Step(nn.Module):
    """`Transformer.step`, with tensors for the state.

    Args:
        model: The model.
    """

    def __init__(self, model: Transformer):
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, past: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read the newest token of each sentence.

        Args:
            tokens: ``(B,)``; BOS at first.
            past: ``(L, 2, B, H, t, d_k)``; ``t`` is 0 at first.
            memory: What `Start` returned.
            mask: What `Start` returned.

        Returns:
            Logits ``(B, V)``, and the past with one token more.
        """
        layers = [
            LayerState(ours, theirs)
            for ours, theirs in zip(past, memory, strict=True)
        ]
        state = DecodingState(past.shape[-2], mask, layers)
        logits = self.model.step(tokens, state)
        layers_past = [layer.past for layer in state.layers]
        return logits, torch.stack(layers_past)


def write_onnx(model: Transformer, folder: Path) -> None:
    """Write ``start.onnx`` and ``step.onnx``.

    Batch, source length and target length may be anything up to ``max_len``.

    Args:
        model: The model.
        folder: An existing folder, which gets the files.

    Raises:
        UserError: If torch's ONNX exporter is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            "The ONNX exporter is not installed: run"
            " `pip install minitransformer[export]`."
        ) from None
    model = copy.deepcopy(model).cpu().eval()
    max_len = model.config.max_len
    B = Dim("B", min=1, max=2**20)
    S = Dim("S", min=1, max=max_len)
    t = Dim("t", min=0, max=max_len - 1)
    source = torch.ones(3, 5, dtype=torch.long)  # any sizes from 2 up will do
    with torch.no_grad():
        memory, mask = Start(model)(source)
    past = memory[..., :4, :]
    _write(
        folder / "start.onnx",
        Start(model),
        {"source": source},
        ["memory", "mask"],
        {"source": {0: B, 1: S}},
    )
    _write(
        folder / "step.onnx",
        Step(model),
        {"tokens": source[:, 0], "past": past, "memory": memory, "mask": mask},
        ["logits", "new_past"],
        {
            "tokens": {0: B},
            "past": {2: B, 4: t},
            "memory": {2: B, 4: S},
            "mask": {0: B, 3: S},
        },
    )


def _write(
    path: Path,
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    sizes: dict[str, dict[int, Dim]],
) -> None:
    """Trace a module with example inputs, and write its graph."""
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=list(inputs),
            output_names=outputs,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch's exporter returned nothing")
    program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of itself and of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
