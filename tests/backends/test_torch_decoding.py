"""Columns of files: decoded once, in order, by processes; faults counted and named; the second time, nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from backends.media_samples import BLUE, GREEN, RED, write_film, write_tone
from PIL import Image

from equilib_torch.data import Modality, decoders, decoding
from equilib_torch.data.cache import Cache
from equilib_torch.data.decoding import decode_column
from equilib_torch.data.digests import digest_files
from equilib_torch.data.media import MediaOptions
from equilib_torch.errors import InputError

SMALL = {"image_size": 4, "audio_seconds": 1.0, "video_frames": 2}


@pytest.fixture
def pictures(tmp_path):
    """Write ten pictures of one grey each, 10 times the number in its name, and give their folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(10):
        Image.new("L", (6, 5), 10 * k).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def count(monkeypatch):
    """Count the files that are decoded."""
    decoded = []
    whole = decoding.decode_all

    def counting(kind, paths, options):
        decoded.extend(paths)
        return whole(kind, paths, options)

    monkeypatch.setattr(decoding, "decode_all", counting)
    return decoded


def decode(cells, root, cache, kind="image", **options):
    given = MediaOptions(**{**SMALL, **options})
    return decode_column("x", kind, cells, data_root=root, options=given, cache=cache, progress=False)


def names(numbers):
    return [f"{k}.png" for k in numbers]


def greys(decoded):
    return decoded["x"].values[:, 0, 0, 0].tolist()


def test_rows_keep_their_order_and_empty_cells_are_absent(pictures, cache):
    decoded = decode(["3.png", None, "1.png", "", "3.png"], pictures, cache)
    assert list(decoded) == ["x"]
    x = decoded["x"]
    assert (x.kind, x.lengths, x.values.dtype, x.values.shape) == ("image", None, np.uint8, (5, 4, 4, 3))
    assert greys(decoded) == [30, 0, 10, 0, 30]
    assert x.present.tolist() == [True, False, True, False, True]
    assert (x.report.n_files, x.report.faults) == (3, ())
    modality = Modality("x", x.kind, x.values, x.lengths, x.present)
    assert isinstance(x.values, np.memmap)
    assert np.shares_memory(modality.values, x.values)
    with pytest.raises(ValueError, match="read-only"):
        x.values[0] = 1


def test_the_second_time_nothing_is_decoded_wherever_the_files_are_and_whatever_they_are_called(pictures, cache, count):
    first = greys(decode(names(range(5)), pictures, cache))
    assert len(count) == 5
    assert greys(decode(names(range(5)), pictures, cache)) == first
    moved = pictures.rename(pictures.with_name("moved"))
    for k in range(5):
        os.utime(moved / f"{k}.png", (0, 0))
        (moved / f"{k}.png").rename(moved / f"new{k}.png")
    assert greys(decode([f"new{k}.png" for k in range(5)], moved, cache)) == first
    assert len(count) == 5


