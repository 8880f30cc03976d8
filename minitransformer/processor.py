"""What the processor can do."""

from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def computes_bf16() -> bool:
    """Say whether the processor has instructions for bfloat16."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
