"""Saying things on standard output and error: what cannot be shown there costs a warning at most, never a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TextIO


def write_text(text: str, stream: TextIO | None) -> str:
    r"""Write text at once; characters that the stream's encoding lacks are written as escapes.

    Returns:
        Why the text was not written as it is, or nothing.

    Example:
        >>> from io import BytesIO, TextIOWrapper
        >>> latin = TextIOWrapper(BytesIO(), "latin-1")
        >>> write_text("ρ ± 1\n", latin), latin.buffer.getvalue()
        ("its encoding latin-1 lacks 'ρ', written as an escape", b'\\u03c1 \xb1 1\n')
    """
    if stream is None:
        return "it is closed"
    lacking = ""
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError as error:
            encoding = stream.encoding or "ascii"
            lacking = f"its encoding {encoding} lacks {text[error.start]!r}, written as an escape"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError) as error:  # a full device, a pipe that nobody reads, a closed file
        return str(error) or type(error).__name__
    return lacking


def say(text: str) -> None:
    """Write a line to standard output; if that fails, warn."""
    if reason := write_text(f"{text}\n", sys.stdout):
        warn(f"standard output: {reason}")


_muted: ContextVar[bool] = ContextVar("muted", default=False)


def warn(text: str) -> None:
    """Write a warning of one line to standard error, if that can be written to and warnings are wanted."""
    if not _muted.get():
        say_aside(f"equilib: warning: {text}")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Do what has been done before, and warned of, without warning again."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def say_aside(text: str) -> None:
    """Write one line to standard error, if that can be written to."""
    write_text(f"{' '.join(text.split())}\n", sys.stderr)


def open_missing_streams() -> None:
    """Connect closed standard streams to nothing, or the next file opened would receive what is meant for them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def settle_streams() -> None:
    """Give up on standard streams that refuse what is still buffered, or Python's exit code would be 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
