"""Pictures of an audit: what is drawn, and that no name of a modality can break them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from equilib import audit
from equilib.plots import plot_contributions, plot_interactions, plot_missing

PLOTS = [plot_contributions, plot_missing, plot_interactions]


def result_of(names=("a", "b", "c"), **options):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    inputs = {name: k * labels + rng.normal(size=100) for k, name in enumerate(names)}
    middle = sum(k * k / 2 for k in range(len(names)))
    return audit(
        lambda x: (sum(k * v for k, v in enumerate(x.values())) > middle).astype(int), (inputs, labels), **options
    )


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("names", [["a"], list("abcdef"), ["$\\frac$", "_b", "100 %"]], ids=str)
def test_any_audit_can_be_drawn(plot, names, tmp_path):
    ax = Figure().subplots()
    assert plot(result_of(names), ax=ax) is ax
    plot(result_of(names)).figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_contributions_are_drawn_strongest_first_with_their_intervals():
    result = result_of()
    ax = plot_contributions(result)
    order = np.argsort(-result.shapley)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], result.shapley[order])
    assert [label.get_text() for label in ax.get_yticklabels()] == [result.modalities[k] for k in order]
    ends = np.asarray([segment[:, 0] for segment in ax.containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(np.diff(ends)[:, 0] / 2, 1.984 * result.shapley_errors[order], rtol=1e-3)


def test_missing_modalities_are_drawn_from_none_on():
    result = result_of()
    line = plot_missing(result).get_lines()[0]
    values = [result.value_of_all, *result.missing.values()]
    np.testing.assert_allclose(line.get_xydata(), np.stack([[0, 0.3, 0.5, 0.7], values], 1))


def test_the_matrix_is_that_of_the_interactions():
    result = result_of()
    np.testing.assert_array_equal(plot_interactions(result).images[0].get_array(), result.interactions)


@pytest.mark.parametrize("plot", [plot_missing, plot_interactions])
def test_what_was_not_measured_is_not_drawn(plot):
    with pytest.raises(ValueError, match=r"^result must come from a complete table of coalitions"):
        plot(result_of(budget=6, seed=0))
