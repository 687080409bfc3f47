"""Progress: what is shown where, and that nothing it is shown on can stop a run."""

from __future__ import annotations

import io
import warnings

import pytest

from equilib_torch.training.progress import MAX_LINES, NoProgress, make_progress


def follow(progress, epochs, per_epoch=3):
    progress.start(epochs * per_epoch)
    for epoch in range(1, epochs + 1):
        for _ in range(per_epoch):
            progress.advance()
        progress.show({"epoch": epoch, "accuracy": epoch / epochs, "edm": 0.5})
    progress.close()


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Refusing(Terminal):
    """Works at first; then whoever watched is gone."""

    def __init__(self, error, after, terminal=True):
        super().__init__()
        self.error, self.after, self.terminal = error, after, terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.after -= 1
        if self.after < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("epochs", [1, 7, MAX_LINES, 1500])
def test_a_log_gets_complete_lines_and_never_many(epochs):
    log = io.StringIO()
    follow(make_progress(stream=log), epochs)
    text = log.getvalue()
    assert "\r" not in text
    assert len(text.splitlines()) == min(epochs, MAX_LINES)
    assert len(text) < 10_000
    assert text.splitlines()[-1] == f"100%  epoch {epochs}, accuracy 1.000, EDM 0.50"


def test_a_terminal_gets_a_bar():
    terminal = Terminal()
    follow(make_progress(stream=terminal), 2)
    assert "\r" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed"), UnicodeError("narrow")]
)
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_it_is_shown_on_raises(error, after, terminal):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of what a bar does when it is collected
        follow(make_progress(stream=Refusing(error, after, terminal)), 300)


def test_without_a_place_nothing_is_shown(monkeypatch):
    assert isinstance(make_progress("none", Terminal()), NoProgress)
    closed = io.StringIO()
    closed.close()
    assert isinstance(make_progress(stream=closed), NoProgress)
    monkeypatch.setattr("sys.stderr", None)
    assert isinstance(make_progress("bar"), NoProgress)
