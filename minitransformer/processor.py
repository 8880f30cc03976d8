"""What there is to compute with, and what it can do."""

from functools import lru_cache
from pathlib import Path

import torch

from minitransformer.errors import UserError

DEVICES = ("cpu", "cuda", "mps")


@lru_cache(maxsize=1)
def computes_bf16() -> bool:
    """Say whether the processor has instructions for bfloat16."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


@lru_cache(maxsize=1)
def is_amd() -> bool:
    """Say whether the processor is one of AMD's, where the system tells."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def choose_device(name: str) -> torch.device:
    """Turn ``"auto"`` into the fastest device there is.

    Raises:
        UserError: If the device is unknown or absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        found = device.type in DEVICES
        if found:
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        found = False
    if not found:
        raise UserError(
            f"There is no device {name!r} here: choose auto or cpu."
        )
    return device
