"""The method `equilib`: both rules against the formula spelled out, what each term reaches, what is drawn."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from combinations import with_fusions
from methods_reference import Recorder, assert_same, fused_loss, make_case, mean, nll, prediction, samples_with

from equilib_torch import TrainOptions, fit
from equilib_torch.methods import METHODS, Plan, Setting
from equilib_torch.methods.equilib import half_coalitions, random_coalitions

RULES = ("alternating", "simultaneous")


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network)


def begin(network, **parameters):
    return METHODS["equilib"].begin(Setting(network, None), parameters)


def plan_of(n, updates=(1, 1, 1)):
    return Plan(tuple(k for k in (2, 0, 1) if k < n), tuple(updates[:n]), (1.0,) * n)


def coalitions_given(network):
    """What `network.fuse` is told to be present, call after call."""
    given, fuse = [], network.fuse
    network.fuse = lambda features, present, *rest: (given.append(present), fuse(features, present, *rest))[1]
    return given


def own_losses(network, features, batch):
    total = 0.0
    for k, (head, z) in enumerate(zip(network.heads, features, strict=True)):
        rows = samples_with(batch, k)
        if rows:
            total = total + mean([nll(head(z[i]), batch.labels[i]) for i in rows])
    return total


def coalition_loss(network, features, batch, members):
    terms = []
    for i, label in enumerate(batch.labels):
        terms.append(nll(prediction(network, features, batch, i, members[i].nonzero()[:, 0].tolist()), label))
    return mean(terms)


def loss_of(network, batch, k, members):
    """L_k = CE(l(m)) + Σ_j CE(l_j), the gradient through z_k alone."""
    features = [z if j == k else z.detach() for j, z in enumerate(network.encode(batch))]
    return coalition_loss(network, features, batch, members) + own_losses(network, features, batch)


def gradients(network, loss):
    network.zero_grad(set_to_none=True)
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def descend(network, step, found, *, encoders):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("encoders.") == encoders:
                parameter -= step.lr * found[name]


def split_by_encoder(found):
    of_encoders = {name: g for name, g in found.items() if name.startswith("encoders.")}
    return of_encoders, {name: g for name, g in found.items() if name not in of_encoders}


CASES = with_fusions([(1, 0, False), (2, 0, False), (2, 0.4, True), (3, 0, False), (3, 0.4, True)])


@pytest.mark.parametrize(("fusion", "n", "missing", "gone"), CASES)
def test_alternating_by_the_formula(case, fusion, n, missing, gone):
    """In double precision: updates one after the other blow roundings up."""
    network, batches, step = case(fusion, n, missing, gone=gone)
    network.double()
    reference, update = deepcopy(network), begin(network)
    given = coalitions_given(network)
    for batch in batches:
        reference.load_state_dict(network.state_dict())
        for kept in (given, step.losses, step.gradients):
            kept.clear()
        update(network, batch, plan_of(n), step)
        trained = [k for k in plan_of(n).order if batch.present[:, k].any()]
        assert len(step.losses) == len(given) + 1 == len(trained) + 1
        of_encoders = {name: torch.zeros_like(p) for name, p in reference.named_parameters() if "encoders." in name}
        losses = []
        for i, k in enumerate(trained):
            loss = loss_of(reference, batch, k, given[i])
            losses.append(loss.item())
            found = gradients(reference, loss)
            untouched, shared = split_by_encoder(step.gradients[i])
            assert not any(g.any() for g in untouched.values())
            assert_same(shared, split_by_encoder(found)[1], atol=1e-7, rtol=1e-5)
            for name in of_encoders:
                of_encoders[name] += found[name]
            descend(reference, step, found, encoders=False)
        assert step.losses[:-1] == pytest.approx(losses)
        assert step.losses[-1] == pytest.approx(sum(losses) / len(losses))
        last, shared = split_by_encoder(step.gradients[-1])
        assert_same(last, of_encoders, atol=1e-6, rtol=1e-4)  # the method keeps gradients of features in float32
        assert not any(g.any() for g in shared.values())


@pytest.mark.parametrize(("fusion", "n", "missing", "gone"), CASES)
def test_simultaneous_by_the_formula(case, fusion, n, missing, gone):
    network, batches, step = case(fusion, n, missing, gone=gone)
    network.double()
    reference, update, given = deepcopy(network), begin(network, rule="simultaneous"), coalitions_given(network)
    for i, batch in enumerate(batches):
        reference.load_state_dict(network.state_dict())
        update(network, batch, plan_of(n), step)
        features = reference.encode(batch)
        loss = fused_loss(reference, features, batch) + own_losses(reference, features, batch)
        if n > 1:
            loss = loss + coalition_loss(reference, features, batch, given[i][1])
        assert step.losses[i] == pytest.approx(loss.item())
        assert_same(step.gradients[i], gradients(reference, loss), atol=1e-7, rtol=1e-5)
    assert len(step.losses) == len(batches)


@pytest.mark.parametrize("rule", RULES)
def test_further_updates_follow_where_they_are_granted(case, rule):
    network, batches, step = case("memory", 3, missing=0.4)
    begin(network, rule=rule)(network, batches[0], plan_of(3), step)
    plain, touched = len(step.losses), step.touched[:]
    network, batches, step = case("memory", 3, missing=0.4)
    begin(network, rule=rule)(network, batches[0], plan_of(3, (2, 1, 3)), step)
    assert step.touched[: len(touched)] == touched
    assert step.touched[plain:] == [{2}, {2}, {0}]


@pytest.mark.parametrize("rule", RULES)
def test_ablations(case, rule):
    """Without coalitions everybody is fused; without own losses the heads learn from the fused prediction alone."""
    network, batches, step = case("concat", 3)
    given = coalitions_given(network)
    begin(network, rule=rule, coalitions=False, own=False)(network, batches[2], plan_of(3), step)
    assert all(torch.equal(each.reshape(-1, *batches[2].present.shape)[0], batches[2].present) for each in given)
    assert not any(g["heads.0.weight"].any() for g in step.gradients)  # concat does not read the heads
    network, batches, step = case("concat", 3)
    begin(network, rule=rule, coalitions=False)(network, batches[2], plan_of(3), step)
    assert step.gradients[0]["heads.0.weight"].any()


@pytest.mark.parametrize("n", [2, 4, 6])
@pytest.mark.parametrize("smallest", [1, 2])
def test_coalitions_are_of_those_present_and_hold_their_member(n, smallest):
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(2000, n, generator=generator) < 0.7
    present[:, 0] |= ~present.any(1)
    for member in (None, 1):
        drawn = random_coalitions(present, member, smallest=smallest)
        assert not (drawn & ~present).any()
        assert (drawn.sum(1) >= present.sum(1).clamp(max=smallest)).all()
        if member is not None:
            assert torch.equal(drawn[:, member], present[:, member])
    complete = torch.ones(4000, n, dtype=torch.bool)
    sizes = random_coalitions(complete, 1, smallest=smallest).sum(1).bincount(minlength=n + 1)[smallest:]
    n_sizes = n + 1 - smallest
    assert sizes.float().div(4000).sub(1 / n_sizes).abs().max() < 0.05
    halves = half_coalitions(complete, 1, smallest=smallest)
    assert halves.all(1).double().mean().item() == pytest.approx(0.5 + 0.5 / n_sizes, abs=0.05)


def test_of_two_modalities_one_alone_is_a_coalition_too(case):
    network, batches, step = case("memory", 2)
    given = coalitions_given(network)
    for _ in range(20):
        begin(network)(network, batches[2], plan_of(2), step)
    sizes = torch.cat(given).sum(1)
    assert set(sizes.tolist()) == {1, 2}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_run_learns(make_dataset, rule, n):
    dataset = make_dataset(n, kinds=("vector", "sequence", "image"), noise=0.5, missing=0.2 if n > 1 else 0.0)
    run = fit(TrainOptions(method=f"equilib:rule={rule}", updates=60, device="cpu", width=16), dataset)
    assert run.test.accuracies[-1] > 0.8


def test_a_scaled_loss_gives_the_same_gradients(case):
    """As with fp16, whose losses are scaled before they go backward; each step here by another factor."""

    class Scaled(Recorder):
        def __call__(self, loss, adjust=None):
            factor = 2.0 ** (3 + len(self.losses))

            def unscale():
                for parameter in self.network.parameters():
                    if parameter.grad is not None:
                        parameter.grad /= factor

            super().__call__(loss * factor, unscale)

    network, batches, step = case("memory", 3)
    other = deepcopy(network)
    for trained, recorder in ((network, step), (other, Scaled(other))):
        torch.manual_seed(0)
        begin(trained)(trained, batches[2], plan_of(3), recorder)
    assert_same(dict(other.named_parameters()), dict(network.named_parameters()))


def test_the_usual_run_is_stacked_and_keeps_the_last_weights():
    options = TrainOptions()
    assert (options.method, options.stacks, options.keeps) == ("equilib", True, "last")
    paper = TrainOptions(method="paper")
    assert (paper.stacks, paper.keeps, paper.chosen_mapping) == (False, "best", "both")
    assert TrainOptions(method="paper", memory_mapping="none", keep="last", stack=True).chosen_mapping == "none"
