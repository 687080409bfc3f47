"""How a command of the torch backend ends: its exit code, and one line on standard error where something is wrong."""

from __future__ import annotations

from collections.abc import Callable

from equilib_torch.errors import InputError
from equilib_torch.streams import open_missing_streams, say_aside, settle_streams


def run_command(prog: str, command: Callable[[], None], *, state: Callable[[], str] = lambda: "") -> int:
    """Run a command and return its exit code: 0 done, 2 bad input or a disk that fails, 130 interrupted.

    Args:
        prog: Its name in messages.
        command: What to do.
        state: What to tell someone who has interrupted it: what is kept, and how to go on.

    Example:
        >>> run_command("equilib.train", lambda: None)
        0
    """
    open_missing_streams()
    try:
        command()
    except InputError as error:
        say_aside(f"{prog}: error: {error}")
        return 2
    except OSError as error:
        say_aside(f"{prog}: error: cannot read or write: {error}")
        return 2
    except KeyboardInterrupt:
        say_aside(f"{prog}: interrupted{state()}")
        return 130
    finally:
        settle_streams()
    return 0
