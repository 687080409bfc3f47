"""Where a run computes, how precisely, and apart from what the caller has set in torch.

torch alone, and not accelerate: that keeps one setting for the whole process, which is the caller's, and reads the
variables of launchers, which are not meant for this one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch

from equilib_torch.errors import InputError

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """A device and a precision.

    Attributes:
        device: of the network and its batches.
        precision: no, bf16 or fp16.
    """

    device: torch.device
    precision: str

    def autocast(self) -> torch.autocast:
        """Make a context in which operations run in the precision of the run."""
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "no")

    def new_scaler(self) -> torch.amp.GradScaler:
        """Make what keeps the gradients of fp16 in range; it does nothing in any other precision."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @property
    def generators(self) -> dict[str, torch.Generator]:
        """The global generators that random operations of a run draw from, by type of device."""
        generators = {"cpu": torch.default_generator}
        if self.device.type == "cuda":
            generators["cuda"] = torch.cuda.default_generators[self.device.index]
        return generators


def find_machine(device: str, precision: str) -> Machine:
    """Find a device, and hold a precision against it.

    Args:
        device: auto (CUDA if there is one), cpu or cuda.
        precision: no, bf16 or fp16, the latter on CUDA only.

    Raises:
        InputError: a device or precision this machine does not have, or one of several processes.

    Example:
        >>> find_machine("cpu", "no").device
        device(type='cpu')
    """
    _require_one_process()
    on_cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not on_cuda:
        raise InputError("device must be available, got 'cuda' on a machine without a CUDA device; use auto or cpu")
    if precision == "fp16" and not on_cuda:
        raise InputError("precision must suit the device, got 'fp16' on a CPU; use bf16 or no")
    return Machine(torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu"), precision)


def _require_one_process() -> None:
    """Refuse one of several processes: each would train the whole run, and write to the same place."""
    written = os.environ.get("WORLD_SIZE", "1")
    n_processes = int(written) if written.isdecimal() else 1
    if n_processes > 1:
        raise InputError(f"training runs in one process, got WORLD_SIZE={n_processes}; start it without a launcher")


@contextmanager
def apart_from_caller(device: torch.device) -> Iterator[None]:
    """Compute as if nothing else had used torch in this process, and leave no trace of it.

    Inside, gradients are recorded, autocast is off and tensors are float32, whatever the caller has set; CUDA devices
    compute by `_repeatable_cuda`. Afterwards the random states of the CPU and of `device`, which inside are the
    caller's at first, are put back.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        # Of the devices that are used: to ask for the state of CUDA would open it.
        stack.enter_context(torch.random.fork_rng([device.index] if device.type == "cuda" else []))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        if device.type == "cuda":
            stack.enter_context(_repeatable_cuda())
        yield


@contextmanager
def _repeatable_cuda() -> Iterator[None]:
    """Make convolutions and products of float32 as exact as on a CPU, not TF32, and the same each time."""
    cudnn = torch.backends.cudnn
    operations = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn  # type: ignore[attr-defined]  # stubs lack conv
    # torch has two sets of names for the same, and refuses to read the older where the newer were set apart from it:
    # then it is at its default.
    convolves, multiplies = True, "highest"
    with suppress(RuntimeError):
        convolves = cudnn.allow_tf32
    with suppress(RuntimeError):
        multiplies = torch.get_float32_matmul_precision()
    newer = [operation.fp32_precision for operation in operations]
    algorithms = cudnn.deterministic, cudnn.benchmark
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = algorithms
        cudnn.allow_tf32 = convolves
        torch.set_float32_matmul_precision(multiplies)
        for operation, precision in zip(operations, newer, strict=True):
            operation.fp32_precision = precision


def synchronise(device: torch.device) -> None:
    """Wait until a CUDA device has done what it was given, so that a clock read afterwards counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
