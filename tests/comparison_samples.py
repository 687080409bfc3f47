"""Outcomes of runs that nobody trained."""

from __future__ import annotations

from equilib_torch.comparison.outcomes import Outcome


def outcome_of(variant, seed, accuracy, edm=0.5, *, seconds=2.0, names=("a", "b"), reason=""):
    summary = {
        "dataset": "toy",
        "seed": seed,
        "modalities": list(names),
        "epochs": 2,
        "test_accuracy": accuracy,
        "test_macro_f1": accuracy / 2,
        "unimodal_accuracy": {name: accuracy / (k + 2) for k, name in enumerate(names)},
        "missing_modality": {"0.3": 0.9 * accuracy, "0.5": 0.8 * accuracy, "0.7": 0.7 * accuracy},
        "edm": edm,
        "seconds": {"train": seconds, "schedule": seconds / 4},
        "versions": {"torch": "1"},
    }
    history = tuple({"epoch": e, "shares": {name: 1 / len(names) for name in names}} for e in (1, 2))
    return Outcome(variant, seed, None, reason) if reason else Outcome(variant, seed, summary, "", history)
