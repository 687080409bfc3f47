"""The cache on disk: whole entries or none, whoever comes first, and whatever befalls them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from equilib_torch.data import cache as module
from equilib_torch.data.cache import Cache, default_cache, make_key
from equilib_torch.errors import InputError

# Builds an entry of two files, saying when it begins, and waits for a line between them if told so.
BUILDER = """
import sys
from pathlib import Path
from equilib_torch.data.cache import Cache
from equilib_torch.errors import InputError

def build(folder):
    print("building", flush=True)
    (folder / "a").write_bytes(b"a" * 1000)
    if "wait" in sys.argv:
        sys.stdin.readline()
    (folder / "b").write_bytes(b"b" * 100_000)

try:
    print(Cache(Path(sys.argv[1])).folder("entry", build), flush=True)
except InputError as error:
    print(f"error: {error}")
"""


def start(place: Path, *arguments: str, **options) -> subprocess.Popen[str]:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(place), *arguments], **streams, **options)


@pytest.fixture(autouse=True)
def _as_another_process():
    """Let every test begin, and go on, as a process would that holds no entry."""
    forget()
    yield
    forget()


def forget() -> None:
    for _, descriptor in module._held.values():
        os.close(descriptor)
    module._held.clear()


class Builder:
    """Counts how often it is called."""

    def __init__(self, content: bytes = b"content") -> None:
        self.content, self.calls = content, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "x").write_bytes(self.content)
        (folder / "below").mkdir()
        (folder / "below" / "y").write_bytes(self.content)


def left_over(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name.startswith("."))


def test_an_entry_is_built_once_and_found_by_later_processes(tmp_path):
    build = Builder()
    for _ in range(3):
        folder = Cache(tmp_path / "new" / "cache").folder("key", build)
        assert (folder / "x").read_bytes() == (folder / "below" / "y").read_bytes() == b"content"
        forget()
    assert build.calls == 1
    assert left_over(tmp_path / "new" / "cache") == []


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "x" * 101, "a b"])
def test_a_key_is_no_path(tmp_path, key):
    with pytest.raises(ValueError, match="key must be"):
        Cache(tmp_path).folder(key, Builder())


def test_a_key_depends_on_all_of_its_content():
    keys = {make_key("x", content) for content in ({"a": 1}, {"a": 2}, {"b": 1}, ["a", 1], None)}
    assert len(keys) == 5
    assert make_key("x", {"a": 1, "b": 2}) == make_key("x", {"b": 2, "a": 1})


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "grow", "remove", "add", "manifest", "empty manifest", "no manifest"]
)
def test_a_damaged_entry_is_built_anew(tmp_path, damage):
    cache, build = Cache(tmp_path), Builder()
    folder = cache.folder("key", build)
    forget()
    match damage:
        case "flip":
            (folder / "x").write_bytes(b"cOntent")
        case "cut":
            (folder / "below" / "y").write_bytes(b"cont")
        case "grow":
            (folder / "x").write_bytes(b"content and more")
        case "remove":
            (folder / "x").unlink()
        case "add":
            (folder / "z").touch()
        case "manifest":
            (folder / "manifest.json").write_text("[")
        case "empty manifest":
            (folder / "manifest.json").write_text("{}")
        case "no manifest":
            (folder / "manifest.json").unlink()
    assert (cache.folder("key", build) / "x").read_bytes() == b"content"
    assert build.calls == 2
    assert left_over(tmp_path) == []


def test_of_two_processes_one_builds_and_the_other_waits_for_it(tmp_path):
    first, second = start(tmp_path, "wait"), None
    try:
        assert first.stdout.readline() == "building\n"
        second = start(tmp_path)
        time.sleep(0.5)
        assert second.poll() is None
        outputs = [first.communicate("\n", timeout=60), second.communicate(timeout=60)]
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
    assert [out for out, _ in outputs] == [f"{tmp_path / 'entry'}\n"] * 2
    assert [error for _, error in outputs] == ["", ""]
    assert left_over(tmp_path) == []


def test_threads_of_a_process_build_once(tmp_path):
    build = Builder()
    threads = [threading.Thread(target=Cache(tmp_path).folder, args=("key", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.calls == 1


def test_what_a_killed_process_has_left_is_never_taken_for_whole_and_goes(tmp_path):
    process = start(tmp_path, "wait")
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert any(name.startswith(".building-entry.") for name in left_over(tmp_path))
    assert not (tmp_path / "entry").exists()
    build = Builder()
    assert (Cache(tmp_path).folder("another", build) / "x").exists()  # whoever builds next tidies up
    assert left_over(tmp_path) == []
    assert (Cache(tmp_path).folder("entry", build) / "x").read_bytes() == b"content"
    assert left_over(tmp_path) == []


def test_what_another_process_is_building_stays(tmp_path):
    process = start(tmp_path, "wait")
    try:
        assert process.stdout.readline() == "building\n"
        Cache(tmp_path).folder("another", Builder())
        output, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
    assert output == f"{tmp_path / 'entry'}\n"


def test_a_file_that_may_not_grow_ends_in_one_line_and_leaves_nothing(tmp_path):
    process = start(tmp_path, preexec_fn=_small_files)
    output, error = process.communicate(timeout=60)
    assert error == ""
    assert output.splitlines()[0] == "building"
    assert output.splitlines()[1].startswith(f"error: cache {tmp_path}: the disk is full or a file may not grow")
    assert "--cache DIR" in output
    assert "EQUILIB_CACHE" in output
    assert list(tmp_path.iterdir()) == []


def _small_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("100 requested and 50 written")],
    ids=["errno", "numpy"],
)
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path, error):
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(InputError, match="the disk is full"):
        Cache(tmp_path).folder("key", build)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_flushing_leaves_nothing(tmp_path, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(InputError, match="the disk is full"):
        Cache(tmp_path).folder("key", Builder())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "/no/model"), RuntimeError("no"), KeyboardInterrupt()]
)
def test_what_building_raises_is_passed_on_and_leaves_nothing(tmp_path, error):
    def build(folder: Path) -> None:
        raise error

    with pytest.raises(type(error)):
        Cache(tmp_path).folder("key", build)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_directory_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="--cache DIR or the environment variable EQUILIB_CACHE"):
            Cache(place).folder("key", Builder())


def test_a_place_that_may_not_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written \\(Permission denied\\)"):
        Cache(tmp_path).folder("key", Builder())


def test_entries_that_were_not_used_for_longest_go(tmp_path):
    cache = Cache(tmp_path, max_bytes=3 * 20_500)
    build = Builder(b"x" * 10_000)
    for key in ("a", "b", "c"):
        cache.folder(key, build)
        forget()
    for age, key in ((300, "a"), (200, "b"), (100, "c")):
        os.utime(tmp_path / key, (time.time() - age,) * 2)
    cache.folder("a", build)  # used again
    forget()
    cache.folder("d", build)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_entries_in_use_stay_and_the_newest_too(tmp_path):
    cache, build = Cache(tmp_path, max_bytes=0), Builder()
    cache.folder("a", build)  # held by this process
    cache.folder("b", build)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    forget()
    cache.folder("c", build)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_without_locks_the_first_to_finish_wins(tmp_path, monkeypatch):
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)

    theirs = Builder(b"theirs")

    def build(folder: Path) -> None:
        (folder / "x").write_text("mine")
        Cache(tmp_path).folder("key", theirs)

    assert (Cache(tmp_path).folder("key", build) / "x").read_text() == "theirs"
    assert theirs.calls == 1
    assert left_over(tmp_path) == []


def test_the_place_is_said_by_option_then_environment_then_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUILIB_CACHE", str(tmp_path / "environment"))
    assert default_cache(tmp_path / "option").directory == tmp_path / "option"
    assert default_cache().directory == tmp_path / "environment"
    monkeypatch.setenv("EQUILIB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache().directory == tmp_path / "equilib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache("~/x").directory == tmp_path / "x"
    assert default_cache().directory.is_relative_to(tmp_path)
