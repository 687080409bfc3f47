"""The error that means: the input is at fault, not the program."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: a file, a name or a value.

    The message is one line that names the argument or file, the rule and the value received. The command line shows
    it without a traceback and exits with code 2.

    Example:
        >>> raise InputError("image: needs 2 to 4 dimensions, got shape (5,)")
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: image: needs 2 to 4 dimensions, got shape (5,)
    """
