"""Options of a run, made in Python."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import docstring_parser
import numpy as np
import pytest

from equilib_torch import InputError, TrainOptions
from equilib_torch.training.options import GROUPS, TYPES


def test_the_groups_share_out_all_options():
    names = [field.name for options in GROUPS.values() for field in fields(options)]
    assert names == [field.name for field in fields(TrainOptions)] == list(TYPES)


@pytest.mark.parametrize("options", GROUPS.values())
def test_every_option_has_a_text(options):
    texts = {text.arg_name: text.description for text in docstring_parser.parse_from_object(options).params}
    assert list(texts) == [field.name for field in fields(options)]
    assert all(texts.values())


def test_options_stay_as_they_are():
    options = TrainOptions(seed=0, device="cpu", batch_size=8, epochs=2, method="joint")
    with pytest.raises(FrozenInstanceError):
        options.seed = 1


@pytest.mark.parametrize("integer", [np.int64, np.int8, np.uint16])
@pytest.mark.parametrize("real", [np.float64, np.float32, np.int64])
def test_numbers_of_numpy_become_python_numbers(integer, real):
    options = TrainOptions(epochs=integer(3), seed=integer(7), width=integer(32), lr=real(1), memory_inherit=np.True_)
    assert options == TrainOptions(epochs=3, seed=7, width=32, lr=1.0, memory_inherit=True)
    assert {type(options.epochs), type(options.seed), type(options.width)} == {int}
    assert (type(options.lr), type(options.memory_inherit)) == (float, bool)


def test_texts_of_numpy_and_tuples_will_do():
    options = TrainOptions(dataset=np.str_("mfeat"), encoder=("a=mlp",), device=np.str_("cpu"))
    assert options == TrainOptions(dataset="mfeat", encoder=["a=mlp"], device="cpu")
    assert (type(options.dataset), type(options.device)) == (str, str)


WRONG = [
    ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
    ({"epochs": np.float64(2)}, "epochs must be a whole number, got "),
    ({"epochs": True}, "epochs must be a whole number, got True"),
    ({"epochs": np.True_}, "epochs must be a whole number, got "),
    ({"epochs": "2"}, "epochs must be a whole number, got '2'"),
    ({"epochs": np.arange(2)}, "epochs must be a whole number, got "),
    ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
    ({"lr": False}, "lr must be a number, got False"),
    ({"lr": 1j}, "lr must be a number, got 1j"),
    ({"lr": np.float32("nan")}, "lr must be positive and finite, got nan"),
    ({"memory_inherit": 1}, "memory-inherit must be true or false, got 1"),
    ({"dataset": 3}, "dataset must be text, got 3"),
    ({"method": None}, "method must be text, got None"),
    ({"fusion": 1}, "fusion must be text, got 1"),
    ({"encoder": "a=mlp"}, "encoder must be a list, got 'a=mlp'"),
    ({"encoder": [1]}, "encoder must be text, got 1"),
    ({"encoder": ["a=mlp", "a=mlp"]}, "encoder must name every modality once, got 'a' twice"),
    ({"device": "tpu"}, "device must be one of auto, cpu, cuda, got 'tpu'"),
    ({"device": ["cpu"]}, r"device must be one of auto, cpu, cuda, got \['cpu'\]"),
    ({"memory_mapping": "all"}, "memory-mapping must be one of none, feature, sample, both, got 'all'"),
    ({"coalition_value": "f1"}, "coalition-value must be one of accuracy, .*, got 'f1'"),
    ({"policy": "best"}, "policy must be one of weak-to-strong, .*, got 'best'"),
    ({"shapley_smoothing": 1}, "shapley-smoothing must be in .*, got 1.0"),
    ({"seed": 2**32}, "seed must be in .*, got 4294967296"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_an_option_cannot_be(changes, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        TrainOptions(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("old", ["strength", "value", "mapping", "inherit", "smoothing"])
def test_options_of_0_1_0_are_no_arguments(old):
    with pytest.raises(TypeError, match=old):
        TrainOptions(**{old: 1})
