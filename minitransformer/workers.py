"""The processes that train one model together, started by ``torchrun``.

    torchrun --nproc-per-node 2 -m minitransformer train --corpus storybook \\
        --out models/story

Each process reads other batches; their gradients are added up before every
update, so all of them keep the same weights.
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Workers:
    """Which process this is, and how many there are.

    Attributes:
        rank: From 0; the first one writes and reports.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def share(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Wrap a module so that its gradients are the workers' mean."""
        if self.size == 1:
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


def join_workers(device: torch.device) -> tuple[Workers, torch.device]:
    """Join the processes that ``torchrun`` started, if it did.

    Args:
        device: ``cpu`` or ``cuda``.

    Returns:
        The workers, and the device of this one.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
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
    return Workers(rank, size), device


def restarts() -> int:
    """Return how often ``torchrun`` has started this anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
