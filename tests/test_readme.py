"""The README's examples run as printed, its commands are those that are checked, and what it lists is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from equilib_torch import TrainOptions, fit, load_dataset, summarise

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [match.groups() for match in BLOCK.finditer(README)]
SET_UP = re.compile(r"^python3 -m venv \.venv && (.*)$", re.MULTILINE)


def test_every_example_has_its_output():
    assert len(EXAMPLES) == README.count("```python") >= 4


@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=[f"number {i}" for i in range(1, len(EXAMPLES) + 1)])
def test_example(code, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # examples may write files
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == output


def test_numpy_example_is_first_and_needs_no_framework():
    assert set(re.findall(r"^(?:import|from) (\w+)", EXAMPLES[0][0], re.MULTILINE)) == {"numpy", "equilib"}


def test_commands_are_those_the_checks_run():
    commands = SET_UP.findall(README)
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert [command.rpartition(" && ")[2] for command in commands] == [
        ".venv/bin/python -m equilib.train --backend torch",
        ".venv/bin/python -m pytest",
    ]
    for command in commands:
        assert f'readme_command "{command}"' in checks


def test_summary_keys_are_those_of_a_run():
    options = TrainOptions(dataset="mfeat-small", epochs=1)
    summary = summarise(fit(options, load_dataset(options.dataset, seed=0)), seconds_total=1.0)
    listed = re.search(r"`summary\.json` holds `([^`]*)`", README)
    assert listed is not None
    assert listed[1].split() == list(summary)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_method_shown_to_contributors_is_real():
    shown = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    method = ROOT / "backends" / "equilib_torch" / "methods" / "joint.py"
    assert shown == [method.read_text(encoding="utf-8")]
