"""Paths in cells: inside data-root, and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from equilib_torch import InputError
from equilib_torch.data.paths import resolve


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (root / "images" / "0.png").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "0.png").write_bytes(b"x")
    return root


@pytest.mark.parametrize("cell", ["images/0.png", "./images/0.png", "images/../images/0.png", "images//0.png"])
def test_a_file_below_the_root_is_found(root, cell):
    assert resolve(cell, root) == (root / "images" / "0.png").resolve()


@pytest.mark.parametrize("cell", ["no.png", "images/0.png/1.png", "x" * 300 + ".png", "no/such/folder/0.png", "ü.png"])
def test_a_file_that_is_not_there_is_for_the_reader_to_find(root, cell):
    with pytest.raises(OSError, match=r"No such file|too long|Not a directory"):
        resolve(cell, root).read_bytes()


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("../secret.png", "must not leave data-root"),
        ("images/../../secret.png", "must not leave data-root"),
        ("../root2/0.png", "must not leave data-root"),
        ("../no-such-file.png", "must not leave data-root"),
        ("/etc/passwd", "must be relative"),
        ("images", "which is a folder"),
        (".", "which is a folder"),
        ("images/..", "which is a folder"),
        ("a\0b.png", "must name a file"),
        (" ", "must name a file"),
    ],
)
def test_what_is_not_a_file_below_the_root_is_refused(root, cell, rule):
    with pytest.raises(InputError, match=rule):
        resolve(cell, root)


def test_an_absolute_path_below_the_root_is_refused_with_the_relative_one(root):
    with pytest.raises(InputError, match=r"write 'images/0\.png'$"):
        resolve(str(root / "images" / "0.png"), root)


def test_links_are_followed_and_must_not_leave(root, tmp_path):
    (root / "inside.png").symlink_to("images/0.png")
    (root / "outside.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path / "root2")
    (root / "loop.png").symlink_to("loop.png")
    assert resolve("inside.png", root) == (root / "images" / "0.png").resolve()
    for cell in ("outside.png", "folder/0.png"):
        with pytest.raises(InputError, match="must not leave data-root"):
            resolve(cell, root)
    assert resolve("loop.png", root).name == "loop.png"


def test_a_root_may_be_a_link_and_relative(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    assert resolve("images/0.png", Path("link")) == (root / "images" / "0.png").resolve()
    assert resolve("etc/hostname", Path("/")) == Path("/etc/hostname").resolve()


def test_pipes_and_devices_are_refused_without_being_opened(root):
    os.mkfifo(root / "pipe.png")
    with pytest.raises(InputError, match="which is a pipe"):
        resolve("pipe.png", root)
    with pytest.raises(InputError, match="which is a device"):
        resolve("dev/null", Path("/"))
