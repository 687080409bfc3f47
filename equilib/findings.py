"""What measured contributions mean, in a plain sentence, for audits and for the summary of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from equilib.uncertainty import SIGNIFICANT, Contributions, half_width, p_value

SHARED_SCORES = ("accuracy", "probability", "balanced-accuracy", "macro-f1")
"""Scores of which a modality can be said to carry a part: they are 0 for a model that knows nothing right."""


def describe(
    names: Sequence[str],
    measured: Contributions,
    *,
    score: str,
    of_all: float,
    of_none: float,
    none: str = "that of none",
    is_constant: bool = False,
    majority: float | None = None,
) -> str:
    """Say what each modality contributes, and whether that is balanced, as far as the samples can tell.

    Args:
        names: of the modalities.
        measured: their contributions.
        score: name of what was measured, such as "accuracy".
        of_all: its value with all modalities.
        of_none: its value with none.
        none: what that is, as "the majority's".
        is_constant: whether every sample gets the same prediction.
        majority: the majority's accuracy, if that of all modalities is not above it.

    Example:
        >>> import numpy as np
        >>> measured = Contributions(np.asarray([0.71, 0.01]), np.diag([0.03, 0.012]) ** 2, degrees=499)
        >>> print(describe(["audio", "video"], measured, score="accuracy", of_all=0.82, of_none=0.1))
        audio carries .71 ± .03 of the accuracy; video adds nothing measurable (p .4); the contributions are not equal:
        EDM .97, 95 % .92 to 1
        >>> nothing, values = Contributions(np.zeros(2), 1e-4 * np.eye(2), degrees=99), {"of_all": 0.5, "of_none": 0.5}
        >>> print(describe(["audio", "video"], nothing, score="accuracy", none="the majority's", **values))
        nothing is learned: the accuracy of all modalities (.5) is within its error (95 %: ± .03) of the majority's
        (.5), so EDM says nothing
    """
    if is_constant:
        return "nothing is learned: every sample gets the same prediction, so EDM says nothing"
    if majority is not None and measured.is_gain:
        return (
            f"nothing is learned by this score: the {score} of all modalities ({number(of_all, 3)}) is not above the "
            f"majority's ({number(majority, 3)}), so EDM says nothing"
        )
    clear = SIGNIFICANT if measured.is_learned else SIGNIFICANT / len(names)
    parts = [_contribution(name, measured, k, score, clear) for k, name in enumerate(names)]
    if not measured.is_learned:
        sentence = _nothing_learned(measured, score, of_all, of_none, none)
        known = [part for part, p in zip(parts, measured.p_values, strict=True) if p < clear]
        return sentence + (f", although {'; '.join(known)}" if known else "")
    if len(names) > 1:
        low, high = measured.edm_interval.tolist()
        interval = f"EDM {number(measured.edm)}, 95 % {number(low)} to {number(high)}"
        if low > 0:
            parts.append(f"the contributions are not equal: {interval}")
        else:
            parts.append(f"equal contributions cannot be ruled out: {interval}")
    return "; ".join(parts)


def describe_p(p: float) -> str:
    """Write a p-value in one digit.

    Example:
        >>> describe_p(0.0002), describe_p(0.034), describe_p(0.38), describe_p(1.0)
        ('p < .001', 'p .03', 'p .4', 'p 1')
    """
    if p < 0.001:
        return "p < .001"
    return f"p {number(p, max(1, -math.floor(math.log10(p))))}"


def number(value: float, decimals: int = 2) -> str:
    """Write a number with so many decimals at most, and without a leading 0.

    Example:
        >>> number(0.7119), number(-0.5), number(12.0), number(-0.0001)
        ('.71', '−.5', '12', '0')
    """
    text = fixed(value, decimals)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if text.strip("−0") else "0"


def fixed(value: float, decimals: int) -> str:
    """Write a number with just so many decimals, and without a leading 0."""
    text = f"{abs(value):.{decimals}f}"
    sign = "−" if value < 0 and float(text) else ""
    return sign + (text.removeprefix("0") if decimals else text)


def with_error(value: float, error: float) -> str:
    """Write a value and its standard error, in as many decimals as make the error visible.

    Example:
        >>> with_error(0.7, 0.031), with_error(0.0123, 0.0004), with_error(1.0, 0.0), with_error(2.0, float("inf"))
        ('.70 ± .03', '.0123 ± .0004', '1.00 ± 0', '2.00 ± ∞')
    """
    if error == 0 or math.isinf(error):
        return f"{fixed(value, 2)} ± {'0' if error == 0 else '∞'}"
    decimals = min(max(2, -math.floor(math.log10(error))), 6)
    return f"{fixed(value, decimals)} ± {fixed(error, decimals)}"


def _contribution(name: str, measured: Contributions, k: int, score: str, clear: float) -> str:
    value, error, p = float(measured.shapley[k]), float(measured.errors[k]), float(measured.p_values[k])
    if p >= clear:
        return f"{name} adds nothing measurable ({describe_p(p)})"
    if value < 0:
        return f"{name} takes {with_error(-value, error)} off the {score}"
    if score in SHARED_SCORES:
        return f"{name} carries {with_error(value, error)} of the {score}"
    return f"{name} adds {with_error(value, error)} to the {score}"


def _nothing_learned(measured: Contributions, score: str, of_all: float, of_none: float, none: str) -> str:
    error, total = measured.total_error, measured.total
    below = total < 0 and p_value(total, error, measured.degrees) < SIGNIFICANT
    reach = half_width(error, measured.degrees)
    where = "is below" if below else f"is within its error (95 %: {with_error(0, reach).partition(' ')[2]}) of"
    compared = f"the {score} of all modalities ({number(of_all, 3)}) {where} {none} ({number(of_none, 3)})"
    return f"nothing is learned: {compared}, so EDM says nothing"
