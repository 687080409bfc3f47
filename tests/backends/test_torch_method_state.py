"""What methods remember: a state put into a fresh run gives the same updates, to the bit."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from methods_reference import Recorder, assert_same, begin, make_case, plan_of

from equilib_torch.methods import METHODS
from equilib_torch.methods.rehearsal import rehearse

REMEMBERING = ("agm", "pmr", "g-blending", "mla")
PARAMETERS = {"g-blending": {"every": 2}}


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network, missing=0.4)


class Trial:
    """A method on a network: a batch after the other, from any epoch."""

    def __init__(self, name, case, *, seed=0):
        self.network, self.batches, _ = case
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter += seed  # another network
        settings = {"train": self.batches, "val": self.batches, "lr": 0.01, "weight_decay": 0.0}
        self.update = begin(name, self.network, partial(rehearse, self.network, **settings), **PARAMETERS.get(name, {}))

    def run(self, first, last):
        """Losses and gradients of batches `first` to `last`, three of which make an epoch."""
        step = Recorder(self.network, lr=0.001)
        for i in range(first, last):
            torch.manual_seed(i)
            self.update(self.network, self.batches[i % 3], plan_of(3, epoch=1 + i // 3), step)
        return step


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert_equal(list(a.values()), list(b.values()))
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def assert_can_be_saved(state):
    """Tensors and numbers, in lists and in dictionaries with text for keys."""
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state)
    for value in state.values() if isinstance(state, dict) else state if isinstance(state, list) else ():
        assert_can_be_saved(value)
    assert isinstance(state, dict | list | torch.Tensor | int | float)


# After an epoch, and in the middle of one that begins with an estimate.
@pytest.mark.parametrize(
    ("method", "stopped_after", "fusion"),
    [*((name, 7, "memory") for name in METHODS), *((name, 3, "concat") for name in REMEMBERING)],
)
def test_a_state_put_into_a_fresh_run_gives_the_same_updates(case, method, stopped_after, fusion):
    one = Trial(method, case(fusion))
    one.run(0, stopped_after)
    state, weights = one.update.state_dict(), deepcopy(one.network.state_dict())
    saved = deepcopy(state)
    expected = one.run(stopped_after, 14)
    assert_can_be_saved(state)
    assert_equal(state, saved)  # a snapshot

    other = Trial(method, case(fusion), seed=1)
    other.network.load_state_dict(weights)
    other.update.load_state_dict(saved)
    actual = other.run(stopped_after, 14)
    assert all(map(math.isfinite, expected.losses))
    assert actual.losses == expected.losses
    for gradients, reference in zip(actual.gradients, expected.gradients, strict=True):
        assert_same(gradients, reference, atol=0, rtol=0)
    assert_same(other.network.state_dict(), one.network.state_dict(), atol=0, rtol=0)
    assert_equal(other.update.state_dict(), one.update.state_dict())


@pytest.mark.parametrize("method", REMEMBERING)
def test_without_its_state_a_method_goes_on_otherwise(case, method):
    one = Trial(method, case("concat"))
    one.run(0, 7)
    weights = deepcopy(one.network.state_dict())
    other = Trial(method, case("concat"))
    other.network.load_state_dict(weights)
    expected, actual = one.run(7, 9), other.run(7, 9)
    names = expected.gradients[-1]
    assert not all(torch.equal(actual.gradients[-1][name], expected.gradients[-1][name]) for name in names)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in (*REMEMBERING, "aug")])
def test_what_remembers_nothing_takes_no_state(case, method):
    update = Trial(method, case("sum")).update
    assert update.state_dict() == {}
    update.load_state_dict({})
    with pytest.raises(ValueError, match="state must be empty for a method that remembers nothing, got projection"):
        update.load_state_dict({"projection": torch.eye(2)})
