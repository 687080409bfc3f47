"""The formulas of the methods by themselves: all can be imported, none changes anything, each is as defined."""

from __future__ import annotations

import inspect
import math
import pkgutil
from copy import deepcopy
from importlib import import_module

import pytest
import torch
from torch.nn.functional import cross_entropy

from equilib_torch import functional, methods

B, N, C, D = 12, 3, 4, 5


def present():
    here = torch.rand(B, N) < 0.6
    here[0] = False
    here[1] = True
    return here


def labels():
    return torch.arange(B) % C


def logits():
    return [2 * torch.randn(B, C) for _ in range(N)]


def losses(m=N):
    return functional.Losses(*torch.rand(2, m, dtype=torch.float64))


ARGUMENTS = {
    "agm_ratios": lambda: (torch.tensor([0.3, torch.nan, 1.5]),),
    "agm_scales": lambda: (torch.tensor([0.3, torch.nan, 1.5]), torch.tensor([0.5, 0.0, 1.0]), 2.0),
    "blend_weights": lambda: (losses(), losses(), torch.full((N,), 1 / N)),
    "boosting_loss": lambda: (torch.randn(B, 2, C), labels(), present()[:, 0]),
    "deferred_loss": lambda: (logits(), [torch.randn(B, C), None, torch.randn(B, C)]),
    "detach_all_but": lambda: (logits(), 1),
    "disentangled_loss": lambda: ([torch.randn(B, D)], labels(), present()[:, :1]),
    "drop_modalities": lambda: (present(), 0.5),
    "ensemble_probabilities": lambda: (logits(), labels(), present()),
    "half_coalitions": lambda: (present(), 1),
    "least_sure_modality": lambda: (torch.randn(N, B, C), present()),
    "modulate_gradient": lambda: (torch.randn(3, 4), 0.5),
    "more_vs_fewer_loss": lambda: (torch.rand(B), torch.rand(B)),
    "move_prototypes": lambda: (torch.randn(C, D), torch.arange(C) < 2, torch.randn(B, D), labels()),
    "ogm_scales": lambda: (torch.rand(N), 0.5),
    "ogm_scores": lambda: (logits(), labels(), present()),
    "pareto_gradient": lambda: (torch.randn(D), torch.randn(D), 1.5),
    "pmr_weights": lambda: (torch.rand(N),),
    "project_gradient": lambda: (torch.randn(C, D), torch.eye(D, dtype=torch.float64)),
    "prototype_logits": lambda: (torch.randn(B, D), torch.randn(C, D), torch.arange(C) < 2),
    "random_coalitions": lambda: (present(),),
    "reconboost_loss": lambda: (logits(), labels(), present(), 1, 0.5),
    "scale_gradients": lambda: (torch.randn(N, B, C), torch.rand(N)),
    "unimodal_loss": lambda: (logits()[0], labels(), present()[:, 0]),
    "unimodal_losses": lambda: (logits(), labels(), present()),
    "update_means": lambda: (torch.rand(N), torch.tensor([0, 1, 2]), torch.tensor([0.5, torch.nan, 1.0])),
    "update_projection": lambda: (torch.eye(D, dtype=torch.float64), torch.randn(D), 0.5),
}
HEAD = torch.nn.Linear(D, C)
KEYWORDS = {"disentangled_loss": {"heads": [HEAD], "fuse": lambda features: HEAD(features[0])}}
FUNCTIONS = [name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))]


def flat(value):
    """All that is in an argument or a result."""
    return [x for item in value for x in flat(item)] if isinstance(value, list | tuple) else [value]


