"""Samples that lack modalities: what is stored in their place moves nothing, in any method and any fusion."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from combinations import PAIRS
from methods_reference import Recorder, assert_same, begin, make_case, plan_of

from equilib_torch.data.batches import Batch
from equilib_torch.methods import METHODS
from equilib_torch.methods.rehearsal import rehearse
from equilib_torch.training.stacking import stack

PARAMETERS = {"g-blending": {"every": 1}}


def present_of(case, n_rows, rng):
    """Who has what: (n_rows, 3)."""
    present = np.ones((n_rows, 3), np.bool_)
    if case == "nobody has the last":
        present[:, 2] = False
    elif case == "everybody lacks one":
        present[np.arange(n_rows), np.arange(n_rows) % 3] = False
    elif case == "one sample has the last":
        present[1:, 2] = False
    else:
        present = rng.random((n_rows, 3)) < 0.4
        present[np.arange(n_rows), rng.integers(3, size=n_rows)] = True
    return torch.from_numpy(present)


CASES = ("some lack some", "nobody has the last", "everybody lacks one", "one sample has the last")


def cleared(batch: Batch, present):
    """The batch with only this present, 0 elsewhere."""
    return filled(batch._replace(present=present), lambda x: torch.zeros_like(x), 1)


def filled(batch: Batch, fill, length):
    """The batch with other content where a modality is absent."""
    inputs, lengths = [], []
    for x, n, here in zip(batch.inputs, batch.lengths, batch.present.T, strict=True):
        inputs.append(torch.where(here.view(-1, *[1] * (x.ndim - 1)), x, fill(x)))
        lengths.append(None if n is None else torch.where(here, n, length))
    return batch._replace(inputs=tuple(inputs), lengths=tuple(lengths))


def outcome(method, network, batches):
    """Everything that three updates, and stacking after them, leave behind."""
    settings = {"train": batches, "val": batches, "lr": 0.01, "weight_decay": 0.0}
    update = begin(method, network, partial(rehearse, network, **settings), **PARAMETERS.get(method, {}))
    network.fusion.start_epoch(inherit=True)
    step = Recorder(network)
    for i, batch in enumerate(batches):
        torch.manual_seed(i)
        update(network, batch, plan_of(3)._replace(progress=0.4 * i), step)
    network.fusion.start_epoch(inherit=True)
    stack(network, batches)
    weights = {name: x.detach().clone() for name, x in network.state_dict().items()}
    weights |= {f"loss {i}": torch.tensor(loss) for i, loss in enumerate(step.losses)}
    return weights | {f"method {k}": v for k, v in flat(update.state_dict()).items()}


def flat(state):
    if isinstance(state, dict):
        return {f"{k} {j}": x for k, v in state.items() for j, x in flat(v).items()}
    if isinstance(state, list | tuple):
        return flat(dict(enumerate(state)))
    return {"": torch.as_tensor(state)}


def anything(x):
    """What no sample holds: NaN here, large numbers there."""
    return torch.where(torch.rand_like(x) < 0.5, torch.nan, 1e3 * torch.randn_like(x))


@pytest.mark.parametrize(("method", "fusion"), PAIRS)
def test_what_is_stored_for_an_absent_modality_moves_nothing(make_dataset, make_network, method, fusion):
    case = CASES[PAIRS.index((method, fusion)) % len(CASES)]
    mapping = "both" if method in ("paper", "joint", "agm") else "feature"
    results = []
    for fill in (torch.zeros_like, anything):
        network, batches, _ = make_case(make_dataset, make_network, fusion, mapping=mapping)
        rng = np.random.default_rng(0)
        batches = [cleared(b, present_of(case if i else CASES[0], len(b.labels), rng)) for i, b in enumerate(batches)]
        results.append(outcome(method, network, [filled(batch, fill, 3) for batch in batches]))
    assert_same(results[1], results[0], atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_that_nobody_needs_stays_as_it_is(make_dataset, make_network, method):
    network, batches, step = make_case(make_dataset, make_network, METHODS[method].fusion)
    batch = cleared(batches[1], present_of("nobody has the last", 5, np.random.default_rng(0)))
    update = begin(method, network)
    for progress in (0.0, 0.5):
        update(network, batch, plan_of(3)._replace(progress=progress), step)
    assert step.losses
    assert not any(2 in touched for touched in step.touched)
