"""Train the runs of the campaign, each a line of a JSON file; the same command goes on where it was stopped.

    python -m benchmarks.campaign.run --output FILE --experiments tuning [--jobs 2] [--extra DIR]
    python -m benchmarks.campaign.run --output FILE [--seeds 5] [--experiments table order …] [--minutes 9]

Everything but `tuning` takes each rival's learning rate from what tuning found in FILE, by validation. `equilib` is
run as it comes, too, at the rate that its design was chosen with.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.campaign.plan import BUDGETS, DEFAULT, EXPERIMENTS, Job, jobs
from benchmarks.campaign.sets import load, names, only
from equilib_torch import TrainOptions, fit, summarise
from equilib_torch.commands.ending import run_command
from equilib_torch.comparison.variants import read_variant
from equilib_torch.training.evaluation import Evaluation

Line = dict[str, Any]


def train(job: Job, extra: Path | None, lr: float | None) -> Line:
    """Train one run and give its line; a failure is a line, too, with its reason."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    line: Line = {**job._asdict(), "lr": lr}
    try:
        dataset = load(job.dataset, job.seed, extra)
        text = job.variant
        if job.variant.startswith("only:"):
            dataset = only(dataset, dataset.names.index(job.variant.partition(":")[2]))
            text = "joint:fusion=sum"
        budget = {} if ":updates=" in job.variant else BUDGETS.get(job.dataset, {})
        common = TrainOptions(seed=job.seed, device="cpu", **budget, **({} if lr is None else {"lr": lr}))
        run = fit(read_variant(text, common).options, dataset)
        trace = [record["accuracy"] for record in run.history]
        summary = summarise(run, seconds_total=time.perf_counter() - started)
        return {**line, "summary": summary, "validation": trace, "calibration": calibration(run.test)}
    except Exception as error:  # a campaign of a thousand runs goes on; the results say what failed
        return {**line, "failed": " ".join(f"{type(error).__name__}: {error}".split())}


def calibration(test: Evaluation, bins: int = 15) -> dict[str, float]:
    """Measure the expected calibration error and the mean log-likelihood of all modalities together."""
    probabilities, right = test.confidences, test.predictions == test.labels
    cell = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [abs(right[cell == k].mean() - probabilities[cell == k].mean()) * (cell == k).mean() for k in set(cell)]
    return {"log_likelihood": float(test.log_likelihood), "ece": float(sum(gaps))}


def read_lines(path: Path) -> list[Line]:
    """Read the lines of finished runs; a last line that was cut off is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def tuned_rates(lines: Sequence[Line]) -> dict[str, float]:
    """Choose each variant's learning rate: the highest mean accuracy on validation at the end of tuning runs."""
    scores: dict[str, dict[float, list[float]]] = {}
    for line in lines:
        if line["experiment"] == "tuning" and "summary" in line:
            variant, _, lr = line["variant"].rpartition(":lr=")
            scores.setdefault(variant, {}).setdefault(float(lr), []).append(float(np.mean(line["validation"][-3:])))
    return {variant: max(by_rate, key=lambda lr: np.mean(by_rate[lr])) for variant, by_rate in scores.items()}


def rate_for(variant: str, tuned: dict[str, float]) -> float | None:
    """Look up the learning rate of a variant: its own, else its method's; None for the default of the product."""
    if ":lr=" in variant or variant.partition(":")[0] == DEFAULT:
        return None
    return tuned.get(
        variant, tuned.get(variant.partition(":")[0], tuned.get("late-fusion") if variant[:5] == "only:" else None)
    )


def run_all(todo: Sequence[Job], path: Path, *, extra: Path | None, n_workers: int, minutes: float) -> Iterator[Line]:
    """Train in processes, append every line as soon as its run ends, and stop starting runs when the time is up."""
    tuned, deadline = tuned_rates(read_lines(path)), time.monotonic() + 60 * minutes
    waiting, running = list(reversed(todo)), set[Future[Line]]()
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool, path.open("a") as file:
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < 2 * n_workers and time.monotonic() < deadline:
                job = waiting.pop()
                running.add(pool.submit(partial(train, job, extra, rate_for(job.variant, tuned))))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                file.write(json.dumps(future.result()) + "\n")
                file.flush()
                yield future.result()


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is not yet in the file; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="file of the runs, new or to go on with")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--extra", type=Path, help="folder with further data sets as .npz files")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many minutes")
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument(
        "--experiments", nargs="+", choices=["tuning", "parameters", *EXPERIMENTS], default=list(EXPERIMENTS)
    )
    options = parser.parse_args(argv)

    def command() -> None:
        datasets = options.datasets or names(options.extra)
        modalities = {name: load(name, 0, options.extra).names for name in datasets}
        finished = {(line["dataset"], line["variant"], line["seed"]) for line in read_lines(options.output)}
        planned = list(jobs(options.experiments, datasets, modalities, options.seeds))
        todo = [job for job in planned if job[1:] not in finished]
        lines = run_all(todo, options.output, extra=options.extra, n_workers=options.jobs, minutes=options.minutes)
        n_failed = sum("failed" in line for line in tqdm(lines, total=len(todo), unit="run", mininterval=5))
        print(f"{len(planned)} runs planned, {len(planned) - len(todo)} were there, {n_failed} failed")

    return run_command("benchmarks.campaign.run", command)


if __name__ == "__main__":
    raise SystemExit(main())
