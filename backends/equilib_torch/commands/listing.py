"""What `--list` shows: the entries of every registry, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from equilib._commands import Listing

if TYPE_CHECKING:
    from equilib_torch.data.public import PublicDataset
    from equilib_torch.methods import Method
    from equilib_torch.network.encoders import EncoderEntry


def known_names(what: Listing) -> Mapping[str, str]:
    """Describe every entry of one kind, by name; further lines say what can be set."""
    # Imported one by one: naming the data sets needs no framework.
    match what:
        case "datasets":
            from equilib_torch.data import DATASETS
            from equilib_torch.data.public import PUBLIC

            return DATASETS.descriptions() | {name: _describe(entry) for name, entry in PUBLIC.items()}
        case "methods":
            from equilib_torch.methods import METHODS

            return {name: _describe(method) for name, method in METHODS.items()}
        case "fusions":
            from equilib_torch.network import FUSIONS

            return FUSIONS.descriptions()
        case "encoders":
            from equilib_torch.network import ENCODERS

            return {name: _describe(encoder) for name, encoder in ENCODERS.items()}
        case "values":
            from equilib_torch.training.evaluation import VALUES

            return VALUES.descriptions()


def _describe(entry: Method | EncoderEntry | PublicDataset) -> str:
    """Describe an entry, and each of its parameters with its default and rule."""
    lines = [entry.description]
    for parameter in entry.parameters:
        default = "" if parameter.default is None else f" (default: {parameter.default})"
        lines.append(f"{parameter.written}={parameter.rule}{default}: {parameter.description}")
    return "\n".join(lines)
