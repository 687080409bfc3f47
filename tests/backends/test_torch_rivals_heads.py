"""Rivals that train every modality's own head: their updates, and what MLA, ReconBoost and MMPareto are meant to do."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import methods_reference as written_out
import numpy as np
import pytest
import torch
from combinations import with_fusions
from methods_reference import (
    Recorder,
    assert_same,
    begin,
    calls_of,
    descend,
    gradients_of,
    make_case,
    moved_parts,
    plan_of,
)

from equilib_torch import MultimodalClassifier, fit
from equilib_torch.data.batches import take
from equilib_torch.functional import pareto_gradient
from equilib_torch.methods import Losses
from equilib_torch.methods.rehearsal import rehearse
from equilib_torch.network import FUSIONS
from equilib_torch.training.evaluation import VALUES, evaluate

REFERENCES = {
    "g-blending": written_out.GBlending,
    "mla": written_out.MLA,
    "reconboost": written_out.ReconBoost,
    "mmpareto": written_out.MMPareto,
}


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network)


def flat(gradients, prefix):
    return torch.cat([gradient.flatten() for name, gradient in gradients.items() if name.startswith(prefix)])


class Rehearsals:
    """Losses made up, the same in every run: rehearsing None, then each modality, then all."""

    def __init__(self, n):
        self.rng, self.n = np.random.default_rng(0), n

    def __call__(self, loss):
        return Losses(*torch.from_numpy(self.rng.uniform(0, 1, (2, self.n + 1))))


# --- by the formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "n", "missing", "gone"), with_fusions([(1, 0, False), (2, 0, False), (2, 0.4, True), (3, 0.4, True)])
)
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("g-blending", {"every": 2}),
        ("mla", {"alpha": 0.5}),
        ("reconboost", {"agreement": 0.7}),
        ("mmpareto", {"gamma": 2.0}),
    ],
)
def test_losses_and_gradients_by_the_formula(case, method, parameters, fusion, n, missing, gone):
    network, batches, step = case(fusion, n, missing, gone=gone)
    update = begin(method, network, Rehearsals(n), **parameters)
    reference, expected = deepcopy(network), REFERENCES[method](n, Rehearsals(n), **parameters)
    for epoch, batch in enumerate([*batches, batches[0], batches[2]], 1):
        reference.load_state_dict(network.state_dict())
        reference.zero_grad()
        step.losses.clear()
        step.gradients.clear()
        update(network, batch, plan_of(n, epoch), step)
        n_updates = 0
        for i, loss in enumerate(expected(reference, batch, epoch)):
            assert step.losses[i] == pytest.approx(loss, rel=1e-4)
            assert_same(step.gradients[i], gradients_of(reference))
            descend(reference, step.lr)
            reference.zero_grad()
            n_updates += 1
        assert len(step.losses) == n_updates


@pytest.mark.parametrize("method", list(REFERENCES))
def test_a_memory_collects_each_sample_once(case, method):
    network, batches, step = case("memory", missing=0.4, mapping="both")
    network.memory.threshold = 0.0
    copy = deepcopy(network)
    copy(batches[2])
    trial = partial(rehearse, network, train=batches, val=batches, lr=0.1, weight_decay=0)
    begin(method, network, rehearse=trial)(network, batches[2], plan_of(3), step)
    assert network.memory.n_collected == copy.memory.n_collected == 5
    torch.testing.assert_close(network.memory.collected, copy.memory.collected)
    assert all(module.training for module in network.modules())


# --- mla -------------------------------------------------------------------------------------------------------------


def test_mla_has_one_head(case):
    network, *_ = case("sum")
    begin("mla", network)
    assert len({id(head) for head in network.heads}) == 1
    assert sum(name.startswith("heads.") for name, _ in network.named_parameters()) == 2


@pytest.mark.parametrize("fusion", FUSIONS)
def test_mla_keeps_off_what_the_head_learned_before(case, fusion):
    network, (batch,), step = case(fusion, rows=[(0, 12)])
    update = begin("mla", network, alpha=1e-6)
    means = [z.detach().mean(0) for z in network.encode(batch)]
    plain = Recorder(deepcopy(network), lr=0)
    update(network, batch, plan_of(3), step)
    for m in range(3):
        gradient = step.gradients[m]["heads.0.weight"]
        assert moved_parts(step.gradients[m]) == {f"encoders.{m}", "heads.0"}
        for earlier in means[: m + 1]:
            assert (gradient @ earlier).norm() < 1e-3 * gradient.norm() * earlier.norm()
        plain(written_out.own_loss(plain.network, batch, m))
        unprojected = plain.gradients[m]["heads.0.weight"]
        assert (unprojected @ means[0]).norm() > 0.05 * unprojected.norm() * means[0].norm()
        if m == 0:  # the others' heads have moved since
            torch.testing.assert_close(flat(step.gradients[m], "encoders"), flat(plain.gradients[m], "encoders"))


def test_mla_weighs_the_sure_more(case):
    network = case("confidence")[0]
    unimodal = [torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.1, 0.0]]), torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 5.0]])]
    features, batch = [torch.zeros(2, 16)] * 2, torch.ones(2, 2, dtype=torch.bool)
    assert network.fusion(features, unimodal, batch).argmax(1).tolist() == [0, 2]
    weights = []
    for i in range(2):
        entropies = [-(p * p.log()).sum() for p in (logits[i].softmax(0) for logits in unimodal)]
        scores = [(max(entropies) - entropy).exp() for entropy in entropies]
        weights.append([score / sum(scores) for score in scores])
    expected = torch.stack([sum(weights[i][m] * unimodal[m][i] for m in range(2)) for i in range(2)])
    torch.testing.assert_close(network.fusion(features, unimodal, batch), expected)
    batch[0, 0] = False
    torch.testing.assert_close(network.fusion(features, unimodal, batch)[0], unimodal[1][0])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_shared_head_is_kept_saved_and_loaded(make_dataset, make_options, tmp_path, fusion):
    dataset = make_dataset(3, missing=0.2)
    run = fit(make_options(method="mla", fusion=fusion, epochs=3), dataset)
    assert len({id(head) for head in run.network.heads}) == 1
    MultimodalClassifier(run.network).save_pretrained(tmp_path)
    loaded = MultimodalClassifier.from_pretrained(tmp_path).network
    assert loaded.config == run.network.config
    batch = take(dataset, dataset.splits["test"])
    with torch.inference_mode():
        assert torch.equal(loaded(batch), run.network.eval()(batch))
    np.testing.assert_array_equal(evaluate(loaded, [batch], VALUES["accuracy"]).values, run.test.values)


# --- reconboost ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_reconboost_moves_one_modality_at_a_time(case, fusion):
    network, batches, step = case(fusion, missing=0.4)
    update = begin("reconboost", network)
    for epoch in range(1, 9):
        update(network, batches[2], plan_of(3, epoch), step)
        moved = {part for part in moved_parts(step.gradients[-1]) if not part.startswith("fusion.")}
        m = (epoch - 1) % 4
        if m < 3:
            assert moved == {f"encoders.{m}", f"heads.{m}"}
        else:
            assert {"encoders.0", "encoders.1", "encoders.2"} <= moved


def test_reconboost_makes_no_update_without_data(case):
    network, batches, step = case("sum", gone=True)
    begin("reconboost", network)(network, batches[1], plan_of(3, 3), step)
    assert step.losses == []


def test_what_the_others_know_weighs_less(case):
    """The gradient of every sample's logits is scaled by its weight."""
    network, (batch,), step = case("sum", 2, rows=[(0, 12)])
    with torch.no_grad():
        network.heads[1].weight *= 30
    seen = {}

    def keep(module, inputs, logits):
        logits.retain_grad()
        seen["l"] = logits

    network.heads[0].register_forward_hook(keep)
    begin("reconboost", network, agreement=1.0)(network, batch, plan_of(2), step)
    with torch.no_grad():
        others = deepcopy(network).heads[1](network.encode_one(batch, 1))
        q = others.softmax(1)[range(12), batch.labels]
    plain = (seen["l"].softmax(1) - torch.nn.functional.one_hot(batch.labels, 3)) / 12
    torch.testing.assert_close(seen["l"].grad, (1 - q)[:, None] * plain)
    assert q.min() < 0.2
    assert q.max() > 0.5


