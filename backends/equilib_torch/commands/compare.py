"""The comparing command of the torch backend: parse, check everything, train what is missing, write, show the table."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from equilib_torch.commands.ending import run_command
from equilib_torch.errors import InputError
from equilib_torch.streams import say, say_aside, warn
from equilib_torch.training.arguments import add_options, new_parser, parse, read_options, usual_for
from equilib_torch.training.options import TrainOptions

if TYPE_CHECKING:
    from equilib_torch.comparison.queue import PlannedRun
    from equilib_torch.comparison.variants import Variant

_PROG = "equilib.compare"
_DESCRIPTION = (
    "Train several methods on one data set with the same options and several seeds, and put them in one table with "
    "significance tests. The options below that train has too apply to all of them."
)
_LEFT_OUT = ("method", "seed", "output")


class Request(NamedTuple):
    """What the command line asks for.

    Attributes:
        common: options of all runs.
        variants: their texts; None for every method.
        seeds: number of seeds, from 0.
        jobs: number of processes.
        output: directory of the comparison; None for one that is thrown away.
        quiet: no progress, and no table on standard output.
    """

    common: TrainOptions
    variants: list[str] | None
    seeds: int
    jobs: int
    output: str | None
    quiet: bool


def compare_command(argv: Sequence[str]) -> int:
    """Compare as these arguments say; return 0, 2 for bad input or a failed run, or 130 if interrupted."""
    runs: list[PlannedRun] = []

    def command() -> None:
        request = _parse(argv)
        # Imported when the arguments are in order: help and wrong usage need none of it.
        from equilib_torch.comparison.queue import open_comparison, plan_runs
        from equilib_torch.comparison.variants import default_variants, read_variants
        from equilib_torch.data import describe
        from equilib_torch.training.device import find_machine
        from equilib_torch.training.samples import prepare_samples

        dataset = request.common.data.load(0, progress=not request.quiet)
        request = request._replace(common=request.common.resolved(dataset))
        if dataset.schema is not None and not request.quiet:
            say(f"{describe(dataset.schema)}\n")
        for note in () if request.quiet else dataset.notes:
            say_aside(f"{_PROG}: note: {note}")
        find_machine(request.common.device, request.common.precision)
        variants = read_variants(request.variants or default_variants(), request.common, dataset)
        for variant in () if request.quiet else variants:
            if n := prepare_samples(variant.options, dataset).n_excluded:
                warn(f"{variant.name}: {n} training samples lack a modality and are excluded (with seed 0)")
        if request.output is not None:
            with open_comparison(request.output) as directory:
                runs.extend(plan_runs(variants, range(request.seeds), directory))
                _compare(request, runs, variants)
        else:
            with tempfile.TemporaryDirectory() as folder:
                _compare(request, plan_runs(variants, range(request.seeds), Path(folder)), variants)

    def state() -> str:
        if not runs:
            return ""
        finished = sum(run.finished for run in runs)
        again = shlex.join(["python", "-m", "equilib.compare", *argv])
        return f"; {finished} of {len(runs)} runs are finished; go on by: {again}"

    return run_command("equilib.compare", command, state=state)


def _compare(request: Request, runs: Sequence[PlannedRun], variants: Sequence[Variant]) -> None:
    """Train what is missing, write the report if there is a directory for it, and print the table.

    Raises:
        InputError: a run failed; the report of the others is there.
    """
    from equilib_torch.comparison.markdown import markdown
    from equilib_torch.comparison.queue import run_all
    from equilib_torch.comparison.report import write_report
    from equilib_torch.comparison.table import summarise_runs

    outcomes = run_all(runs, jobs=request.jobs, progress=not request.quiet)
    failed = [outcome for outcome in outcomes if outcome.summary is None]
    if len(failed) == len(outcomes):
        raise InputError(f"all {len(failed)} runs failed, the first: {failed[0].reason}")
    table = summarise_runs(outcomes)
    try:
        if request.output is not None:
            write_report(Path(request.output), table, outcomes, variants)
    finally:
        if not request.quiet:
            say(markdown(table).rstrip())
    if request.output is not None:
        say(f"\nWritten to {request.output}")
    if failed:
        raise InputError(f"{len(failed)} of {len(outcomes)} runs failed, the first: {failed[0].reason}")


def _parse(argv: Sequence[str]) -> Request:
    parser = new_parser(_PROG, _DESCRIPTION)
    methods = (
        "METHOD or METHOD:name=value:…, separated by commas, such as joint:fusion=memory or ogm-ge:alpha=0.5; "
        "default: every method and joint:fusion=memory"
    )
    parser.add_argument("--methods", type=str | None, default=None, help=methods)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0; tests need 2")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time, each in a process of its own")
    output: dict[str, Any] = {"type": str | None, "default": None}
    where = "directory for runs, tables and plots, new or that of a comparison to go on with; default: print the table"
    parser.add_argument("--output", **output, help=where)
    usual = usual_for(argv)
    add_options(parser, usual, leave_out=_LEFT_OUT)
    known = parse(parser, argv)
    for name in ("seeds", "jobs"):
        if known[name] is None or known[name] < 1:
            raise InputError(f"{name} must be at least 1, got {known[name]}")
    variants = None if known["methods"] is None else [text.strip() for text in known["methods"].split(",")]
    options = read_options(known, usual=usual, leave_out=_LEFT_OUT)
    return Request(options, variants, known["seeds"], known["jobs"], known["output"], known["quiet"])
