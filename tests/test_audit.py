from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import to_numpy
from sklearn.linear_model import LogisticRegression

from equilib import audit, coalitions, edm, expected_when_missing, shapley_interactions, shapley_values
from equilib.findings import describe
from equilib.scores import SCORES
from equilib.uncertainty import (
    Contributions,
    edm_interval,
    half_width,
    mean_and_covariance,
    measure_contributions,
    p_value,
)

NAMES = ("camera", "radar", "noise")


def make_data(n=300, seed=0, xp=np):
    """Three sensors of three classes; the last one knows nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    sensors = [signal * np.eye(3)[labels] + rng.normal(size=(n, 3)) for signal in (3.0, 1.5, 0.0)]
    return {name: xp.asarray(x, dtype=xp.float32) for name, x in zip(NAMES, sensors, strict=True)}, labels


def predict(inputs):
    return 3 * inputs["camera"] + 1.5 * inputs["radar"] + 0.3 * inputs["noise"]


def drop_predict(inputs):
    weights = {"camera": 3, "radar": 1.5, "noise": 0.3}
    return sum(weights[name] * x for name, x in inputs.items())


# --- what is measured ------------------------------------------------------------------------------------------------


def test_every_figure_follows_from_the_samples():
    inputs, labels = make_data()
    result = audit(predict, (inputs, labels), keep_samples=True)
    means = {name: x.mean(0) for name, x in inputs.items()}
    for row, members in enumerate(coalitions(3).tolist()):
        masked = {
            n: x if m else np.broadcast_to(means[n], x.shape) for (n, x), m in zip(inputs.items(), members, strict=True)
        }
        np.testing.assert_array_equal(result.samples[:, row], predict(masked).argmax(1) == labels)
    np.testing.assert_allclose(result.values, result.samples.mean(0))
    np.testing.assert_allclose(result.shapley, shapley_values(result.values), atol=1e-12)
    spread = shapley_values(result.samples).std(0, ddof=1) / math.sqrt(300)
    np.testing.assert_allclose(result.shapley_errors, spread)
    np.testing.assert_allclose(result.interactions, shapley_interactions(result.values), atol=1e-12)
    assert result.edm == pytest.approx(float(edm(result.shapley)))
    assert list(result.missing) == [0.3, 0.5, 0.7]
    for rate, value in result.missing.items():
        assert value == pytest.approx(float(expected_when_missing(result.values, rate)))
    assert (result.modalities, result.n_samples, result.absent, result.score) == (NAMES, 300, "mean", "accuracy")
    assert result.value_of_all == pytest.approx(result.values[-1])


def test_errors_agree_with_the_bootstrap():
    inputs, labels = make_data()
    result = audit(predict, (inputs, labels), keep_samples=True)
    rng = np.random.default_rng(1)
    drawn = np.stack([shapley_values(result.samples[rng.integers(0, 300, 300)].mean(0)) for _ in range(2000)])
    np.testing.assert_allclose(result.shapley_errors, drawn.std(0), rtol=0.1)


@pytest.mark.parametrize("xp", [np, torch, jnp], ids=["numpy", "torch", "jax"])
@pytest.mark.parametrize("absent", ["mean", "zero", "shuffle"])
def test_every_library_gives_the_same(xp, absent):
    inputs, labels = make_data(60, xp=xp)
    seen = set()

    def spy(inputs):
        seen.update(type(x) for x in inputs.values())
        return predict(inputs)

    result = audit(spy, (inputs, labels), absent=absent, seed=0)
    assert seen == {type(inputs["camera"])}
    expected = audit(predict, make_data(60), absent=absent, seed=0)
    np.testing.assert_allclose(result.values, expected.values, atol=1e-6)


def test_a_torch_model_whose_outputs_have_a_gradient():
    inputs, labels = make_data(40, xp=torch)
    weight = torch.ones(3, requires_grad=True)
    result = audit(lambda x: (predict(x) * weight).to(torch.bfloat16), (inputs, torch.as_tensor(labels)))
    assert result.value_of_all > 0.8


def test_a_jitted_function():
    result = audit(jax.jit(predict), make_data(40, xp=jnp))
    np.testing.assert_allclose(result.values, audit(predict, make_data(40)).values, atol=1e-6)


def test_batches_give_what_the_whole_gives():
    inputs, labels = make_data()
    whole = audit(predict, (inputs, labels))

    def batches():
        for start in range(0, 300, 77):
            rows = slice(start, start + 77)
            yield {name: x[rows] for name, x in inputs.items()}, labels[rows]

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 300

        def __getitem__(self, i):
            return {name: torch.as_tensor(x[i]) for name, x in inputs.items()}, labels[i]

    for data in (batches(), list(batches()), torch.utils.data.DataLoader(Rows(), batch_size=77)):
        result = audit(predict, data)
        np.testing.assert_allclose(result.values, whole.values, atol=1e-6)
        np.testing.assert_allclose(result.shapley_errors, whole.shapley_errors, atol=1e-6)
    shuffled = [audit(predict, data, absent="shuffle", seed=3).values for data in ((inputs, labels), batches())]
    np.testing.assert_array_equal(*shuffled)


def test_dropped_modalities_are_not_there_and_nothing_is_answered_by_the_frequencies():
    inputs, labels = make_data()
    labels[:200] = 2
    seen = []

    def spy(inputs):
        seen.append(tuple(inputs))
        return drop_predict(inputs)

    result = audit(spy, (inputs, labels), absent="drop", keep_samples=True)
    assert sorted(set(seen)) == sorted(s for k in (1, 2, 3) for s in itertools.combinations(NAMES, k))
    assert result.values[0] == np.mean(labels == 2)
    np.testing.assert_array_equal(result.samples[:, 0], labels == 2)
    np.testing.assert_allclose(result.shapley, shapley_values(result.values), atol=1e-12)


def test_nothing_is_answered_by_the_mean_where_numbers_are_predicted():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    result = audit(lambda inputs: sum(inputs.values()), ({"x": x, "y": y}, x + y), absent="drop", score="squared-error")
    assert result.values[0] == pytest.approx(-np.var(x + y))
    assert result.values[3] == 0


def test_what_stands_for_the_absent_can_be_given():
    inputs, labels = make_data(30)
    seen = {}

    def spy(inputs):
        seen[len(seen)] = {name: np.asarray(x) for name, x in inputs.items()}
        return predict(inputs)

    given = {"camera": np.arange(3.0), "radar": 7.0, "noise": np.zeros((1, 3))}
    assert audit(spy, (inputs, labels), absent=given).absent == "given arrays"
    np.testing.assert_array_equal(seen[0]["camera"], np.tile([0.0, 1.0, 2.0], (30, 1)))
    assert (seen[0]["radar"] == 7).all()
    seen.clear()
    audit(spy, (inputs, labels), absent=lambda name, x: -x)
    np.testing.assert_array_equal(seen[0]["noise"], -inputs["noise"])


def test_the_background_is_where_means_and_strangers_come_from():
    inputs, labels = make_data(30)
    seen = []

    def spy(inputs):
        seen.append(np.asarray(inputs["camera"]))
        return predict(inputs)

    background = {name: np.asarray([[5.0] * 3, [np.nan, 7, 7]]) for name in NAMES}
    audit(spy, (inputs, labels), background=background)
    np.testing.assert_array_equal(seen[0], np.tile([5.0, 6.0, 6.0], (30, 1)))  # NaN takes no part
    seen.clear()
    audit(spy, (inputs, labels), background=(make_data(5)[0], np.zeros(5)), absent="shuffle")
    assert {tuple(row) for row in seen[0].tolist()} == {tuple(row) for row in make_data(5)[0]["camera"].tolist()}


def test_a_shuffled_sample_never_stands_for_itself():
    inputs, labels = {"a": np.arange(9.0), "b": np.arange(9.0)}, np.arange(9)
    seen = []
    audit(lambda x: seen.append(x) or (x["a"] + x["b"]) / 2, (inputs, labels), absent="shuffle", score="squared-error")
    assert (seen[0]["a"] != inputs["a"]).all()
    np.testing.assert_array_equal(seen[0]["a"], seen[0]["b"])  # the same stranger in all modalities
    assert sorted(seen[0]["a"].tolist()) == list(range(9))


def test_labels_and_classes():
    inputs, labels = make_data()
    texts = np.asarray(["ant", "bee", "cow"])
    expected = audit(predict, (inputs, labels)).values
    of_columns = audit(predict, (inputs, texts[labels]), classes=["ant", "bee", "cow"])
    of_labels = audit(lambda x: texts[predict(x).argmax(1)], (inputs, texts[labels]))
    turned = audit(lambda x: predict(x)[:, ::-1], (inputs, labels), classes=[2, 1, 0])
    for result in (of_columns, of_labels, turned):
        np.testing.assert_array_equal(result.values, expected)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_has_a_result(score):
    inputs, labels = make_data(50)
    of_numbers = score in ("squared-error", "absolute-error")

    def probabilities(inputs):
        logits = predict(inputs)
        table = np.exp(logits - logits.max(1, keepdims=True))
        table /= table.sum(1, keepdims=True)
        return table @ np.arange(3) if of_numbers else table

    result = audit(probabilities, (inputs, labels), score=score)
    assert result.score == score
    assert result.shapley[0] > result.shapley[2]
    assert result.contributions.is_learned


def test_a_score_of_ones_own():
    inputs, labels = make_data(50)

    def margin(outputs, targets):
        return outputs[np.arange(len(targets)), targets] - outputs.mean(1)

    result = audit(predict, (inputs, labels), score=margin)
    assert result.score == "margin"
    assert "camera adds" in result.finding


def test_clusters_have_larger_errors():
    inputs, labels = make_data(100)
    twice = {name: np.repeat(x, 2, axis=0) for name, x in inputs.items()}, np.repeat(labels, 2)
    alone, together = audit(predict, twice), audit(predict, twice, groups=np.repeat(np.arange(100), 2))
    np.testing.assert_allclose(together.shapley_errors, audit(predict, (inputs, labels)).shapley_errors, rtol=1e-6)
    assert (alone.shapley_errors < together.shapley_errors)[:2].all()
    assert together.n_groups == 100


def test_many_modalities_are_sampled():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    signal = np.linspace(0, 1.5, 14)
    inputs = {f"m{k}": s * labels + rng.normal(size=200) for k, s in enumerate(signal)}
    result = audit(lambda x: np.stack([0 * labels, sum(s * (x[f"m{k}"] - s / 2) for k, s in enumerate(signal))], 1),
                   (inputs, labels), budget=300, seed=0)  # fmt: skip
    assert result.values is None
    assert result.n_coalitions <= 300
    assert result.missing == {}
    assert result.shapley.sum() == pytest.approx(result.value_of_all - result.value_of_none)
    assert result.shapley[10:].min() > result.shapley[:3].max()
    assert (result.shapley_errors > 0).sum() >= 12
    assert "14" not in str(result).splitlines()[0]
    assert "m13 carries" in result.finding


def test_errors_of_sampled_audits_hold_over_samples_and_draws():
    """New samples and new coalitions each time, against all coalitions on many samples."""
    n, signal = 13, np.array([2, 1.5, 1, 1, 0.8, 0.5, 0.5, 0.3, 0.2, 0.1, 0, 0, 0])

    def draw(count: int, seed: int):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, count)
        return 0.6 * signal * (labels[:, None] - 0.5) + rng.normal(size=(count, n)), labels

    def name(x):
        return {f"m{k}": column for k, column in enumerate(x.T)}

    trained_on, labels = draw(500, 0)
    model = LogisticRegression().fit(trained_on, labels)
    mean, weights = trained_on.mean(0), model.coef_[0]
    table = np.zeros(2**n)
    many, truth = draw(8000, 1)
    for rows in np.array_split(np.arange(8000), 16):
        logits = coalitions(n).astype(np.float32) @ ((many[rows] - mean) * weights).astype(np.float32).T
        table += ((logits + model.intercept_ + mean @ weights > 0) == (truth[rows] == 1)).sum(1)
    expected = shapley_values(table / 8000)

    found = []
    for seed in range(20):
        x, labels = draw(200, 2 + seed)
        found.append(audit(lambda inputs: model.predict(np.stack([*inputs.values()], 1)), (name(x), labels),
                           background=name(trained_on), budget=5 * n, seed=seed))  # fmt: skip
    errors = np.array([result.shapley_errors for result in found])
    off = np.array([result.shapley for result in found]) - expected
    assert np.isfinite(errors).all()
    assert (np.abs(off) <= half_width(errors, found[0].contributions.degrees)).mean() >= 0.93
    assert 0.9 < np.sqrt((errors**2).mean() / (off**2).mean()) < 1.6
    low, high = np.transpose([result.edm_interval for result in found])
    assert ((low <= edm(expected)) & (edm(expected) <= high)).mean() > 0.9


def test_a_budget_of_all_coalitions_is_exact():
    data = make_data(50)
    exact, paid = audit(predict, data), audit(predict, data, budget=8)
    np.testing.assert_array_equal(exact.values, paid.values)
    few = audit(predict, data, budget=6, seed=0)
    assert few.values is None
    assert few.n_coalitions <= 6


# --- what is said ----------------------------------------------------------------------------------------------------


def test_the_sentence_says_who_carries_what():
    result = audit(predict, make_data())
    assert "camera carries " in result.finding
    assert "noise adds nothing measurable (p " in result.finding
    assert "the contributions are not equal: EDM " in result.finding
    text = str(result)
    assert all(name in text for name in NAMES)
    assert text.endswith(result.finding)


@pytest.mark.parametrize("absent", ["mean", "zero", "drop", "shuffle"])
@pytest.mark.parametrize("answer", [0, 1, 2])
def test_a_constant_prediction_is_never_balanced(absent, answer):
    inputs, labels = make_data(60)
    result = audit(lambda x: np.eye(3)[np.full(60, answer)], (inputs, labels), absent=absent)
    assert result.finding.startswith("nothing is learned: every sample gets the same prediction")
    np.testing.assert_allclose(result.edm_interval, [0, 4 / 3])


def test_noise_is_not_learned():
    inputs, _ = make_data(200)
    labels = np.random.default_rng(9).integers(0, 3, 200)
    result = audit(drop_predict, (inputs, labels), absent="drop")
    assert result.finding.startswith("nothing is learned: the accuracy of all modalities")
    assert "the majority's" in result.finding
    assert result.finding.endswith("so EDM says nothing")


def test_no_better_than_the_majority_is_said():
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.9).astype(int)
    inputs = {"a": labels + rng.normal(size=300), "b": rng.normal(size=300)}
    # All replaced it answers 0, right for a tenth; with a it is right for most, yet not for more than the majority.
    result = audit(lambda x: (x["a"] > 0.95).astype(int), (inputs, labels))
    assert result.contributions.is_gain
    assert not result.contributions.is_learned
    assert "is not above the majority's" in result.finding


def test_what_is_taken_away_is_said():
    measured = Contributions(np.asarray([0.5, -0.1]), np.diag([0.02, 0.02]) ** 2, 500.0)
    assert "b takes .10 ± .02 off the accuracy" in describe("ab", measured, score="accuracy", of_all=0.9, of_none=0.5)
    opposed = Contributions(np.asarray([0.3, -0.3]), np.diag([0.02, 0.02]) ** 2, 500.0)
    text = describe("ab", opposed, score="accuracy", of_all=0.5, of_none=0.5)
    assert text.startswith("nothing is learned")
    assert "although a carries .30 ± .02 of the accuracy; b takes .30 ± .02 off the accuracy" in text


def test_copies_are_called_redundant_and_a_sum_complementary():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 400))
    copies = audit(lambda x: (x["a"] + x["b"] > 0.9).astype(int), ({"a": a * 1.0, "b": a * 1.0}, a), absent="zero")
    assert "a and b are redundant: synergy −1" in str(copies)
    both = audit(lambda x: ((x["a"] + x["b"]) % 2).astype(int), ({"a": a * 1.0, "b": b * 1.0}, a ^ b), absent="zero")
    assert "a and b are complementary: synergy 1" in str(both)


def test_one_modality():
    inputs, labels = make_data(50)
    result = audit(lambda x: x["camera"], ({"camera": inputs["camera"]}, labels))
    assert result.shares.tolist() == [1]
    assert result.edm == 0
    assert "EDM" not in str(result)
    assert result.finding.startswith("camera carries")


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "n"), [((1.0, 1.0), 100), ((1.0, 1.0, 1.0), 100), ((3.0, 1.0), 60), ((2.0, 1.5, 0.0), 200)]
)
def test_intervals_hold(signal, n):
    """Of 200 data sets, 95 % intervals hold the truth in at least 92 %: at equilibrium, far from it, in between."""
    rng = np.random.default_rng(0)
    weights = np.asarray(signal)
    members = coalitions(len(weights))

    def sample(count):
        labels = rng.integers(0, 2, count)
        x = (2 * labels - 1)[:, None] * weights + 2 * rng.normal(size=(count, len(weights)))
        margins = (x * weights) @ members.T
        scores = (margins > 0) == labels[:, None]
        scores[:, 0] = labels == 0
        return scores.astype(float)

    truth = shapley_values(sample(400_000).mean(0))
    target = 0.0 if len(set(signal)) == 1 else float(edm(np.maximum(truth, 0)))
    held = []
    for _ in range(200):
        low, high = measure_contributions(shapley_values(sample(n))).edm_interval
        held.append(low <= target + 1e-9 and target <= high + 2e-3)
    assert np.mean(held) >= 0.92


def test_covariance_is_numpy_s():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    means, covariance, degrees = mean_and_covariance(rows)
    np.testing.assert_allclose(means, rows.mean(0))
    np.testing.assert_allclose(covariance, np.cov(rows.T) / 50)
    assert degrees == 49


def test_p_values_are_student_s():
    from scipy.stats import t

    for degrees in (3, 10, 100):
        for value in (0.5, 1.0, 2.0, 3.0):
            assert p_value(value, 1.0, degrees) == pytest.approx(2 * t.sf(value, degrees), abs=0.01)


def test_certain_shares_have_a_narrow_interval():
    low, high = edm_interval(np.asarray([0.4, 0.2]), np.zeros((2, 2)))
    assert low == high == pytest.approx(1 / 3)


# --- what is refused -------------------------------------------------------------------------------------------------

GOOD = {"a": np.zeros((4, 2)), "b": np.ones((4, 2))}
LABELS = np.asarray([0, 1, 0, 1])


def outputs_of(value):
    return lambda inputs: value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predict": None}, "predict must be callable, got NoneType"),
        ({"data": GOOD}, r"data must be \(inputs, targets\), or an iterable of such batches, got dict"),
        ({"data": 3}, r"data must be \(inputs, targets\), or an iterable of such batches, got int"),
        ({"data": [np.zeros(3)]}, r"data must hold batches \(inputs, targets\) whose inputs are a mapping"),
        ({"data": iter([])}, "data must hold at least one sample, got none"),
        ({"data": ({"a": np.zeros((0, 2))}, [])}, "data must hold at least one sample, got none"),
        ({"data": ({}, [1])}, "data must have at least one modality, got none"),
        ({"data": (GOOD, [0, 1, 0])}, "modality 'a' must have one row per target, 3, got 4"),
        ({"data": ({"a": np.float64(3)}, [0])}, "modality 'a' must be an array with one row per sample, got a scalar"),
        (
            {"data": ({"a": [[1], [1, 2]]}, [0, 1])},
            "modality 'a' must be an array with one row per sample, got a ragged",
        ),
        ({"data": (GOOD, [0, 1, math.nan, 1.0])}, "targets must be finite, got nan for sample 2"),
        ({"data": [(GOOD, LABELS), ({"a": GOOD["a"]}, LABELS)]}, "data must have the same modalities in every batch"),
        ({"absent": "average"}, "absent must be one of mean, zero, drop, shuffle, a mapping"),
        ({"absent": {"a": 0}}, r"absent must have an array for each modality, \['a', 'b'\], got \['a'\]"),
        ({"absent": {"a": np.zeros(3), "b": 0}}, r"what stands for the absent 'a' must fit its shape \(4, 2\)"),
        ({"absent": lambda name, x: x[:2]}, r"what stands for the absent 'a' must fit its shape \(4, 2\)"),
        (
            {"data": ({"a": GOOD["a"], "b": np.asarray(list("wxyz"))}, LABELS)},
            "modality 'b' holds strings, which have no mean",
        ),
        (
            {"data": ({"a": GOOD["a"], "b": np.arange(4)}, LABELS)},
            "modality 'b' holds int64, which have no mean: use absent=",
        ),
        (
            {"data": ({"a": np.asarray(list("wxyz"))}, LABELS), "absent": "zero"},
            "modality 'a' holds strings, which have no zero",
        ),
        ({"background": {"a": np.zeros((3, 2))}}, "background must have the modalities of data"),
        ({"score": "recall"}, "score must be one of accuracy, probability, .*, or callable, got 'recall'"),
        (
            {"predict": outputs_of(np.zeros(3))},
            r"predict must return \(4, n_classes\) or \(4,\) for 4 samples, got \(3,\)",
        ),
        ({"predict": outputs_of(0.5)}, r"predict must return \(4, n_classes\) or \(4,\) for 4 samples, got \(\)"),
        (
            {"predict": outputs_of(np.full((4, 2), np.nan))},
            "predict must return finite outputs, got nan for sample 0 with no",
        ),
        ({"predict": outputs_of(np.full(4, 0.3))}, r"outputs \(m,\) must be labels for the score 'accuracy', got 0.3"),
        (
            {"predict": outputs_of(np.zeros((4, 1)))},
            r"predict must return labels \(m,\) or one column per class, got \(4, 1\)",
        ),
        ({"predict": outputs_of(np.asarray(list("abab")))}, "outputs must be labels like the targets"),
        (
            {"predict": outputs_of(np.zeros((4, 2))), "data": (GOOD, [0, 1, 2, 0])},
            "targets must be from 0 to 1, the columns of what predict returns, got 2: give classes=",
        ),
        (
            {"predict": outputs_of(np.zeros((4, 2))), "classes": [0, 1, 2]},
            "classes must be one per column of what predict",
        ),
        ({"predict": outputs_of(np.zeros((4, 2))), "classes": ["x", "y"]}, "targets must be among the classes, got "),
        ({"predict": outputs_of(np.zeros((4, 2))), "classes": [1, 1]}, "classes must be a list of different labels"),
        (
            {"predict": outputs_of(np.full((4, 2), 3.0)), "score": "log-likelihood"},
            "outputs must be probabilities .* softmax",
        ),
        (
            {"predict": outputs_of(np.zeros((4, 2))), "score": "squared-error"},
            r"outputs must be \(4,\) like the targets",
        ),
        ({"score": lambda outputs, targets: 1.0}, r"score must return one number per sample, \(4,\), got shape \(\)"),
        ({"score": lambda outputs, targets: targets / 0.0}, "score must return finite numbers"),
        ({"groups": [0, 1]}, r"groups must be one per sample, 4, got shape \(2,\)"),
        ({"groups": [1, 1, 1, 1]}, "errors need at least 2 groups, got 1"),
        (
            {"predict": outputs_of(np.zeros(1)), "data": ({"a": np.zeros((1, 2))}, [0])},
            "errors need at least 2 samples, got 1",
        ),
        ({"budget": 2}, "budget must be at least 3, the number of modalities [+] 1, got 2"),
        ({"budget": 3, "keep_samples": True}, "keep_samples must be False where coalitions are drawn"),
        ({"seed": -1}, "seed must be from 0 to "),
        (
            {"data": ({str(k): np.zeros(4) for k in range(13)}, LABELS)},
            "budget must be given for 13 modalities, which have 8,192",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_rejects(arguments, message):
    known = {"predict": lambda inputs: np.arange(4) % 2, "data": (GOOD, LABELS)} | arguments
    with pytest.raises(ValueError, match=message):
        audit(known.pop("predict"), known.pop("data"), **known)


def test_what_predict_raises_says_where():
    with pytest.raises(KeyError) as raised:
        audit(lambda inputs: inputs["b"], (GOOD, LABELS), absent="drop")
    assert "raised by predict with a present, samples 0 to 3; absent='drop' leaves" in raised.value.__notes__[0]


def test_a_data_frame_is_refused_in_words():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"modality 'a' must be an array .*, got DataFrame: try .to_numpy\(\)"):
        audit(predict, ({"a": pandas.DataFrame({"x": [1.0, 2.0]})}, [0, 1]))


def test_inputs_come_back_unchanged():
    inputs, labels = make_data(20)
    before = {name: to_numpy(x).copy() for name, x in inputs.items()}
    audit(predict, (inputs, labels))
    for name, x in before.items():
        np.testing.assert_array_equal(inputs[name], x)
