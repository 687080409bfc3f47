from __future__ import annotations

import subprocess
import sys

import equilib

FRAMEWORKS = ("torch", "jax", "cupy", "scipy", "dask", "equilib_torch", "equilib_cupy")


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_import_loads_no_framework():
    top_level = "import sys, equilib; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(run(top_level).split())
    assert {"equilib", "numpy", "array_api_compat"} <= loaded
    assert loaded.isdisjoint(FRAMEWORKS)


def test_numpy_work_loads_no_framework():
    code = (
        "import sys, equilib\n"
        "phi = equilib.shapley_values([0, 1, 2, 4])\n"
        "equilib.edm(phi), equilib.shapley_schedule(phi, policy='random')\n"
        "equilib.expected_when_missing([0, 1, 2, 4], 0.5), equilib.coalitions(3)\n"
        "equilib.shapley_interactions([0, 1, 2, 4]), equilib.pairwise_synergy([0, 1, 2, 4])\n"
        "init, update, schedule = equilib.shapley_scheduler(2)\n"
        "schedule(update(init(), phi))\n"
        "import numpy as np; data = {'a': np.arange(4.0), 'b': np.ones(4)}, np.arange(4) // 2\n"
        "str(equilib.audit(lambda x: x['a'] > 1.5, data))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert set(run(code).split()).isdisjoint(FRAMEWORKS)


def test_import_adds_only_numpy_and_array_api_compat():
    code = (
        "import sys, numpy, array_api_compat\n"
        "before = set(sys.modules)\n"
        "import equilib\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    assert set(run(code).split()) - sys.stdlib_module_names == {"equilib"}


def test_public_names():
    assert set(equilib.__all__) == {
        "Audit",
        "Schedule",
        "Scheduler",
        "SchedulerState",
        "ShapleyEstimate",
        "audit",
        "banzhaf_values",
        "coalitions",
        "contribution_shares",
        "edm",
        "estimate_shapley",
        "expected_when_missing",
        "pairwise_synergy",
        "shapley_interactions",
        "shapley_schedule",
        "shapley_scheduler",
        "shapley_values",
    }
    assert all(getattr(equilib, name).__doc__ for name in equilib.__all__)