@pytest.mark.parametrize("change", ["content", "order", "image_size", "hole", "gone"])
def test_whatever_changes_the_result_is_decoded_anew(pictures, cache, count, change):
    cells, options = names(range(5)), {}
    decode(cells, pictures, cache)
    expected = [0, 10, 20, 30, 40]
    match change:
        case "content":  # of the same size, and with the same time
            status = (pictures / "1.png").stat()
            raw = (pictures / "6.png").read_bytes()
            assert len(raw) == status.st_size
            (pictures / "1.png").write_bytes(raw)
            os.utime(pictures / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
            expected[1] = 60
        case "order":
            cells, expected = cells[::-1], expected[::-1]
        case "image_size":
            options = {"image_size": 5}
        case "hole":
            cells[1], expected[1] = None, 0
        case "gone":
            (pictures / "1.png").unlink()
            expected[1] = 0
    assert greys(decode(cells, pictures, cache, **options)) == expected
    assert len(count) > 5


def test_digests_are_remembered_until_a_file_changes(pictures, tmp_path, monkeypatch):
    paths = [pictures / name for name in names(range(3))]
    for path in paths:
        os.utime(path, (1e9, 1e9))
    monkeypatch.setattr("equilib_torch.data.digests._RECENT", 0.0)
    first = digest_files(paths, tmp_path)
    read = []

    def digest(path):
        read.append(path.name)
        return b"\1" * 32

    monkeypatch.setattr("equilib_torch.data.digests._digest", digest)
    assert digest_files(paths, tmp_path) == first
    assert read == []
    paths[1].write_bytes(b"changed")
    assert digest_files(paths, tmp_path) == [first[0], "01" * 32, first[2]]
    (next((tmp_path / ".digests").iterdir())).write_bytes(b"damaged")
    assert digest_files(paths, tmp_path) == ["01" * 32] * 3


def test_without_a_cache_everything_is_in_memory_and_nothing_is_left(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    decoded = decode(names(range(3)), pictures, None)
    assert greys(decoded) == [0, 10, 20]
    assert not isinstance(decoded["x"].values, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_faults_are_counted_named_and_missing_each_time(pictures, cache, capsys):
    (pictures / "2.png").write_bytes(b"")
    (pictures / "5.png").write_text("<html>404</html>")
    cells = [*names(range(8)), "none.png"]
    for _ in range(2):
        decoded = decode(cells, pictures, cache)
        assert decoded["x"].present.tolist() == [True, True, False, True, True, False, True, True, False]
        assert greys(decoded) == [0, 10, 0, 30, 40, 0, 60, 70, 0]
        assert [fault.row for fault in decoded["x"].report.faults] == [2, 5, 8]
        assert capsys.readouterr().err == (
            "equilib: warning: x: 3 of 9 files cannot be read, the first in row 2: '2.png' (the file is empty); "
            "they count as missing\n"
        )


@pytest.mark.parametrize(
    ("n_good", "n_bad", "allow", "fails"),
    [
        (0, 3, False, True),  # none is left
        (0, 3, True, True),
        (1, 19, False, False),  # less than 20
        (79, 20, False, True),  # more than a fifth
        (80, 20, False, False),  # just a fifth
        (79, 20, True, False),
    ],
)
@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_too_many_faults_are_an_error_unless_allowed(pictures, cache, count, n_good, n_bad, allow, fails, fault):
    (pictures / "bad.png").write_text("no picture")
    cells = ["1.png"] * n_good + ["bad.png" if fault == "damaged" else "gone.png"] * n_bad + [None] * 50
    if fails:
        with pytest.raises(InputError, match=rf"x: {n_bad} of {n_good + n_bad} files cannot be read, .* --data-root"):
            decode(cells, pictures, cache, allow_unreadable=allow)
        assert not (count and fault == "gone")  # known before any is decoded
    else:
        assert decode(cells, pictures, cache, allow_unreadable=allow)["x"].present.sum() == n_good


@pytest.mark.parametrize("cell", ["/etc/passwd", "../secret.png", "folder", "pipe", "link.png"])
def test_a_cell_that_is_no_file_below_data_root_is_an_error_at_once(pictures, cache, count, cell):
    (pictures / "folder").mkdir()
    os.mkfifo(pictures / "pipe")
    (pictures.parent / "secret.png").write_bytes((pictures / "1.png").read_bytes())
    (pictures / "link.png").symlink_to(pictures.parent / "secret.png")
    with pytest.raises(InputError, match=rf"x: row 1: a path must .* got '{cell}'"):
        decode(["1.png", cell], pictures, cache, allow_unreadable=True)
    assert count == []


def test_a_column_without_a_value_is_an_error(pictures, cache):
    with pytest.raises(InputError, match="x: all 2 cells are empty; leave the column out"):
        decode([None, ""], pictures, cache)


def test_sounds_of_any_length_are_padded_and_say_how_long_they_are(tmp_path, cache):
    for k, seconds in enumerate((0.3, 9.0, 0.1)):
        write_tone(tmp_path / f"{k}.wav", seconds=seconds)
    x = decode(["0.wav", None, "1.wav", "2.wav"], tmp_path, cache, kind="audio")["x"]
    assert (x.kind, x.values.dtype, x.values.shape) == ("sequence", np.float32, (4, 101, 64))
    assert x.lengths.tolist() == [31, 1, 101, 11]
    assert (x.values[0, 31:] == 0).all()
    assert (x.values[1] == 0).all()
    modality = Modality("x", x.kind, x.values, x.lengths, x.present)
    assert np.shares_memory(modality.values, x.values)


def test_films_give_pictures_and_sounds_and_a_silent_one_lacks_the_sound(tmp_path, cache):
    write_film(tmp_path / "a.mp4", [RED] * 3 + [GREEN] * 3, sound=1.0)
    write_film(tmp_path / "b.mp4", [BLUE])
    cells = ["a.mp4", None, "b.mp4"]
    decoded = decode(cells, tmp_path, cache, kind="video")
    assert list(decoded) == ["x", "x-sound"]
    x, sound = decoded.values()
    assert (x.kind, x.values.shape, x.lengths.tolist()) == ("video", (3, 2, 4, 4, 3), [2, 1, 1])
    assert (sound.kind, sound.values.shape, sound.present.tolist()) == ("sequence", (3, 101, 64), [True, False, False])
    for name, part in decoded.items():
        Modality(name, part.kind, part.values, part.lengths, part.present)
    pictures = decode(cells, tmp_path, cache, kind="video", video_frames=1)["x"]
    assert (pictures.kind, pictures.lengths, pictures.values.shape) == ("image", None, (3, 4, 4, 3))
    assert list(decode(["b.mp4"], tmp_path, cache, kind="video")) == ["x"]


# A plain script, without a guard, whose second file's decoder dies and whose third takes longest.
SCRIPT = """
import os, sys
from pathlib import Path
from equilib_torch.data import decoders
from equilib_torch.data.media import MediaOptions

paths = [Path(name) for name in sys.argv[1:]]
decoders._FEW["image"] = 2
for outcome in decoders.decode_all("image", paths, MediaOptions(image_size=1, workers=2)):
    print(outcome if isinstance(outcome, str) else outcome[""].ravel()[0])
"""


def test_processes_work_from_a_script_without_a_guard_and_one_that_dies_costs_its_file(pictures, monkeypatch):
    lethal = "import equilib_torch.data.decoders as m, os; d = m.decode\n"
    lethal += "m.decode = lambda k, p, o: os.abort() if p.name == '1.png' else d(k, p, o)\n"
    (pictures / "sitecustomize.py").write_text(
        "import sys\nif any('decoders import serve' in a for a in sys.orig_argv):\n    "
        + lethal.replace("\n", "\n    ")
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(pictures), *filter(None, sys.path)])}
    command = [sys.executable, "-c", SCRIPT, *names(range(10))]
    done = subprocess.run(
        command, cwd=pictures, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    expected = [str(10 * k) for k in range(10)]
    expected[1] = "the decoder died of it, with code -6"
    assert done.stdout.split("\n")[:-1] == expected


def test_processes_end_with_whoever_started_them_however_it_ends(pictures):
    script = SCRIPT.replace("print(", "print([w.process.pid for w in pool], flush=True) or input() or print(")
    script = script.replace("for outcome", "pool = []\nstart = decoders._Worker.__init__\n"
        "decoders._Worker.__init__ = lambda self: start(self) or pool.append(self)\nfor outcome")  # fmt: skip
    command = [sys.executable, "-c", script, *names(range(10))]
    process = subprocess.Popen(command, cwd=pictures, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = [int(number) for number in process.stdout.readline().strip("[]\n").split(",")]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_several_processes_give_what_one_gives(pictures, monkeypatch):
    monkeypatch.setitem(decoders._FEW, "image", 0)
    paths = [pictures / name for name in [*names(range(10)), "none.png"]]
    several = list(decoders.decode_all("image", paths, MediaOptions(image_size=2, workers=3)))
    alone = list(decoders.decode_all("image", paths, MediaOptions(image_size=2, workers=0)))
    assert several[-1] == alone[-1] == "there is no such file"
    for a, b in zip(several[:-1], alone[:-1], strict=True):
        np.testing.assert_array_equal(a[""], b[""])


def test_a_disk_that_fills_up_in_the_middle_is_said_in_one_line_and_leaves_nothing(pictures, cache):
    script = (
        "import resource\nfrom pathlib import Path\nfrom equilib_torch.data.cache import Cache\n"
        "from equilib_torch.data.decoding import decode_column\nfrom equilib_torch.data.media import MediaOptions\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        f"decode_column('x', 'image', {names(range(10))}, data_root=Path({str(pictures)!r}), cache=Cache(Path("
        f"{str(cache.directory)!r})), options=MediaOptions(), progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"equilib_torch.errors.InputError: cache {cache.directory}: the disk is full")
    assert "free some space, or choose another place by --cache DIR" in last
    assert [path.name for path in cache.directory.iterdir() if path.name != ".digests"] == []
