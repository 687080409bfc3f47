"""Arrays of a GPU library, of which a stand-in does here what CUDA would not let pass: no implicit copies."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import equilib
from equilib import _evaluation
from equilib._evaluation import Evaluator, count_batch_entries, play_on_workers
from equilib._namespace import beside, to_host, wait_for_device


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of that name, with arrays on numbered devices that only `get` brings home."""
    log: list[Any] = []

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            log.append(("enter", self.number))

        def __exit__(self, *_: Any) -> None:
            log.append(("leave", self.number))

    class ndarray:
        __module__ = "cupy"

        def __init__(self, values: Any, device: int = 0) -> None:
            self.values, self.device = np.asarray(values), Device(device)

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")

        def get(self) -> np.ndarray:
            return self.values

    module: Any = ModuleType("cupy")
    module.ndarray, module.log, module.Device = ndarray, log, Device
    stream = SimpleNamespace(synchronize=lambda: log.append("synchronize"))
    module.cuda = SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_arrays_are_brought_home_in_their_own_words(cupy):
    np.testing.assert_array_equal(to_host(cupy.ndarray([1.0, 2.0])), [1, 2])


def test_computing_beside_an_array_is_computing_on_its_device(cupy):
    with beside(cupy.ndarray([1.0], device=3)):
        assert cupy.log == [("enter", 3)]


def test_waiting_for_an_array_waits_on_its_device(cupy):
    wait_for_device(cupy.ndarray([1.0], device=2))
    assert cupy.log == [("enter", 2), "synchronize", ("leave", 2)]
    wait_for_device(np.zeros(3))
    wait_for_device([1, 2])
    assert len(cupy.log) == 3


def test_workers_get_finished_coalitions_and_hand_over_finished_answers(cupy):
    """Each thread has a stream of its own, which does not wait for another's."""

    def game(coalitions: Any) -> Any:
        assert cupy.log[-2:] == ["synchronize", ("leave", 1)]
        cupy.log.append("played")
        return cupy.ndarray(coalitions.get().sum(axis=1), device=1)

    batches = iter([SimpleNamespace(coalitions=cupy.ndarray(np.eye(3), device=1), rows=3, first=0)])
    with ThreadPoolExecutor(1) as executor:
        ((answer, rows),) = play_on_workers(game, executor, batches)  # type: ignore[arg-type]
    assert (answer.get().tolist(), rows) == ([1, 1, 1], 3)
    wait = [("enter", 1), "synchronize", ("leave", 1)]
    assert cupy.log == [*wait, "played", *wait]


def test_sums_are_kept_in_numpy_where_the_library_lacks_what_they_take():
    import array_api_compat.dask.array as dask_namespace
    import array_api_compat.torch as torch_namespace

    def namespace(xp: Any, device: Any = None) -> Any:
        game: Any = sum
        return Evaluator(game, 3, xp=xp, device=device, batch_size=None, executor=None).sampling_namespace.__name__

    assert namespace(torch_namespace) == "array_api_compat.torch"
    assert namespace(dask_namespace) == "array_api_compat.numpy"


@pytest.mark.parametrize(("memory", "entries"), [(2**30, 2**22), (2**35, 2**25), (2**40, 2**26)])
def test_batches_grow_with_the_memory_of_a_device(monkeypatch, memory, entries):
    import torch

    properties = {"cuda:1": SimpleNamespace(total_memory=memory)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[str(device)])
    assert count_batch_entries(torch, "cuda:1") == entries
    assert count_batch_entries(torch, None) == 2**22
    assert count_batch_entries(np, None) == 2**22
    with torch.device("cuda", 1):
        assert count_batch_entries(torch, None) == entries


def test_batches_grow_with_the_memory_that_cupy_tells(cupy):
    class Device:
        mem_info = (1, 2**34)

    cupy.cuda.Device = Device
    assert count_batch_entries(cupy, None) == 2**24
    assert count_batch_entries(cupy, SimpleNamespace(mem_info=(1, 2**35))) == 2**25


def test_larger_batches_of_a_device_change_no_result(monkeypatch):
    import array_api_strict as xs

    device, calls = xs.Device("device1"), []

    def game(coalitions: Any) -> Any:
        calls.append(coalitions.shape[0])
        return xs.sum(xs.astype(coalitions, xs.float64), axis=1) ** 2

    def run() -> list[float]:
        calls.clear()
        estimate = equilib.estimate_shapley(game, 8, budget=2000, estimator="antithetic", xp=xs, device=device, seed=0)
        return np.asarray(estimate.values.to_device(xs.Device("CPU_DEVICE"))).tolist()

    monkeypatch.setattr(_evaluation, "DEFAULT_BATCH_ENTRIES", 2**10)
    expected, small = run(), len(calls)
    monkeypatch.setattr(_evaluation, "find_memory", lambda xp, there: 2**24 if there == device else None)
    assert run() == pytest.approx(expected, abs=1e-12)
    assert len(calls) < small / 4


@pytest.mark.parametrize("first", ["torch", "strict", "numpy"])
@pytest.mark.parametrize("second", ["torch", "jax", "list"])
def test_arguments_of_two_libraries_meet_in_the_first(first, second):
    import array_api_strict
    import jax.numpy
    import torch

    make = {
        "numpy": np.asarray,
        "strict": array_api_strict.asarray,
        "torch": torch.tensor,
        "jax": jax.numpy.asarray,
        "list": list,
    }
    phi, target = make[first]([0.3, 0.1]), make[second]([0.75, 0.25])
    assert type(equilib.edm(phi, target=target)).__module__.split(".")[0] == type(phi).__module__.split(".")[0]
    assert float(equilib.edm(phi, target=target)) == pytest.approx(0, abs=1e-6)
    init, update, schedule = equilib.shapley_scheduler(2, smoothing=0.5)
    state = update(update(init(), phi), target)  # it saw one library, then another
    assert np.asarray(state.average).tolist() == pytest.approx([0.525, 0.175])
    assert np.asarray(schedule(state).order).tolist() == [1, 0]


def test_the_benchmark_says_in_one_line_that_there_is_no_gpu():
    if subprocess.run(["which", "nvidia-smi"], capture_output=True, check=False).returncode == 0:
        pytest.skip("there may be one")
    result = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("benchmarks.gpu needs cupy and a CUDA device, and there is none here: ")
    assert result.stderr.count("\n") == 1