def test_every_formula_is_there():
    """A public function of a method's module, unless it needs a network or makes a method."""
    public = set()
    for module in (import_module(f"{methods.__name__}.{info.name}") for info in pkgutil.iter_modules(methods.__path__)):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            arguments = inspect.signature(function).parameters
            if function.__module__ == module.__name__ and not {"network", "update"} & {*arguments} and name[0] != "_":
                public.add(name)
    assert set(FUNCTIONS) == public
    assert functional.__all__ == sorted(functional.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_formula_says_what_it_takes_and_gives_with_an_example(name):
    text = inspect.getdoc(getattr(functional, name))
    assert all(part in text for part in ("Args:", "Returns:", "Example:", ">>> "))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_formula_changes_nothing_and_gives_the_same_again(name):
    function, arguments = getattr(functional, name), ARGUMENTS[name]()
    before, results = deepcopy(arguments), []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(flat(function(*arguments, **KEYWORDS.get(name, {}))))
    for a, b in (*zip(flat(arguments), flat(before), strict=True), *zip(*results, strict=True)):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# --- losses of single modalities -------------------------------------------------------------------------------------


def test_a_gradient_flows_into_one_modality():
    features = [torch.randn(B, D, requires_grad=True) for _ in range(N)]
    seen = functional.detach_all_but(features, 1)
    assert all(torch.equal(a, b) for a, b in zip(seen, features, strict=True))
    torch.stack(seen).sum().backward()
    assert [z.grad is not None for z in features] == [False, True, False]


# --- ogm-ge ----------------------------------------------------------------------------------------------------------


def test_ogm_scores_are_means_over_those_that_have_it():
    here, alone = present(), logits()
    here[:, 2] = False
    scores = functional.ogm_scores(alone, labels(), here)
    assert scores[2].isnan()
    for m in range(2):
        right = [alone[m][i].softmax(0)[labels()[i]] for i in range(B) if here[i, m]]
        torch.testing.assert_close(scores[m], torch.stack(right).mean())


def test_ogm_scales_damp_what_is_better_than_the_mean_of_the_others():
    scores = torch.tensor([0.9, 0.5, 0.3, torch.nan])
    expected = [1 - math.tanh(0.4 * 0.9 / 0.4), 1.0, 1.0, 1.0]
    assert functional.ogm_scales(scores, 0.4).tolist() == pytest.approx(expected)
    assert functional.ogm_scales(torch.tensor([0.9, torch.nan]), 0.4).tolist() == [1, 1]
    assert functional.ogm_scales(torch.tensor([0.5, 0.0]), 0.4).tolist() == [0, 1]  # tanh of what is as good as ∞
    assert functional.ogm_scales(torch.tensor([0.5, 0.1]), 0.0).tolist() == [1, 1]


def test_noise_is_as_large_as_the_gradient_varies():
    gradient = 3 + 2 * torch.randn(200, 300)
    noise = functional.modulate_gradient(gradient, 0.25) - 0.25 * gradient
    assert noise.std().item() == pytest.approx(gradient.std().item(), rel=0.02)
    assert abs(noise.mean().item()) < 0.05
    assert functional.modulate_gradient(torch.tensor([[3.0]]), 0.5).tolist() == [[1.5]]


# --- agm -------------------------------------------------------------------------------------------------------------


def test_agm_ratios_compare_with_the_mean_of_the_others():
    ratios = functional.agm_ratios(torch.tensor([0.5, 1.0, 2.0, torch.nan], dtype=torch.float64))
    assert ratios[:3].tolist() == pytest.approx([math.exp(1.0), math.exp(0.25), math.exp(-1.25)])
    assert ratios[3].isnan()
    assert functional.agm_ratios(torch.tensor([0.5, torch.nan])).isnan().all()
    assert functional.agm_ratios(torch.tensor([0.0, 1e6])).tolist() == [math.exp(80), 0.0]


def test_running_means_are_means_of_what_was_known():
    values = torch.rand(20, N, dtype=torch.float64)
    values[torch.rand(20, N) < 0.3] = torch.nan
    means, counts = torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.int64)
    for row in values:
        means, counts = functional.update_means(means, counts, row)
    torch.testing.assert_close(means, values.nanmean(0))
    assert torch.equal(counts, (~values.isnan()).sum(0))


def test_agm_scales_damp_what_does_better_than_it_used_to():
    ratios, means = torch.tensor([2.0, 0.5, torch.nan, 0.0]), torch.tensor([1.0, 1.0, 9.0, 99.0])
    scales = functional.agm_scales(ratios, means, 0.5)
    assert scales.tolist() == pytest.approx([math.exp(-0.5), math.exp(0.25), 1.0, math.exp(5)])
    assert functional.agm_scales(ratios, means, 1e6)[3].float().isfinite()


