"""Devices, and where the time goes."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress

import pytest
import torch

from equilib_torch import InputError
from equilib_torch.training.clock import Clock
from equilib_torch.training.device import _repeatable_cuda, apart_from_caller, find_machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [("cuda", "no", "device must be available, got 'cuda'"), ("auto", "fp16", "precision must suit the device")],
)
def test_what_the_machine_lacks_is_refused(device, precision, message):
    with pytest.raises(InputError, match=message):
        find_machine(device, precision)


@pytest.mark.parametrize("value", ["", "many", "1", "0"])
def test_a_launcher_s_variable_that_says_nothing_of_several_processes(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", value)
    assert find_machine("cpu", "no").device == torch.device("cpu")


def test_autocast_has_the_precision_asked_for():
    x = torch.ones(2, 2)
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        with find_machine("cpu", precision).autocast():
            assert (x @ x).dtype == dtype


def test_nothing_stays_where_it_fails():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad(), suppress(ZeroDivisionError), apart_from_caller(torch.device("cpu")):
        assert torch.is_grad_enabled()
        torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def settings_of_cuda():
    """All that torch says of how CUDA devices compute, by its older names where those can be read."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    values = [cudnn.deterministic, cudnn.benchmark]
    values += [operation.fp32_precision for operation in (matmul, cudnn.conv, cudnn.rnn)]
    for read in (lambda: cudnn.allow_tf32, lambda: matmul.allow_tf32, torch.get_float32_matmul_precision):
        try:
            values.append(read())
        except RuntimeError:
            values.append("unreadable")
    return values


@pytest.mark.parametrize("changed", ["nothing", "high", "benchmark", "older", "newer", "both"])
def test_cuda_computes_float32_and_as_before_afterwards(changed):
    cudnn = torch.backends.cudnn
    before = settings_of_cuda()
    try:
        if changed == "high":
            torch.set_float32_matmul_precision("high")
        if changed == "benchmark":
            cudnn.benchmark = True
        if changed in ("older", "both"):
            cudnn.allow_tf32 = False
        if changed in ("newer", "both"):
            cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = "ieee", "tf32"
        as_changed = settings_of_cuda()
        assert (as_changed == before) == (changed == "nothing")
        with suppress(ZeroDivisionError), _repeatable_cuda():
            assert not cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
            assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
            raise ZeroDivisionError
        assert settings_of_cuda() == as_changed
    finally:
        cudnn.allow_tf32, cudnn.benchmark = True, False
        torch.set_float32_matmul_precision("highest")
        for operation, precision in zip((torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn), before[2:5], strict=True):
            operation.fp32_precision = precision
    assert settings_of_cuda() == before


def test_runs_on_cuda_are_repeatable(monkeypatch):
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    before = settings_of_cuda()
    with apart_from_caller(torch.device("cpu")):
        assert settings_of_cuda() == before
    with apart_from_caller(torch.device("cuda", 0)):
        assert not torch.backends.cudnn.allow_tf32
    assert settings_of_cuda() == before


def test_a_moment_counts_for_one_part(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"))
    with clock.measure("train"):
        now += 1
    now += 100  # between two parts
    with clock.measure("evaluate"):
        now += 10
        for _ in range(2):
            with clock.measure("schedule"):
                now += 4
            now += 2
    assert clock.seconds == {"train": 1, "schedule": 8, "evaluate": 14}


def test_a_part_that_fails_is_over(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"))
    with suppress(ZeroDivisionError), clock.measure("train"):
        now += 1
        raise ZeroDivisionError
    now += 5
    with clock.measure("evaluate"):
        now += 1
    assert clock.seconds == {"train": 1, "schedule": 0, "evaluate": 1}
