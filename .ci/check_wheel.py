"""Check a built wheel from outside the checkout: `python check_wheel.py core|torch WHEEL`, the wheel being installed.

`core` is an environment with the wheel alone, `torch` one with the extra of that name. Standard library only; every
check that fails raises, so the first one ends the script.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

FILES = {
    "equilib/__init__.py",
    "equilib/py.typed",
    "equilib_cupy/__init__.py",
    "equilib_cupy/exact.cu",
    "equilib_cupy/py.typed",
    "equilib_torch/__init__.py",
    "equilib_torch/py.typed",
    "equilib_torch/data/files/ATTRIBUTION.md",
    "equilib_torch/data/files/av_digits.npz",
    "equilib_torch/data/files/mfeat.npz",
}
LICENSES = {"LICENSE", "backends/equilib_torch/data/files/ATTRIBUTION.md"}
BACKENDS, KERNELS = "equilib.backends", "equilib.kernels"


def require(holds: bool, rule: str) -> None:
    """Say what holds, or raise."""
    if not holds:
        raise SystemExit(f"check_wheel: FAILED: {rule}")
    print(f"ok: {rule}")


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands."""
    command = [sys.executable, "-m", f"equilib.{name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very Python


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `equilib` that was installed beside this Python."""
    command = [str(Path(sys.executable).with_name("equilib")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - what the wheel installed


def check_contents(wheel: Path) -> None:
    """Everything that must be inside is, and nothing else has slipped in."""
    names = set(zipfile.ZipFile(wheel).namelist())
    require(names >= FILES, f"the wheel holds {', '.join(sorted(FILES))}")
    info = next(name.partition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    licenses = {name.removeprefix(f"{info}/licenses/") for name in names if name.startswith(f"{info}/licenses/")}
    require(licenses == LICENSES, f"its metadata hold {', '.join(sorted(LICENSES))}")
    require(not any(name.endswith("README.md") for name in names), "it holds no guide, whose links would lead nowhere")
    top = {name.partition("/")[0] for name in names}
    require(all(name == info or name.startswith("equilib") for name in top), f"its top level is {sorted(top)}")


def check_core() -> None:
    """Without an extra the core works, and the command says what is missing."""
    import equilib
    from equilib import edm, shapley_schedule

    require("site-packages" in equilib.__file__, "equilib comes from the wheel")
    require(shapley_schedule([0.6, 0.2]).order.tolist() == [1, 0] and edm([1.0, 1.0]) == 0, "the core works on NumPy")
    require("torch" not in sys.modules, "without torch")
    version = run_script("--version")
    require(version.stdout == f"equilib {equilib.__version__}\n", "equilib --version says the version")
    helped = run_script("--help")
    require(helped.returncode == 0 and "compare" in helped.stdout, "equilib --help names the commands")
    for what, name in (("datasets", "av-digits"), ("estimators", "exact"), ("backends", "torch")):
        listed = run("train", "--list", what)
        require(listed.returncode == 0 and name in listed.stdout, f"train --list {what} needs no extra")
    for arguments in (["train"], ["train", "--help"], ["train", "--list", "methods"], ["compare"]):
        result = run(*arguments)
        lines = result.stderr.splitlines()
        told = result.returncode == 2 and len(lines) == 1 and "pip install '.[torch]'" in lines[0]
        require(told, f"{' '.join(arguments)} exits with 2 and says in one line: {result.stderr.strip()}")


def check_torch() -> None:
    """With the extra every entry point loads, and the command trains."""
    entries = [entry for entry in distribution("equilib-multimodal").entry_points if entry.group in (BACKENDS, KERNELS)]
    for entry in entries:
        require(entry.load() is not None, f"entry point {entry.group}: {entry.name} = {entry.value} loads")
    require(any(entry.group == BACKENDS and entry.name == "torch" for entry in entries), "the backend torch is there")
    require(any(entry.group == KERNELS and entry.name == "cupy" for entry in entries), "the kernels cupy are there")
    listed = run("train", "--list", "datasets")
    require(listed.returncode == 0 and "av-digits" in listed.stdout, "train --list datasets works")
    helped = run_script("train", "--help")
    require(helped.returncode == 0 and "--coalition-value" in helped.stdout, "equilib train --help shows the options")
    with tempfile.TemporaryDirectory() as folder:
        common = ("--dataset", "mfeat-small", "--epochs", "1", "--output")
        trained = run("train", *common, f"{folder}/run")
        print(trained.stdout, trained.stderr if trained.returncode else "", sep="")
        written = Path(folder, "run", "summary.json").is_file()
        require(trained.returncode == 0 and written, "train --dataset mfeat-small works")
        compared = run(
            "compare", *common, f"{folder}/comparison", "--methods", "joint,pmr", "--seeds", "2", "--jobs", "2"
        )
        print(compared.stdout, compared.stderr if compared.returncode else "", sep="")
        written = Path(folder, "comparison", "comparison.json").is_file()
        require(compared.returncode == 0 and written, "compare --dataset mfeat-small works")


if __name__ == "__main__":
    environment, wheel = sys.argv[1:]
    if environment not in ("core", "torch"):
        raise SystemExit(f"check_wheel: the environment must be core or torch, got {environment!r}")
    check_contents(Path(wheel))
    {"core": check_core, "torch": check_torch}[environment]()
