"""The training loop: what a run is determined by, what it keeps, and what it measures."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from combinations import PAIRS

from equilib import contribution_shares, edm, shapley_scheduler, shapley_values
from equilib_torch import InputError, fit, load_dataset, summarise
from equilib_torch.data import Modality
from equilib_torch.data.batches import loader
from equilib_torch.methods import METHODS, joint
from equilib_torch.methods.base import stateless
from equilib_torch.naming import by_coalition
from equilib_torch.network import FUSIONS
from equilib_torch.registry import Registry
from equilib_torch.training import loop
from equilib_torch.training import state as state_module
from equilib_torch.training.device import find_machine
from equilib_torch.training.evaluation import VALUES, evaluate
from equilib_torch.training.planning import sufficiency
from equilib_torch.training.step import make_step

KINDS = ("vector", "sequence", "image", "colour")


@pytest.fixture
def train(make_dataset, make_options):
    """Train a run of n modalities, some absent; keywords are options."""

    def run(n=3, *, missing=0.2, noise=1.0, on_epoch=None, **options):
        dataset = make_dataset(n, kinds=KINDS, missing=missing, noise=noise)
        return fit(
            make_options(**{"keep": "best", "stack": False, "memory_freeze": 1.0, **options}),
            dataset,
            on_epoch=on_epoch,
        )

    return run


@pytest.fixture
def change_method(monkeypatch):
    """Change a method for the runs that begin from now on."""

    def change(name, **changes):
        entries = [replace(entry, **changes) if entry.name == name else entry for entry in METHODS.values()]
        monkeypatch.setattr(state_module, "METHODS", Registry("method", entries))

    return change


def findings(run):
    """The summary without what may differ between equal runs."""
    summary = summarise(run, seconds_total=0.0)
    return {key: value for key, value in summary.items() if key not in ("seconds", "samples_per_second")}


def weights(run):
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items()}


def scores_of(run):
    return [(record["accuracy"], record["log_likelihood"]) for record in run.history]


def close(value):
    """The same record with its numbers compared up to rounding."""
    if isinstance(value, dict):
        return {key: close(item) for key, item in value.items()}
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


# --- every combination -----------------------------------------------------------------------------------------------


EVERY = [(method, fusion, 3) for method, fusion in PAIRS]
EVERY += [(method, "memory", 1) for method in METHODS] + [("equilib", fusion, 1) for fusion in FUSIONS]
EVERY += [(method, "memory", 2) for method in METHODS] + [("equilib", "memory", 8), ("joint", "concat", 8)]


@pytest.mark.parametrize(("method", "fusion", "n"), sorted(set(EVERY)))
def test_every_method_trains_every_fusion(train, method, fusion, n):
    run = train(n, method=method, fusion=fusion, epochs=1)
    (record,) = run.history
    assert math.isfinite(record["train_loss"])
    assert record["log_likelihood"] <= 0
    assert run.test.values.shape == (2**n,)
    assert all(tensor.isfinite().all() for tensor in run.network.state_dict().values())


@pytest.mark.parametrize("mapping", ["none", "feature", "sample", "both"])
@pytest.mark.parametrize("inherit", [True, False])
def test_every_form_of_the_memory(train, mapping, inherit):
    run = train(fusion="memory", memory_mapping=mapping, memory_inherit=inherit)
    assert bool(run.network.memory.initial.any()) == (inherit and run.best_epoch > 1)
    assert ("fusion.memory.maps.0.weight" in weights(run)) == (mapping in ("feature", "both"))


def test_a_usual_fusion_is_taken_where_none_is_given(train):
    for method in METHODS:
        assert train(1, method=method, epochs=1).network.config.fusion == METHODS[method].fusion


@pytest.mark.slow
def test_it_learns(make_dataset, make_options):
    dataset = make_dataset(2, noise=0.3, rows=120)
    for method in METHODS:
        run = fit(make_options(method=method, epochs=8, lr=5e-3), dataset)
        assert run.test.accuracies[-1] > 0.9, method


# --- reproducibility -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(METHODS))
def test_the_same_options_give_the_same_run(train, method):
    a, b = (train(method=method, fusion="memory", memory_mapping="both", seed=3) for _ in range(2))
    assert a.history == b.history
    assert findings(a) == findings(b)
    assert all(torch.equal(x, weights(b)[name]) for name, x in weights(a).items())


def test_another_seed_gives_another_run(train):
    a, b = train(seed=0, dropout=0.0), train(seed=1, dropout=0.0)
    assert a.history != b.history
    assert not torch.equal(a.network.heads[0].weight, b.network.heads[0].weight)


def random_states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def test_the_global_random_states_are_neither_used_nor_moved(train):
    torch.manual_seed(5)
    before = random_states()
    a = train()
    assert random_states() == before
    torch.manual_seed(6)
    assert train().history == a.history


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad(),
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.enable_grad(),
    ],
    ids=lambda context: type(context).__name__,
)
def test_the_context_of_the_caller_neither_counts_nor_changes(train, context):
    expected = train(method="mmpareto", fusion="memory")
    with context:
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        run = train(method="mmpareto", fusion="memory")
        assert flags == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    assert run.history == expected.history
    assert not any(tensor.is_inference() for tensor in run.network.state_dict().values())


def test_the_default_dtype_of_the_caller_neither_counts_nor_changes(train):
    expected = train()
    torch.set_default_dtype(torch.float64)
    try:
        assert train().history == expected.history
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_training_on_the_cpu_does_not_touch_cuda(train, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("CUDA was touched")

    expected = train()
    for name in ("_lazy_init", "_lazy_call", "get_rng_state", "set_rng_state", "is_available", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert train(device="cpu").history == expected.history


def test_the_caller_s_accelerate_state_stays(train):
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState, GradientState, PartialState

    try:
        accelerate.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
        kinds = (AcceleratorState, PartialState, GradientState)
        before = [dict(kind._shared_state) for kind in kinds]
        train(precision="no")
        assert [dict(kind._shared_state) for kind in kinds] == before
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def test_a_launcher_s_variables_for_one_process_change_nothing(train, monkeypatch):
    expected = train()
    for name, value in {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "ACCELERATE_MIXED_PRECISION": "bf16",
    }.items():
        monkeypatch.setenv(name, value)
    assert train().history == expected.history
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="training runs in one process, got WORLD_SIZE=2; start it without a launcher"):
        train()


@pytest.mark.parametrize("value", list(VALUES))
def test_the_evaluation_batch_size_changes_no_result(train, value):
    runs = [train(coalition_value=value, eval_batch_size=size) for size in (1, 4, 1000)]
    for other in runs[1:]:
        assert [close(record) for record in other.history] == runs[0].history
        assert close(findings(other)) == findings(runs[0])
        assert np.array_equal(other.test.accuracies, runs[0].test.accuracies)


def test_on_epoch_changes_nothing(train):
    assert train(on_epoch=lambda record, network: torch.rand(3)).history[0] == train().history[0]


def test_on_epoch_ends_a_run_by_returning_false(train):
    full = train(epochs=6, lr=3e-2, noise=3.0)
    run = train(epochs=6, lr=3e-2, noise=3.0, on_epoch=lambda record, network: record["epoch"] < 3)
    assert run.history == full.history[:3]
    assert run.best_epoch == max(range(3), key=lambda i: scores_of(run)[i]) + 1
    again = evaluate(run.network, loader(run.dataset, "test", 256), VALUES["accuracy"])
    assert np.array_equal(again.accuracies, run.test.accuracies)


class Told:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


def test_progress_is_told(make_dataset, make_options):
    told = Told()
    run = fit(make_options(epochs=2), make_dataset(), progress=told)  # 30 samples in batches of 8
    epochs = [[("advance",)] * 4 + [("show", record)] for record in run.history]
    assert told.calls == [("start", 8), ("advance", 0), *epochs[0], *epochs[1], ("close",)]


def test_progress_ends_where_a_run_fails(make_dataset, make_options):
    told = Told()
    with pytest.raises(InputError, match="diverged"):
        fit(make_options(lr=1e30, epochs=30, weight_decay=1e3), make_dataset(), progress=told)
    assert told.calls[-1] == ("close",)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept_and_tested(train):
    kept = []

    def note(record, network):
        kept.append(None if network is None else {k: v.clone() for k, v in network.state_dict().items()})

    run = train(epochs=8, lr=3e-2, noise=3.0, on_epoch=note)
    scores = scores_of(run)
    best = scores.index(max(scores))
    assert run.best_epoch == best + 1 < 8  # else the last would do as well
    improved = [i for i in range(8) if scores[i] > max(scores[:i], default=(-1.0, 0.0))]
    assert [i for i, network in enumerate(kept) if network is not None] == improved
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in kept[best].items())
    again = evaluate(run.network, loader(run.dataset, "test", 256), VALUES["accuracy"])
    assert np.array_equal(again.accuracies, run.test.accuracies)
    val = evaluate(run.network, loader(run.dataset, "val", 256), VALUES["accuracy"])
    assert by_coalition(run.dataset.names, val.accuracies) == run.history[best]["coalition_accuracy"]


@pytest.mark.parametrize(
    ("accuracies", "likelihoods", "best"),
    [
        ([0.5, 0.5, 0.5, 0.5], [-2, -1, -3, -1], 2),
        ([0.5, 0.7, 0.6, 0.7], [-1, -4, -2, -3], 4),
        ([0.4, 0.3], [-9, 0], 1),
    ],
)
def test_accuracy_decides_and_among_equals_the_likelihood(train, monkeypatch, accuracies, likelihoods, best):
    measured = [
        (np.array([0.3, 0.4, 0.4, accuracy]), float(likelihood))
        for accuracy, likelihood in zip(accuracies, likelihoods, strict=True)
    ]
    scores = iter([*measured, measured[0]])  # the last is for the test split

    def scripted(network, batches, value, **context):
        table, likelihood = next(scores)
        measurement = evaluate(network, batches, value, **context)
        return measurement._replace(values=table, accuracies=table, log_likelihood=likelihood)

    monkeypatch.setattr(loop, "evaluate", scripted)
    assert train(2, epochs=len(measured)).best_epoch == best


def test_test_data_have_no_influence_on_training(make_dataset, make_options):
    dataset = make_dataset(2)
    rows = dataset.splits["test"]
    modalities = []
    for modality in dataset.modalities:
        values = modality.values.copy()
        values[rows] = 7.0
        modalities.append(replace(modality, values=values))
    labels = dataset.labels.copy()
    labels[rows] = 0
    a = fit(make_options(), dataset)
    b = fit(make_options(), replace(dataset, modalities=tuple(modalities), labels=labels))
    assert a.history == b.history
    assert a.best_epoch == b.best_epoch


# --- the schedule ----------------------------------------------------------------------------------------------------


def orders(run):
    return [record["order"] for record in run.history]


@pytest.mark.parametrize("method", ["equilib", "joint"])
@pytest.mark.parametrize(("policy", "sign"), [("weak-to-strong", 1), ("strong-to-weak", -1)])
def test_the_order_follows_what_was_measured(train, method, policy, sign):
    run = train(4, method=method, fusion="memory", policy=policy, epochs=4, noise=2.0)
    names = list(run.dataset.names)
    assert orders(run)[0] == names
    for last, record in zip(run.history, run.history[1:], strict=False):
        ranking = np.argsort(sign * np.array([last["shapley"][name] for name in names]), kind="stable")
        assert record["order"] == last["next_order"] == [names[k] for k in ranking]
        table = np.array([run.test.accuracies[0], *last["coalition_accuracy"].values()])
        assert list(record["sufficiency"].values()) == pytest.approx(sufficiency(table).tolist())
    assert len({tuple(order) for order in orders(run)}) > 1
    assert [names[k] for k in run.network.memory.order.tolist()] == run.history[run.best_epoch - 1]["order"]


def test_a_fixed_order_stays(train):
    assert orders(train(4, policy="fixed", epochs=3, noise=2.0)) == [list("abcd")] * 3


@pytest.mark.slow
def test_a_random_order_is_new_in_every_epoch_and_for_every_seed(train):
    drawn = [
        tuple(order)
        for seed in range(3)
        for order in orders(train(8, fusion="sum", policy="random", epochs=4, seed=seed))
    ]
    assert len(set(drawn)) == len(drawn)  # 12 of 40,320: a coincidence has a chance of 0.2 %, and the seeds are fixed


def test_updates_go_to_the_weak(train):
    run = train(3, method="equilib:updates-per-batch=9", epochs=3)
    for last, record in zip(run.history, run.history[1:], strict=False):
        assert sum(record["updates"].values()) == 9
        weak_first = [record["updates"][name] for name in last["next_order"]]
        assert weak_first == sorted(weak_first, reverse=True)
    assert run.history[0]["updates"] == {"a": 3, "b": 3, "c": 3}
    assert run.history[-1]["updates"] != run.history[0]["updates"]


def test_the_plan_is_carried_out(train, change_method):
    """The method gets the order and the updates that the record says."""
    plans = []

    def spy(network, batch, plan, step):
        plans.append(plan)
        joint.update(network, batch, plan, step)

    change_method("equilib", start=stateless(spy), keywords=())
    run = train(3, method="equilib:updates-per-batch=7", epochs=3, batch_size=8)
    assert len(plans) == 3 * 4  # 30 samples: the last batch has 6
    for i, record in enumerate(run.history):
        for plan in plans[4 * i : 4 * i + 4]:
            assert [run.dataset.names[k] for k in plan.order] == record["order"]
            assert list(plan.updates) == list(record["updates"].values())
            assert plan.epoch == record["epoch"]
            assert list(plan.sufficiency) == list(record["sufficiency"].values())


def test_smoothing_averages_over_epochs(train):
    run = train(4, shapley_smoothing=0.8, epochs=5, noise=4.0)
    init, update, schedule = shapley_scheduler(4, smoothing=0.8)
    state = init()
    for record in run.history:
        state = update(state, np.array(list(record["shapley"].values())))
        assert record["next_order"] == [run.dataset.names[k] for k in schedule(state).order]
    assert orders(run) != orders(train(4, epochs=5, noise=4.0))


# --- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", list(VALUES))
def test_records_are_consistent(train, value):
    for record in train(3, coalition_value=value).history:
        shapley = np.array(list(record["shapley"].values()))
        assert list(record["shares"].values()) == pytest.approx(contribution_shares(shapley).tolist())
        assert record["edm"] == pytest.approx(float(edm(shapley)))
        assert record["accuracy"] == record["coalition_accuracy"]["a+b+c"]
        assert len(record["coalition_accuracy"]) == 7


def test_the_value_decides_the_contributions(train):
    runs = {value: train(3, coalition_value=value, epochs=1) for value in VALUES}
    accuracy = runs["accuracy"].test
    assert np.array_equal(accuracy.values, accuracy.accuracies)
    for name, run in runs.items():
        assert np.array_equal(run.test.accuracies, accuracy.accuracies)  # one epoch: nothing has followed from it yet
        assert (run.test.values == accuracy.values).all() == (name == "accuracy")
        assert sum(shapley_values(run.test.values)) == pytest.approx(run.test.values[-1] - run.test.values[0])
    assert runs["log-likelihood"].test.values[-1] == pytest.approx(runs["log-likelihood"].test.log_likelihood)


# --- precision, faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "fusion"), PAIRS)
def test_bf16_is_close_to_float32(train, method, fusion):
    options = {"method": method, "fusion": fusion, "memory_mapping": "both", "dropout": 0.0, "epochs": 1}
    half, full = train(2, precision="bf16", **options), train(2, **options)
    assert half.history[0]["train_loss"] == pytest.approx(full.history[0]["train_loss"], rel=0.02)
    assert half.history[0]["log_likelihood"] == pytest.approx(full.history[0]["log_likelihood"], rel=0.05)
    assert half.history[0]["train_loss"] != full.history[0]["train_loss"]
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(half).values())


def test_in_bf16_an_update_sees_the_weights_of_the_one_before(train, change_method):
    """Autocast keeps its copies of the weights until it is left, and one batch has several updates."""
    seen = []

    def update(network, batch, plan, step):
        features = [z.detach() for z in network.encode(batch)]
        for _ in range(2):
            logits = network.unimodal(features)[0]
            seen.append(logits.detach().float().clone())
            step(torch.nn.functional.cross_entropy(logits, batch.labels))

    change_method("joint", start=stateless(update))
    train(2, method="joint", precision="bf16", epochs=1, batch_size=30, lr=0.5)
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (5, 3)])
def test_the_memory_format_of_a_gradient_changes_no_update(shape):
    """A fused optimiser goes through weights and gradients as they lie in memory."""

    def updated(fused, adjust):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(shape).movedim(1, -1).contiguous().movedim(-1, 1))
        optimiser = torch.optim.AdamW([weight], lr=0.1, fused=fused)
        step = make_step(optimiser, find_machine("cpu", "no").new_scaler(), [])
        for factor in torch.randn(2, *shape):
            step((factor * weight).sum(), adjust(weight, factor.contiguous()))
        return weight.detach()

    expected = updated(False, lambda weight, gradient: None)
    laid_out_anew = updated(True, lambda weight, gradient: lambda: setattr(weight, "grad", gradient))
    torch.testing.assert_close(laid_out_anew, expected)


@pytest.mark.parametrize("lr", [1e30, 1e3])
def test_divergence_is_said(train, lr):
    with pytest.raises(InputError, match=r"training diverged in epoch \d+: predictions are not finite"):
        train(2, lr=lr, epochs=30, weight_decay=1e3)


@pytest.mark.parametrize("value", list(VALUES))
def test_test_data_that_overflow_are_no_result(make_dataset, make_options, value):
    dataset = make_dataset(2)
    values = dataset.modalities[0].values.copy()
    values[dataset.splits["test"][0]] = 3e38
    far = Modality("a", "vector", values * 1e-1, None, dataset.modalities[0].present)
    narrow = replace(far, values=np.where(np.abs(far.values) < 1e30, far.values * 1e-6, far.values))
    dataset = replace(dataset, modalities=(narrow, dataset.modalities[1]))
    with pytest.raises(InputError, match="toy: predictions on test are not finite"):
        fit(make_options(coalition_value=value, epochs=1), dataset)


def test_options_that_do_not_fit_the_data(train):
    with pytest.raises(InputError, match="batch-size must be at most the 30 training samples, got 31"):
        train(2, batch_size=31)
    with pytest.raises(InputError, match="updates-per-batch must be at least 3, one per modality, got 2"):
        train(3, method="equilib:updates-per-batch=2")
    with pytest.raises(InputError, match="toy has no modality 'z'"):
        train(2, encoder=["z=mlp"])
    assert train(2, batch_size=30, method="equilib:updates-per-batch=2", epochs=1).best_epoch == 1


def test_options_are_checked(make_options):
    for name, value, rule in [
        ("updates", 0, "updates must be at least 1"),
        ("patience", 0, "patience must be at least 1"),
        ("memory_freeze", 1.5, r"memory-freeze must be in \[0, 1\]"),
        ("keep", "first", "keep must be one of last, best"),
        ("seed", 2**32, "seed must be in"),
        ("shapley_smoothing", 1.0, r"shapley-smoothing must be in \[0, 1\)"),
        ("dropout", math.nan, r"dropout must be in \[0, 1\)"),
        ("width", 24, "width must be a positive multiple of 16"),
        ("weight_decay", -1.0, "weight-decay must be at least 0"),
        ("lr", math.nan, "lr must be positive and finite"),
        ("encoder", ["=mlp"], "encoder must be given as MODALITY=NAME"),
    ]:
        with pytest.raises(InputError, match=rule):
            make_options(**{name: value})


def test_quick_end_to_end(make_options):
    run = fit(make_options(epochs=3, width=64, batch_size=16, lr=2e-3), load_dataset("mfeat-small", seed=0))
    assert run.test.accuracies[-1] > 0.8
    assert run.test.accuracies[0] == pytest.approx(0.1)
