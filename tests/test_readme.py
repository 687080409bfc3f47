"""The first page and the guides: their examples run as printed, their commands parse, what they list is complete."""

from __future__ import annotations

import importlib
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import equilib
from equilib.estimators import ESTIMATORS
from equilib.schedule import POLICIES
from equilib_torch import TrainOptions, fit, load_dataset, summarise
from equilib_torch.commands.compare import compare_command
from equilib_torch.commands.prepare import read_arguments
from equilib_torch.commands.train import train_command
from equilib_torch.comparison.variants import read_variant
from equilib_torch.data import DATASETS
from equilib_torch.data.public import PUBLIC
from equilib_torch.methods import METHODS
from equilib_torch.network import ENCODERS, FUSIONS
from equilib_torch.training.evaluation import VALUES

ROOT = Path(__file__).parents[1]
README, CORE, TORCH, BENCHMARKS = (
    (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for folder in (".", "equilib", "backends/equilib_torch", "benchmarks")
)
PAGES = [*sorted(ROOT.glob("*.md")), *(ROOT / folder / "README.md" for folder in ("equilib", "benchmarks"))]
PAGES += sorted(ROOT.glob("backends/*/README.md"))
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
GUIDES = [name for name in TEXTS if name.endswith("README.md")]

EXAMPLE = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(*match.groups(), id=f"{name}:{TEXTS[name].count(chr(10), 0, match.start()) + 1}")
    for name in GUIDES
    for match in EXAMPLE.finditer(TEXTS[name])
]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = [line for name in GUIDES for block in SHELL.findall(TEXTS[name]) for line in block.splitlines()]
SET_UP = re.compile(r"^python3 -m venv \.venv && (.*)$", re.MULTILINE)


def arguments_of(pattern):
    """Arguments of every command that starts with a pattern, comments left out."""
    found = [(re.match(pattern, line), line) for line in COMMANDS]
    return [(match, shlex.split(line[match.end() :], comments=True)) for match, line in found if match]


@pytest.mark.parametrize("name", GUIDES)
def test_every_example_has_its_output(name):
    assert len(EXAMPLE.findall(TEXTS[name])) == TEXTS[name].count("```python")


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_example(code, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # examples may write files
    monkeypatch.setenv("EQUILIB_CACHE", str(tmp_path / "cache"))
    exec(compile(code, "guide", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("text", [README, CORE], ids=["README.md", "equilib/README.md"])
def test_the_first_example_needs_no_framework(text):
    first = EXAMPLE.search(text)["code"]
    assert set(re.findall(r"^(?:import|from) (\w+)", first, re.MULTILINE)) <= {"numpy", "equilib"}


def test_the_first_page_is_short_and_its_picture_small():
    assert README.count("\n") <= 120
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 1
    assert (ROOT / pictures[0]).stat().st_size < 60_000


# --- commands --------------------------------------------------------------------------------------------------------


def test_set_up_commands_are_those_the_checks_run():
    commands = SET_UP.findall(README)
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert [command.rpartition(" && ")[2] for command in commands] == [
        ".venv/bin/python -m equilib.train --backend torch",
        ".venv/bin/python -m pytest",
    ]
    for command in commands:
        assert f'readme_command "{command}"' in checks


def test_every_command_is_checked():
    ours = r"equilib (train|compare|prepare) |python -m benchmarks\.|asv |python3 -m venv "
    assert COMMANDS
    assert [line for line in COMMANDS if not re.match(ours, line)] == []


def test_training_commands_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    config = io.StringIO()
    with redirect_stdout(config), pytest.raises(SystemExit):
        train_command(["--print-config"])
    (tmp_path / "run" / "config.yaml").write_text(config.getvalue(), encoding="utf-8")
    commands = [(match[1], arguments) for match, arguments in arguments_of("equilib (train|compare)")]
    assert len(commands) >= 10
    for name, arguments in commands:
        if "--list" in arguments or "--help" in arguments:
            continue
        printed = io.StringIO()
        with redirect_stdout(printed), pytest.raises(SystemExit) as ended:
            {"train": train_command, "compare": compare_command}[name]([*arguments, "--print-config"])
        assert ended.value.code in (0, None)
        if "--methods" in arguments:
            for variant in arguments[arguments.index("--methods") + 1].split(","):
                assert read_variant(variant, TrainOptions()).name == variant


def test_preparing_commands_parse():
    commands = [arguments for _, arguments in arguments_of("equilib prepare")]
    assert commands
    for arguments in commands:
        assert read_arguments(arguments).source


def test_the_names_that_can_be_listed_are_complete(capsys):
    from equilib._commands import _LISTS

    listed = re.search(r"--list (\w+) +# or ([\w, ]+)", TORCH)
    assert sorted([listed[1], *re.findall(r"\w+", listed[2].replace(" or ", " "))]) == sorted(_LISTS)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        pytest.param(match[1], arguments, id=f"{match[1]} {' '.join(arguments)}")
        for match, arguments in arguments_of(r"python -m (benchmarks[\w.]+)")
    ],
)
def test_benchmarks_have_the_options_shown(module, arguments):
    source = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
    for flag in (argument for argument in arguments if argument.startswith("--")):
        assert re.search(rf'add_argument\(\s*"{flag}"', source), flag


# --- lists -----------------------------------------------------------------------------------------------------------


def test_the_core_guide_lists_every_function_and_estimator():
    listed = re.findall(r"^\| `(\w+)\(", CORE, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in equilib.__all__ if name.islower())
    assert re.findall(r"^\| `([a-z-]+)` \|", CORE, re.MULTILINE) == list(ESTIMATORS)


@pytest.mark.parametrize(
    "known",
    [METHODS, FUSIONS, ENCODERS, VALUES, DATASETS, PUBLIC, POLICIES],
    ids=["methods", "fusions", "encoders", "values", "datasets", "public", "policies"],
)
def test_the_training_guide_names_everything_there_is_to_choose(known):
    assert [name for name in known if f"`{name}`" not in TORCH] == []


def test_summary_keys_are_those_of_a_run():
    options = TrainOptions(dataset="mfeat-small", epochs=1)
    summary = summarise(fit(options, load_dataset(options.dataset, seed=0)), seconds_total=1.0)
    listed = re.search(r"`summary\.json` holds `([^`]*)`", TORCH)
    assert listed is not None
    assert listed[1].split() == list(summary)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    folder = (ROOT / name).parent
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXTS[name]):
        path = folder / target if target else ROOT / name
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


def test_no_page_names_the_stranger_s_distribution():
    for name, text in TEXTS.items():
        assert not re.search(r"pip install (-\S+ )*[\"']?equilib\b(?!-multimodal)", text), name


def test_the_method_shown_to_contributors_is_real():
    shown = re.findall(r"^```python\n(.*?)^```", TEXTS["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL)
    method = ROOT / "backends" / "equilib_torch" / "methods" / "joint.py"
    assert shown == [method.read_text(encoding="utf-8")]


def test_the_flags_that_were_renamed_are_there_by_their_new_names_only():
    flags = {f"--{name.replace('_', '-')}" for name in TrainOptions.__dataclass_fields__}
    renamed = re.findall(r"^\| `(--[\w-]+)[^`]*` \| `(--[\w-]+)", TEXTS["CHANGELOG.md"], re.MULTILINE)
    assert len(renamed) >= 5
    for old, new in renamed:
        assert new in flags
        assert old not in flags or old == "--updates"  # which has another meaning now