# --- mmpareto --------------------------------------------------------------------------------------------------------


def integrate(g0, g1, gamma=1.0):
    return pareto_gradient(torch.tensor(g0), torch.tensor(g1), gamma)


def test_pareto_integration_by_hand():
    torch.testing.assert_close(integrate([1.0, 0.0], [0.5, 2.0]), torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(integrate([1.0, 0.0], [0.5, 2.0], 1.5), torch.tensor([2.25, 3.0]))
    # in conflict: the foot of the perpendicular from 0 on the line between them is (0, 1)
    torch.testing.assert_close(integrate([-1.0, 1.0], [3.0, 1.0]), torch.tensor([0.0, math.sqrt(8.0)]))
    assert integrate([1.0, 2.0], [0.0, 0.0]).tolist() == [1.0, 2.0]
    assert integrate([0.0, 0.0], [0.0, 0.0]).tolist() == [0.0, 0.0]
    assert integrate([1.0, 0.0], [-2.0, 0.0]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_an_encoder_opposes_neither_loss(seed):
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    b = b - 2 * (seed % 4) * a / 3
    h = integrate(a.tolist(), b.tolist())
    assert h @ a.to(h) > 0
    assert h @ b.to(h) > 0
    torch.testing.assert_close(h.norm(), (a + b).norm().to(h))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_mmpareto_in_conflict(case, fusion):
    """The fused prediction is taught the contrary of what the heads are: their losses conflict in every encoder."""
    network, (batch,), step = case(fusion, 2, rows=[(0, 12)])
    fuse = network.fuse
    network.fuse = lambda *args: -fuse(*args)
    copy = deepcopy(network)
    copy.fuse = lambda *args: -type(copy).fuse(copy, *args)
    g0 = Recorder(copy, lr=0)
    g0(torch.nn.functional.cross_entropy(copy(batch), batch.labels))
    g0(sum(written_out.own_loss(copy, batch, m) for m in range(2)))
    begin("mmpareto", network, gamma=1.5)(network, batch, plan_of(2), step)
    conflicts = 0
    for m in range(2):
        a, b = (flat(gradients, f"encoders.{m}.") for gradients in g0.gradients)
        h = flat(step.gradients[0], f"encoders.{m}.")
        conflicts += bool(a @ b < 0)
        assert h @ a > -1e-4 * h.norm() * a.norm()
        assert h @ b > -1e-4 * h.norm() * b.norm()
        torch.testing.assert_close(h.norm(), 1.5 * (a + b).norm(), rtol=1e-3, atol=1e-6)
    if fusion in ("sum", "memory", "confidence"):
        assert conflicts
    rest = [name for name in step.gradients[0] if not name.startswith("encoders.")]
    for name in rest:
        torch.testing.assert_close(step.gradients[0][name], g0.gradients[0][name] + g0.gradients[1][name])


def test_mmpareto_runs_every_encoder_once(case):
    network, batches, step = case("memory")
    calls = calls_of(network)
    begin("mmpareto", network)(network, batches[1], plan_of(3), step)
    assert calls == [0, 1, 2]
