"""The processes that train one model together, started by ``torchrun``.

    torchrun --nproc-per-node 2 -m minitransformer train --corpus storybook \\
        --out models/story

Each process reads other batches; their gradients are added up before every
update, so all of them keep the same weights (data parallelism: Li et al.,
2020). A model that is too large for that is divided, so that each process
keeps a part of every weight and gathers a layer's just before it is needed
(sharding: Zhao et al., 2023).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from minitransformer.errors import UserError


@dataclass(frozen=True)
class Workers:
    """Which process this is, and how many there are.

    Attributes:
        rank: From 0; the first one writes and reports.
        size: Number of processes.
        sharded: Whether each keeps only its part of a model.
    """

    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def shard(
        self, module: nn.Module, layers: Iterable[nn.Module]
    ) -> nn.Module:
        """Leave each worker its part of every parameter, if so wanted.

        Args:
            module: Is changed in place; its gradients become the workers'
                mean, and are divided too.
            layers: Modules inside that are gathered one at a time.

        Raises:
            UserError: If this PyTorch can't do it.
        """
        if not self.sharded:  # or import nothing: it takes a second
            return module
        try:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard
        except ImportError:
            raise UserError(
                f"PyTorch {torch.__version__} can't divide a model: install"
                " 2.6 or later, or leave out --shard."
            ) from None
        kind = next(module.parameters()).device.type
        mesh = init_device_mesh(kind, (self.size,))
        for each in (*layers, module):
            fully_shard(each, mesh=mesh)
        return module

    def whole(self, tensor: Tensor) -> Tensor:
        """Gather a tensor of which each worker may have a part."""
        if self.sharded:
            from torch.distributed.tensor import DTensor

            if isinstance(tensor, DTensor):
                tensor = tensor.full_tensor()
        return tensor

    def part_of(self, whole: Tensor, like: Tensor) -> Tensor:
        """Return the part of ``whole`` that a worker keeps of ``like``."""
        if self.sharded:
            from torch.distributed.tensor import DTensor, distribute_tensor

            if isinstance(like, DTensor):
                mesh, placements = like.device_mesh, like.placements
                return distribute_tensor(whole, mesh, placements)
        return whole

    def share(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Wrap a module so that its gradients are the workers' mean."""
        if self.size == 1 or self.sharded:
            return module
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(
            module, ids, gradient_as_bucket_view=True
        )

    def sum(self, *numbers: float, device: torch.device) -> list[float]:
        """Add up each number over the workers."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        found: list[float] = total.tolist()
        return found

    def gather(self, tensor: Tensor, device: torch.device) -> list[Tensor]:
        """Return every worker's tensor; all have one shape.

        They travel by way of ``device``, since nccl knows of no other.
        """
        if self.size == 1:
            return [tensor]
        sent = tensor.to(device)
        found = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(found, sent)
        return [each.to(tensor.device) for each in found]

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.size > 1:
            dist.barrier()

    def part(self) -> None:
        """End the work together."""
        if self.size > 1:
            dist.destroy_process_group()


def join_workers(
    device: torch.device, sharded: bool = False
) -> tuple[Workers, torch.device]:
    """Join the processes that ``torchrun`` started, if it did.

    Args:
        device: ``cpu`` or ``cuda``.
        sharded: Whether they divide the model.

    Returns:
        The workers, and the device of this one.

    Raises:
        UserError: If there is nobody to divide a model with.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        if sharded:
            raise UserError(
                "A model is divided among processes: start them with"
                " `torchrun --nproc-per-node 2 -m minitransformer train ...`,"
                " or leave out --shard."
            )
        return Workers(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    store, rank, size = next(rendezvous("env://"))
    # It outlives a failure, with the addresses of those that failed in it.
    store = dist.PrefixStore(  # type: ignore[attr-defined]
        f"attempt-{restarts()}", store
    )
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
    )
    return Workers(rank, size, sharded), device


def restarts() -> int:
    """Return how often ``torchrun`` has started this anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