def test_only_gradients_are_scaled():
    parts, factors, weight = torch.randn(N, B, C, requires_grad=True), torch.rand(N), torch.randn(N, B, C)
    scaled = functional.scale_gradients(parts, factors)
    assert torch.equal(scaled, parts)
    (weight * scaled).sum().backward()
    torch.testing.assert_close(parts.grad, factors[:, None, None] * weight)


# --- pmr -------------------------------------------------------------------------------------------------------------


def test_prototypes_are_moving_means():
    prototypes, seen = torch.randn(C, D), torch.tensor([True, True, False, False])
    z, y = torch.randn(3, D, requires_grad=True), torch.tensor([1, 1, 2])
    moved, seen_now = functional.move_prototypes(prototypes, seen, z, y, momentum=0.8)
    assert seen_now.tolist() == [True, True, True, False]
    assert torch.equal(moved[[0, 3]], prototypes[[0, 3]])
    torch.testing.assert_close(moved[1], 0.8 * prototypes[1] + 0.2 * z[:2].mean(0))
    torch.testing.assert_close(moved[2], z[2])
    assert not moved.requires_grad


def test_prototype_logits_are_distances_with_a_gradient_at_0():
    prototypes, seen = torch.randn(C, D), torch.tensor([True, True, True, False])
    z = torch.cat([prototypes[:1], torch.randn(2, D)]).requires_grad_()
    actual = functional.prototype_logits(z, prototypes, seen)
    for i in range(3):
        for y in range(3):
            assert actual[i, y].item() == pytest.approx(-math.dist(z[i].tolist(), prototypes[y].tolist()), abs=1e-6)
    assert (actual[:, 3] == -torch.inf).all()
    cross_entropy(actual, torch.tensor([0, 1, 2])).backward()
    assert z.grad.isfinite().all()


def test_pmr_draws_the_weak_to_their_prototypes():
    assert functional.pmr_weights(torch.tensor([0.8, 0.5, 0.4, 0.1, 0.0])).tolist() == pytest.approx([0, 0.6, 1, 1, 1])
    assert functional.pmr_weights(torch.zeros(2)).tolist() == [0, 0]


# --- mla -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-9, 0.3, 10.0])
def test_a_projection_is_the_inverse_of_what_went_into_it(alpha):
    means = torch.randn(3, D, dtype=torch.float64)
    projection = torch.eye(D, dtype=torch.float64)
    for mean in means:
        projection = functional.update_projection(projection, mean, alpha)
    if alpha > 1e-6:
        torch.testing.assert_close(projection, (torch.eye(D).double() + means.T @ means / alpha).inverse())
    else:  # all of them are taken out
        torch.testing.assert_close(projection @ means.T, torch.zeros(D, 3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(projection, projection.T)
    gradient = torch.randn(C, D)
    torch.testing.assert_close(
        functional.project_gradient(gradient, projection), (gradient.double() @ projection).float()
    )


# --- reconboost ------------------------------------------------------------------------------------------------------


def test_an_ensemble_adds_the_logits_of_those_present():
    each, here = logits(), present()
    q = functional.ensemble_probabilities(each, labels(), here)
    assert q[0] == 0
    for i in range(1, B):
        total = sum((x[i] for m, x in enumerate(each) if here[i, m]), torch.zeros(C))
        expected = total.softmax(0)[labels()[i]] if here[i].any() else torch.tensor(0.0)
        torch.testing.assert_close(q[i], expected)


@pytest.mark.parametrize("agreement", [0.0, 0.4, 1.0])
def test_reconboost_weighs_less_what_the_others_know(agreement):
    each, here = [x.requires_grad_() for x in logits()], present()
    others = here.clone()
    others[:, 1] = False
    q = functional.ensemble_probabilities(each, labels(), others)
    terms = [(1 - agreement * q[i]) * cross_entropy(each[1][i], labels()[i]) for i in range(B) if here[i, 1]]
    loss = functional.reconboost_loss(each, labels(), here, 1, agreement)
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    loss.backward()
    assert [x.grad is not None for x in each] == [False, True, False]
    assert torch.equal(each[1].grad.any(1), here[:, 1])
