"""Rivals since 2025 against their formulas, written out in `newer_methods_reference`, and what each is meant to do."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import newer_methods_reference as written_out
import pytest
import torch
from combinations import with_fusions
from methods_reference import assert_same, gradients_of, make_case, own_loss
from newer_methods_reference import begin, plan_at

import equilib_torch.methods
from equilib import coalitions
from equilib_torch import MultimodalClassifier, fit
from equilib_torch.data.batches import take
from equilib_torch.methods.base import Method, stateless
from equilib_torch.methods.data_remixing import least_sure_modality
from equilib_torch.methods.dgl import disentangled_loss
from equilib_torch.methods.more_vs_fewer import more_vs_fewer_loss
from equilib_torch.network import FUSIONS

WITH_WEIGHTS = ("concat", "mlp", "memory", "masked-transformer", "boosted")
METHODS = [
    ("dgl", written_out.DGL, {"alpha": 4.5}),
    ("pretrained-late-fusion", written_out.PretrainedLateFusion, {"pretraining": 0.5, "finetune": True}),
    ("pretrained-late-fusion", written_out.PretrainedLateFusion, {"pretraining": 0.5, "finetune": False}),
    ("data-remixing", written_out.DataRemixing, {"warmup": 0.5}),
]


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network)


def parts(gradients):
    """Parts of the network with a gradient other than 0: "encoders.0", "heads.0", "fusion"."""
    names = [name.split(".") for name, gradient in gradients.items() if gradient.any()]
    return {"fusion" if name[0] == "fusion" else ".".join(name[:2]) for name in names}


def names_of(kind, n=3):
    return {f"{kind}.{m}" for m in range(n)}


# --- by the formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "n", "missing", "gone"), with_fusions([(1, 0, False), (2, 0.4, True), (3, 0.4, False)])
)
@pytest.mark.parametrize(("method", "reference", "parameters"), METHODS)
def test_losses_and_gradients_by_the_formula(case, method, reference, parameters, fusion, n, missing, gone):
    network, batches, step = case(fusion, n, missing, gone=gone)
    update = begin(method, network, **parameters)
    copy, expected = deepcopy(network), reference(**parameters)
    for batch, progress in [(batches[0], 0.0), (batches[1], 0.4), (batches[1], 0.5), (batches[2], 0.9)]:
        copy.load_state_dict(network.state_dict())
        copy.zero_grad()
        step.losses.clear()
        step.gradients.clear()
        update(network, batch, plan_at(n, progress), step)
        n_updates = 0
        for i, loss in enumerate(expected(copy, batch, progress)):
            assert step.losses[i] == pytest.approx(loss, rel=1e-4)
            assert_same(step.gradients[i], gradients_of(copy))
            with torch.no_grad():
                for parameter in copy.parameters():
                    parameter -= 0 if parameter.grad is None else step.lr * parameter.grad
            copy.zero_grad()
            n_updates += 1
        assert len(step.losses) == n_updates
        assert all(module.training for module in network.modules())


@pytest.mark.parametrize(("fusion", "precision"), with_fusions([("no",), ("bf16",)]))
@pytest.mark.parametrize(("method", "reference", "parameters"), METHODS)
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_updates_are_finite_and_encoders_move_in_any_precision(
    case, method, reference, parameters, fusion, precision, progress
):
    network, batches, step = case(fusion, missing=0.4)
    update = begin(method, network, **parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        update(network, batches[2], plan_at(3, progress), step)
    assert all(math.isfinite(loss) for loss in step.losses)
    assert all(gradient.isfinite().all() for gradients in step.gradients for gradient in gradients.values())
    moved = set().union(*map(parts, step.gradients))
    frozen = method == "pretrained-late-fusion" and not parameters["finetune"] and fusion in WITH_WEIGHTS
    assert bool(moved & names_of("encoders")) != (frozen and progress > 0.5)


@pytest.mark.parametrize("method", ["dgl", "aug", "data-remixing", "pretrained-late-fusion"])
def test_it_trains_with_modalities_missing(make_dataset, make_options, method):
    run = fit(make_options(method=method, epochs=15, lr=1e-2), make_dataset(3, missing=0.3, noise=0.5))
    assert run.test.accuracies[-1] > 0.7


def test_a_plan_says_how_much_of_the_run_is_done(make_dataset, make_options, monkeypatch):
    seen = []
    noting = stateless(lambda network, batch, plan, step: (seen.append(plan.progress), step(network(batch).sum())))
    monkeypatch.setitem(equilib_torch.methods.METHODS._entries, "joint", Method("joint", noting, "concat", "notes"))
    fit(make_options(method="joint", epochs=3), make_dataset(2))  # 30 samples in batches of 8: four updates an epoch
    assert seen == [k / 12 for k in range(12)]


# --- masked transformer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("training", [True, False])
def test_masked_transformer_by_the_formula(make_dataset, make_network, n, training):
    dataset = make_dataset(n)
    network = make_network(dataset, "masked-transformer").train(training)
    present = torch.from_numpy(coalitions(n))
    features = [torch.randn(2**n, 16) for _ in range(n)]
    expected = torch.stack(
        [
            written_out.masked_transformer(network.fusion, [z[i] for z in features], row.nonzero()[:, 0].tolist())
            for i, row in enumerate(present)
        ]
    )
    for enabled in (True, False):  # without gradients, torch computes the layer in one fused function
        with torch.set_grad_enabled(enabled):
            torch.testing.assert_close(network.fusion(features, [], present), expected, atol=1e-5, rtol=1e-5)


def test_masked_transformer_has_a_finite_gradient_where_nothing_is_present(case):
    network = case("masked-transformer")[0]
    features = [torch.randn(4, 16, requires_grad=True) for _ in range(3)]
    present = torch.zeros(2, 4, 3, dtype=torch.bool)
    present[1, 1:] = True
    network.fusion(features, [], present).sum().backward()
    assert all(z.grad.isfinite().all() for z in features)
    assert not any(z.grad[0].any() for z in features)
    assert all(z.grad[1:].any() for z in features)
    assert all(parameter.grad.isfinite().all() for parameter in network.fusion.parameters())


def test_masked_transformer_tells_modalities_apart(case):
    network = case("masked-transformer")[0]
    a, b = torch.randn(2, 5, 16)
    present = torch.ones(5, 3, dtype=torch.bool)
    difference = network.fusion([a, b, b], [], present) - network.fusion([b, a, b], [], present)
    assert difference.abs().amax(1).min() > 1e-3


def test_masked_transformer_is_saved_and_loaded(make_dataset, make_options, tmp_path):
    dataset = make_dataset(3, missing=0.2)
    run = fit(make_options(method="joint", fusion="masked-transformer"), dataset)
    MultimodalClassifier(run.network).save_pretrained(tmp_path)
    batch = take(dataset, dataset.splits["test"])
    with torch.inference_mode():
        assert torch.equal(MultimodalClassifier.from_pretrained(tmp_path).network(batch), run.network.eval()(batch))


# --- dgl -------------------------------------------------------------------------------------------------------------


def test_disentangled_loss_has_two_gradients_that_never_meet():
    heads, both = [torch.nn.Linear(4, 3) for _ in range(2)], torch.nn.Linear(8, 3)
    features = [torch.randn(6, 4, requires_grad=True) for _ in range(2)]
    labels, present = torch.arange(6) % 3, torch.ones(6, 2, dtype=torch.bool)
    present[0, 1] = False
    gradients = {}
    for alpha in (0.0, 1.0, 4.0):
        loss = disentangled_loss(
            features, labels, present, heads=heads, fuse=lambda z: both(torch.cat(z, 1)), alpha=alpha
        )
        gradients[alpha] = torch.autograd.grad(loss, [*features, both.weight], retain_graph=True)
    assert not gradients[0.0][0].any()
    assert not gradients[4.0][1][0].any()  # who is absent teaches nothing
    for plain, scaled in zip(gradients[1.0][:2], gradients[4.0][:2], strict=True):
        torch.testing.assert_close(scaled, 4 * plain)
    torch.testing.assert_close(gradients[0.0][2], gradients[4.0][2])


# --- pretrained late fusion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("finetune", [True, False])
def test_pretraining_is_unimodal_and_ends_at_its_share(case, fusion, finetune):
    network, batches, step = case(fusion)
    update = begin("pretrained-late-fusion", network, pretraining=0.25, finetune=finetune)
    for progress in (0.0, 0.24, 0.25, 0.99):
        update(network, batches[2], plan_at(3, progress), step)
    alone = names_of("encoders") | names_of("heads")
    assert parts(step.gradients[0]) == parts(step.gradients[1]) == alone
    weights = fusion in WITH_WEIGHTS
    for gradients in step.gradients[2:]:
        if not finetune:
            assert parts(gradients) == ({"fusion"} if weights else alone)
        else:
            assert names_of("encoders") <= parts(gradients)
            assert ("fusion" in parts(gradients)) == weights
    untouched = not finetune and weights
    assert (step.touched[2:] == [set(), set()]) == untouched  # what gets no gradient is not decayed either


# --- aug -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "missing", "gone"), [(1, 0, False), (2, 0.4, True), (3, 0.4, False)])
def test_aug_by_the_formula(case, n, missing, gone):
    network, batches, step = case("boosted", n, missing, gone=gone)
    network.fusion.n_learners.copy_(torch.tensor([3, 1, 2][:n]))
    update, copy, expected = begin("aug", network), deepcopy(network), written_out.AUG()
    for batch in batches:
        copy.load_state_dict(network.state_dict())
        copy.zero_grad()
        step.losses.clear()
        step.gradients.clear()
        update(network, batch, plan_at(n, 0.05), step)
        n_updates = 0
        for i, loss in enumerate(expected(copy, batch, 0.05)):
            assert step.losses[i] == pytest.approx(loss, rel=1e-4)
            assert_same(step.gradients[i], gradients_of(copy))
            with torch.no_grad():
                for parameter in copy.parameters():
                    parameter -= 0 if parameter.grad is None else step.lr * parameter.grad
            copy.zero_grad()
            n_updates += 1
        assert len(step.losses) == n_updates


@pytest.mark.parametrize("weakest", range(3))
def test_aug_lets_the_weakest_grow_after_every_tenth(case, weakest):
    network, (batch,), step = case("boosted", rows=[(0, 12)])
    network.encoders[weakest].register_forward_hook(lambda module, inputs, z: 0 * z)  # knows nothing
    apart = 30 * torch.eye(16)[batch.labels]
    for m in {0, 1, 2} - {weakest}:
        network.encoders[m].register_forward_hook(lambda module, inputs, z: 0 * z + apart)
    update = begin("aug", network)
    sizes = []
    for k in range(40):
        update(network, batch, plan_at(3, k / 40), step)
        sizes.append(network.fusion.n_learners.tolist())
    assert [size[weakest] for size in sizes[::4]] == list(range(1, 11))
    assert all(size[m] == 1 for size in sizes for m in range(3) if m != weakest)


def test_aug_goes_on_where_it_was_left(case):
    network, batches, step = case("boosted", missing=0.3)
    update = begin("aug", network)
    for k, batch in enumerate(batches):
        update(network, batch, plan_at(3, 0.08 + k / 100), step)
    network_2, _, step_2 = case("boosted", missing=0.3)
    network_2.load_state_dict(network.state_dict())
    update_2 = begin("aug", network_2)
    update_2.load_state_dict(update.state_dict())
    for net, go_on, each in ((network, update, step), (network_2, update_2, step_2)):
        go_on(net, batches[0], plan_at(3, 0.25), each)
    assert network.fusion.n_learners.tolist() == network_2.fusion.n_learners.tolist()
    assert network.fusion.n_learners.sum() == 5
    assert step_2.losses == step.losses[-3:]


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "boosted"])
def test_aug_takes_turns_where_nothing_can_grow(case, fusion):
    network, batches, step = case(fusion, missing=0.4)
    copy = deepcopy(network)
    begin("aug", network)(network, batches[2], plan_at(3, 0.5), step)
    weights = fusion in WITH_WEIGHTS
    turns = [{f"encoders.{m}", f"heads.{m}"} for m in range(3)]
    assert [parts(gradients) for gradients in step.gradients] == [*turns, *[{"fusion"}] * weights]
    expected = [own_loss(copy, batches[2], m).item() for m in range(3)]
    assert step.losses[:3] == pytest.approx(expected, rel=1e-4)


def test_a_boosted_model_is_saved_and_loaded_as_far_as_it_grew(make_dataset, make_network, tmp_path):
    dataset = make_dataset(2)
    network = make_network(dataset, "boosted").eval()
    batch = take(dataset, dataset.splits["test"])
    one = network(batch)
    network.fusion.grow(1)
    assert (network(batch) - one).abs().max() > 1e-3
    MultimodalClassifier(network).save_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(MultimodalClassifier.from_pretrained(tmp_path).network(batch), network(batch))


# --- data remixing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_the_least_sure_modality_has_the_flattest_prediction_of_those_present(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 50, 3, generator=generator)
    present = torch.rand(50, 4, generator=generator) < 0.6
    present[:, 0] |= ~present.any(1)
    given = least_sure_modality(logits, present)
    for i, m in enumerate(given.tolist()):
        entropy = torch.distributions.Categorical(logits=logits[:, i]).entropy()
        assert present[i, m]
        assert entropy[m] == pytest.approx(entropy[present[i]].max().item())
    torch.testing.assert_close(least_sure_modality(logits + 7, present), given)  # no shift of logits matters


@pytest.mark.parametrize("fusion", FUSIONS)
def test_remixed_samples_train_one_modality_each(case, fusion):
    network, batches, step = case(fusion, missing=0.4, rows=[(0, 12)])
    seen, encoded = [], []
    fuse = network.fuse
    network.fuse = lambda z, present, *rest: (seen.append(present), fuse(z, present, *rest))[1]
    for m, encoder in enumerate(network.encoders):
        encoder.register_forward_hook(lambda _, inputs, z, m=m: encoded.append((m, len(z), z.requires_grad)))
    begin("data-remixing", network, warmup=0.2)(network, batches[0], plan_at(3, 0.2), step)
    trained = [present for present in seen if present.ndim == 2]
    assert sum(len(present) for present in trained) == 12
    for present, gradients, (m, n_rows, grad) in zip(trained, step.gradients, encoded[3:], strict=True):
        assert present.sum(1).tolist() == [1] * len(present)
        assert present[:, m].all()
        assert (n_rows, grad) == (len(present), True)
        assert {part for part in parts(gradients) if part.startswith("encoders")} == {f"encoders.{m}"}


# --- more against fewer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_more_vs_fewer_charges_what_more_modalities_lose(seed):
    more, fewer = torch.rand(2, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    more.requires_grad_()
    loss = more_vs_fewer_loss(more, fewer)
    expected = [max(0.0, a - b) for a, b in zip(more.tolist(), fewer.tolist(), strict=True)]
    assert loss.item() == pytest.approx(sum(expected) / 20)
    loss.backward()
    torch.testing.assert_close(more.grad, (more.detach() > fewer).double() / 20)
    assert more_vs_fewer_loss(torch.minimum(more, fewer), fewer) == 0
