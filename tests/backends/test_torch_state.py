"""A run taken down at any update and put back into a fresh state: the rest is the same, to the bit."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from equilib_torch import InputError, fit
from equilib_torch.methods import METHODS
from equilib_torch.training import State, finish, measure, train

KINDS = ("vector", "sequence", "image")


@pytest.fixture
def case(make_dataset, make_options):
    """Options and data of a run with everything that could be forgotten: 6 epochs of 4 updates."""

    def make(method="equilib", **options):
        options = {
            "fusion": "memory",
            "memory_mapping": "both",
            "shapley_smoothing": 0.5,
            "lr": 1e-2,
            "epochs": 6,
            **options,
        }
        return make_options(method=method, **options), make_dataset(3, kinds=KINDS, missing=0.2, noise=2.0)

    return make


def flat(tree, prefix=""):
    """The tensors of nested dicts and lists, by path, and everything else, by path."""
    tensors, values = {}, {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        assert isinstance(key, str if isinstance(tree, dict) else int)
        path = f"{prefix}{key}"
        if isinstance(value, torch.Tensor):
            tensors[path] = value
        elif isinstance(value, dict | list):
            values[path] = type(value)()
            for found, more in zip((tensors, values), flat(value, f"{path}/"), strict=True):
                found.update(more)
        else:
            values[path] = value
    return tensors, values


def through_files(state_dict):
    """The same, written as safetensors and JSON and read again."""
    tensors, values = flat(state_dict)
    leaves = json.loads(json.dumps(values, allow_nan=False))
    leaves.update(safetensors.torch.load(safetensors.torch.save(tensors)))
    root = {}
    for path in [*values, *tensors]:
        *parents, last = path.split("/")
        node = root
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node[parent]
        if isinstance(node, list):
            assert int(last) == len(node)
            node.append(leaves[path])
        else:
            node[last] = leaves[path]
    return root


def moved_on(state, until):
    """Go on by so many updates in all, measuring where the budget says so."""
    for update in [u for u in state.budget.measured[len(state.history) :] if u <= until]:
        train(state, update)
        measure(state)
    train(state, until)
    return state


def assert_same_state(a, b):
    (tensors, values), (others, other_values) = flat(a.state_dict()), flat(b.state_dict())
    for found in (values, other_values):
        found.update({path: 0.0 for path in found if path.startswith("seconds/")})
    assert values == other_values
    assert tensors.keys() == others.keys()
    for path, tensor in tensors.items():
        assert torch.equal(tensor, others[path]), path


@pytest.mark.parametrize("method", list(METHODS))
def test_the_rest_of_a_run_is_the_same(case, method):
    options, dataset = case(method, epochs=4)
    whole = fit(options, dataset)
    first = State.create(options, dataset)
    part = fit(options, dataset, state=first, on_epoch=lambda record, network: record["epoch"] < 2)
    assert part.history == whole.history[:2]
    fresh = State.create(options, dataset)
    fresh.load_state_dict(through_files(first.state_dict()))
    rest = fit(options, dataset, state=fresh)
    assert rest.history == whole.history
    assert rest.best_epoch == whole.best_epoch
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(rest.network.state_dict()[name], tensor), name
    assert_same_state(moved_on(first, 16), fresh)


@pytest.mark.parametrize(("method", "update"), [*((method, 7) for method in METHODS), ("equilib", 2), ("pmr", 2)])
def test_a_state_of_mid_epoch_goes_on_too(case, method, update):
    options, dataset = case(method, epochs=3)
    whole, first, fresh = (State.create(options, dataset) for _ in range(3))
    moved_on(whole, 12)
    moved_on(first, update)
    torch.rand(5)  # whatever happens between
    fresh.load_state_dict(deepcopy(first.state_dict()))
    assert_same_state(moved_on(fresh, 12), whole)


def test_measuring_need_not_fall_on_the_end_of_an_epoch(case):
    options, dataset = case()
    states = [State.create(options, dataset) for _ in range(3)]
    for state in states:
        state.budget = replace(state.budget, measured=(3, 9, 10, 14))
    whole, first, fresh = states
    run = fit(options, dataset, state=whole)
    assert [record["epoch"] for record in run.history] == [1, 3, 3, 4]
    fit(options, dataset, state=first, on_epoch=lambda record, network: record["epoch"] < 3)
    fresh.load_state_dict(first.state_dict())
    assert len(fresh.history) == 2
    assert fit(options, dataset, state=fresh).history == run.history
    assert_same_state(fresh, whole)


def test_in_bf16_too(case):
    options, dataset = case(precision="bf16", epochs=2)
    whole, first, fresh = (State.create(options, dataset) for _ in range(3))
    fresh.load_state_dict(moved_on(first, 3).state_dict())
    assert_same_state(moved_on(fresh, 8), moved_on(whole, 8))


@pytest.mark.parametrize("part", ["buffers", "losses", "method", "network", "optimiser", "plan", "random", "scheduler"])
def test_nothing_is_left_out(case, part):
    """Every part changes the rest of the run when a fresh state goes without it."""
    options, dataset = case("pmr:alpha=3", shapley_smoothing=0.99, seed=1)
    first, other = (State.create(options, dataset) for _ in range(2))
    blank = other.state_dict()
    other.load_state_dict({**moved_on(first, 14).state_dict(), part: blank[part]})
    (tensors, values), (others, other_values) = (flat(moved_on(each, 24).state_dict()) for each in (first, other))
    compared = {path: value for path, value in values.items() if path.startswith(("history/", "plan/"))}
    same = all(torch.equal(tensor, others[path]) for path, tensor in tensors.items())
    assert not same or compared != {path: other_values[path] for path in compared}


def test_it_holds_copies(case):
    options, dataset = case("mla")  # whose heads are one
    state = moved_on(State.create(options, dataset), 5)
    taken = state.state_dict()
    tensors, _ = flat(taken)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()}) == len(
        [tensor for tensor in tensors.values() if tensor.numel()]
    )
    before = deepcopy(taken)
    other = State.create(options, dataset)
    other.load_state_dict(taken)
    for each in (state, other):
        moved_on(each, 12)
    now, then = flat(taken), flat(before)
    assert now[1] == then[1]
    assert all(torch.equal(tensor, then[0][path]) for path, tensor in now[0].items())


def test_what_the_memory_collected_is_in_it(case):
    options, dataset = case()
    buffers = moved_on(State.create(options, dataset), 2).state_dict()["buffers"]
    collected = {name for name, buffer in buffers.items() if buffer.any()}
    assert collected == {"fusion.memory.collected", "fusion.memory.n_collected"}


def test_a_state_of_another_run_is_refused(case):
    options, dataset = case()
    taken = State.create(options, dataset).state_dict()
    for other in (replace(options, fusion="concat"), replace(options, width=32), replace(options, method="pmr")):
        with pytest.raises(InputError, match="state_dict must be that of the same options and data"):
            State.create(other, dataset).load_state_dict(taken)
    for key in taken:
        with pytest.raises(InputError, match=f"same options and data .*{key}"):
            State.create(options, dataset).load_state_dict({k: v for k, v in taken.items() if k != key})


def test_fit_refuses_a_state_of_other_options_or_data(case):
    options, dataset = case()
    state = State.create(replace(options, output="elsewhere"), dataset)
    for other in [(replace(options, lr=0.1), dataset), (options, replace(dataset))]:
        with pytest.raises(InputError, match=r"state must be made by State\.create of the same options and data"):
            fit(*other, state=state)
    assert len(fit(options, dataset, state=state).history) == 6


def test_a_run_is_finished_without_touching_its_state(case):
    options, dataset = case(stack=False)
    state = State.create(options, dataset)
    with pytest.raises(InputError, match="state must have been measured once or more"):
        finish(state)
    moved_on(state, 14)
    before = State.create(options, dataset)
    before.load_state_dict(state.state_dict())
    run = finish(state)
    assert_same_state(state, before)
    weights = run.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state.best.weights.items())
