from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Any

import array_api_strict as xs
import numpy as np
import pytest
import torch

import equilib
from equilib import _kernels
from equilib._kernels import find_kernels


class Foreign(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for the array of a library of its own."""


Foreign.__module__ = "foreign.core"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install kernels, and count how often they are looked up."""
    entries: list[EntryPoint] = []
    lookups = []

    original = importlib.metadata.entry_points

    def entry_points(**selection: str) -> EntryPoints:
        if selection.get("group") != _kernels.GROUP:
            return original(**selection)  # jax looks for its own
        lookups.append(selection["name"])
        return EntryPoints(entries).select(**selection)

    def install(name: str, value: str) -> list[str]:
        entries.append(EntryPoint(name, value, _kernels.GROUP))
        return lookups

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    _kernels._load.cache_clear()
    yield install
    _kernels._load.cache_clear()


def test_found_by_array_type_and_once(installed, monkeypatch):
    kernels = object()
    monkeypatch.setitem(sys.modules, "foreign_kernels", SimpleNamespace(KERNELS=kernels))  # type: ignore[arg-type]
    lookups = installed("foreign", "foreign_kernels:KERNELS")
    assert find_kernels(Foreign()) is kernels
    assert find_kernels(Foreign()) is kernels
    assert lookups == ["foreign"]


def test_none_for_other_libraries(installed, kind):
    installed("numpy", "no_such_module:KERNELS")
    installed("torch", "no_such_module:KERNELS")
    assert find_kernels(kind.array([1.0, 2.0])) is None


@pytest.mark.parametrize("value", ["no_such_module:KERNELS", "equilib:no_such_name"])
def test_kernels_that_cannot_be_loaded_are_an_error(installed, value):
    installed("foreign", value)
    with pytest.raises(ImportError, match=rf"kernels {value} for foreign arrays cannot be loaded: .*no_such"):
        find_kernels(Foreign())


def test_shapley_values_uses_them(installed, monkeypatch, xp):
    """With any library that can be given kernels; a batch becomes rows, and its shape comes back."""
    if xp.__name__ in ("numpy", "torch"):
        pytest.skip("these compute themselves")
    tables = []

    class FakeKernels:
        def shapley_values(self, table: Any, n: int) -> Any:
            tables.append(table.shape)
            return xp.zeros((table.shape[0], n), dtype=table.dtype) + 7

    library = type(xp.zeros(1)).__module__.partition(".")[0]
    monkeypatch.setitem(sys.modules, "foreign_kernels", SimpleNamespace(KERNELS=FakeKernels()))  # type: ignore[arg-type]
    installed(library, "foreign_kernels:KERNELS")
    shapley = equilib.shapley_values(xp.zeros((2, 16, 5)), axis=1)
    assert tables == [(10, 16)]
    assert shapley.shape == (2, 4, 5)
    assert bool(xp.all(shapley == 7))


def test_entry_point_of_the_distribution():
    """In a fresh interpreter: neither equilib nor the kernels load cupy, nor does `import equilib` look for kernels."""
    code = (
        "import sys, numpy, array_api_compat\n"
        "before = 'importlib.metadata' in sys.modules\n"
        "import equilib\n"
        "assert ('importlib.metadata' in sys.modules) == before\n"
        "equilib.shapley_values([0, 1, 2, 4])\n"
        "assert 'equilib_cupy' not in sys.modules\n"
        "from importlib.metadata import distribution\n"
        "entries = [e for e in distribution('equilib-multimodal').entry_points if e.group == 'equilib.kernels']\n"
        "print(*(f'{e.name} {hasattr(e.load(), \"shapley_values\")}' for e in entries))\n"
        "print('cupy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["cupy", "True", "torch", "True", "False"]


def test_missing_kernels_are_said_once(installed):
    """With sources on the path and no entry points, a slower way must not be taken in silence."""
    array = Foreign()
    cupy_like = type("ndarray", (), {"__module__": "cupy"})()
    assert find_kernels(array) is None  # nobody promised kernels for this one
    with pytest.warns(RuntimeWarning, match=r"^no kernels for cupy arrays were found, and slower array operations"):
        assert find_kernels(cupy_like) is None
    assert find_kernels(cupy_like) is None  # a second warning would be an error


def test_kernels_choose_among_the_arrays(installed, monkeypatch):
    kernels = SimpleNamespace(takes=lambda x: x.size > 4)
    monkeypatch.setitem(sys.modules, "foreign_kernels", SimpleNamespace(KERNELS=kernels))  # type: ignore[arg-type]
    installed("foreign", "foreign_kernels:KERNELS")
    small, large = Foreign(), Foreign()
    small.size, large.size = 4, 8  # type: ignore[attr-defined]
    assert find_kernels(small) is None
    assert find_kernels(large) is kernels


def test_of_torch_only_cuda_tensors_without_gradient(installed, monkeypatch):
    kernels = object()
    monkeypatch.setitem(sys.modules, "foreign_kernels", SimpleNamespace(KERNELS=kernels))  # type: ignore[arg-type]
    installed("torch", "foreign_kernels:KERNELS")

    class OnCuda(torch.Tensor):
        is_cuda = True

    tensor = torch.zeros(4).as_subclass(OnCuda)
    assert find_kernels(tensor) is kernels
    assert find_kernels(torch.zeros(4)) is None
    assert find_kernels(torch.zeros(4, requires_grad=True).as_subclass(OnCuda)) is None


def test_kernels_that_check_spare_another_look(installed, monkeypatch):
    looks = []

    class Checked:
        def shapley_values(self, tables: Any, n: int) -> Any:
            raise AssertionError("the checked ones are there")

        def checked_shapley_values(self, tables: Any, n: int) -> Any:
            return tables[:, :n], xs.asarray([bool(tables[0, 1] > 5)])

    monkeypatch.setitem(sys.modules, "foreign_kernels", SimpleNamespace(KERNELS=Checked()))  # type: ignore[arg-type]
    monkeypatch.setattr(equilib.shapley, "require_finite_result", lambda *_, **__: looks.append(1))
    installed("array_api_strict", "foreign_kernels:KERNELS")
    assert equilib.shapley_values(xs.asarray([0.0, 1.0, 2.0, 4.0])).shape == (2,)
    assert looks == []
    equilib.shapley_values(xs.asarray([0.0, 10.0, 2.0, 14.0]))  # these ones say that something is wrong
    assert looks == [1]
