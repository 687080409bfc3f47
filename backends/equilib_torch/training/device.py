"""Where a run computes, and how precisely: through accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from equilib_torch.errors import InputError


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Set up device and precision.

    Args:
        device: auto (CUDA if there is one), cpu or cuda.
        precision: no, bf16 or fp16, the latter on CUDA only.

    Raises:
        InputError: a device or precision this machine does not have, or several processes.

    Example:
        >>> make_accelerator("cpu", "no").device
        device(type='cpu')
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device must be available, got 'cuda' on a machine without a CUDA device; use auto or cpu")
    if precision == "fp16" and (device == "cpu" or not available):
        raise InputError("precision must suit the device, got 'fp16' on a CPU; use bf16 or no")
    # accelerate keeps its first settings for the life of the process; a second run may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise InputError(f"training runs in one process, got {accelerator.num_processes}")
    return accelerator


def synchronise(device: torch.device) -> None:
    """Wait until a CUDA device has done what it was given, so that a clock read afterwards counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
