"""Pictures, sounds and films as arrays, whatever their format; and what is none of them."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from backends.media_samples import BLUE, GREEN, RED, WHITE, halves, write_film, write_tone
from PIL import Image, PngImagePlugin

from equilib_torch.data import media
from equilib_torch.data.media import MediaOptions, UnreadableError, decode
from equilib_torch.data.sound import log_mel
from equilib_torch.errors import InputError

SMALL = MediaOptions(image_size=8, audio_seconds=2.0)


def picture(path, options=SMALL):
    decoded = decode("image", path, options)
    assert list(decoded) == [""]
    assert decoded[""].dtype == np.uint8
    return decoded[""]


def close_to(pixel, colour, by=12):
    return bool((np.abs(pixel.astype(int) - colour) <= by).all())


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.bmp", "x.tif", "x.webp", "x.ppm", "x.avif", "x.jp2"])
def test_every_usual_format_becomes_rgb_at_one_size(tmp_path, name):
    halves(RED, BLUE).save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "x.dat")  # the content decides, not the name
    pixels = picture(tmp_path / "x.dat")
    assert pixels.shape == (8, 8, 3)
    assert close_to(pixels[4, 1], RED, 30)
    assert close_to(pixels[4, 6], BLUE, 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_pictures_of_any_proportions_are_scaled(tmp_path, size):
    Image.new("RGB", size, GREEN).save(tmp_path / "x.png")
    assert (picture(tmp_path / "x.png") == GREEN).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = halves(RED, BLUE, size=(32, 32))
    upright.paste(GREEN, (0, 16, 32, 32))  # red and blue above, green below
    turned = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }.get(orientation, [])
    stored = upright
    for turn in turned:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("x.jpg", "x.png", "x.tif"):
        stored.save(tmp_path / name, exif=exif)
        pixels = picture(tmp_path / name)
        assert close_to(pixels[1, 1], RED, 40), name
        assert close_to(pixels[1, 6], BLUE, 40), name
        assert close_to(pixels[6, 4], GREEN, 40), name


def test_what_is_transparent_is_white(tmp_path):
    clear = halves((255, 0, 0, 255), (0, 0, 0, 0), mode="RGBA")
    clear.save(tmp_path / "rgba.png")
    halves((80, 255), (0, 0), mode="LA").save(tmp_path / "la.png")
    palette = halves(0, 1, mode="P")
    palette.putpalette([*RED, *BLUE])
    palette.save(tmp_path / "palette.png", transparency=b"\xff\x00")
    palette.save(tmp_path / "palette.gif", transparency=1)
    halves(RED, BLUE).save(tmp_path / "key.png", transparency=BLUE)
    for name in ("rgba.png", "la.png", "palette.png", "palette.gif", "key.png"):
        pixels = picture(tmp_path / name)
        assert (pixels[4, 6] == WHITE).all(), name
        assert not (pixels[4, 1] == WHITE).all(), name
    halves((0, 0, 0, 128), (0, 0, 0, 128), mode="RGBA").save(tmp_path / "half.png")
    assert (np.abs(picture(tmp_path / "half.png").astype(int) - 127) <= 1).all()


def test_sixteen_bits_and_real_values_are_scaled_not_cut_off(tmp_path):
    grey = np.full((4, 4), 32896)
    arrays = {
        "x16.png": grey.astype(np.uint16),
        "x16.tif": grey.astype(np.uint16),
        "x32.tif": grey.astype(np.int32),
        "few.tif": np.full((4, 4), 128, np.int32),
        "real.tif": np.full((4, 4), 128 / 255, np.float32),
        "real255.tif": np.full((4, 4), 128, np.float32),
    }
    for name, values in arrays.items():
        Image.fromarray(values).save(tmp_path / name)
        assert (picture(tmp_path / name) == 128).all(), name
    for values in (np.full((2, 2), np.nan, np.float32), np.full((2, 2), -3, np.float32), np.full((2, 2), -3, np.int32)):
        Image.fromarray(values).save(tmp_path / "odd.tif")
        with pytest.raises(UnreadableError, match="its values must be in"):
            picture(tmp_path / "odd.tif")


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    name = "x.jpg" if mode in ("CMYK", "YCbCr") else "x.png"
    Image.new("RGB", (9, 9), WHITE).convert(mode).save(tmp_path / name)
    assert close_to(picture(tmp_path / name)[4, 4], WHITE, 3)


def test_large_jpegs_look_the_same_as_when_decoded_whole(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 2048).astype(np.uint8), (512, 1))
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "x.jpg", quality=95)
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "x.png")
    whole, drafted = picture(tmp_path / "x.png"), picture(tmp_path / "x.jpg")
    assert np.abs(whole.astype(int) - drafted.astype(int)).max() <= 2


@pytest.mark.parametrize("size", [(20_000, 5_000), (20_000, 10_000), (60_000, 60_000)])
def test_a_bomb_is_a_fault_and_no_warning(tmp_path, monkeypatch, size):
    path = tmp_path / "bomb.png"
    Image.new("1", (8, 8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    import zlib

    raw[29:33] = zlib.crc32(bytes(raw[12:29])).to_bytes(4, "big")
    path.write_bytes(raw)
    with pytest.raises(UnreadableError, match="too large"):
        picture(path)


def test_a_bomb_in_a_comment_is_a_fault(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "0" * 80_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(UnreadableError, match="damaged"):
        picture(tmp_path / "x.png")


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.bmp", "x.tif", "x.webp", "x.avif"])
def test_a_picture_cut_off_anywhere_is_a_fault_or_a_picture_and_nothing_else(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for part in (0.02, 0.3, 0.5, 0.9):
        (tmp_path / "cut").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableError):
            picture(tmp_path / "cut")


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML page"),
        (b"\xef\xbb\xbf<HTML>", "HTML page"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("Zugriff verweigert, schöne Grüße\n".encode() * 40, "it is a text"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"\x00\x01\x02\xff\xfe" * 300, "."),
        (None, "no such file"),
    ],
)
def test_what_is_no_medium_is_recognised(tmp_path, kind, content, reason):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableError, match=reason) as caught:
        decode(kind, tmp_path / "x", SMALL)
    assert str(tmp_path) not in str(caught.value)


def test_a_log_mel_spectrogram_is_that_of_torch_and_transformers():
    from transformers.audio_utils import mel_filter_bank

    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    bank = mel_filter_bank(201, 64, 0, 8000, 16_000, norm=None, mel_scale="htk")
    window = torch.hann_window(400)
    spectrum = torch.stft(torch.from_numpy(samples), 400, 160, window=window, return_complex=True).abs() ** 2
    expected = torch.log(torch.from_numpy(bank.T).float() @ spectrum + 1e-6).T
    np.testing.assert_allclose(log_mel(samples), expected, atol=2e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_usual_sound_format_is_read(tmp_path, suffix):
    write_tone(tmp_path / f"x.{suffix}", hertz=2000)
    (tmp_path / f"x.{suffix}").rename(tmp_path / "x.dat")
    spectrogram = decode("audio", tmp_path / "x.dat", SMALL)[""]
    assert spectrogram.dtype == np.float32
    assert abs(len(spectrogram) - 51) <= 8
    assert spectrogram[25].argmax() == 34


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_099, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_rate_and_number_of_channels_becomes_16_khz_mono(tmp_path, rate, channels):
    write_tone(tmp_path / "x.wav", rate=rate, channels=channels, seconds=1)
    spectrogram = decode("audio", tmp_path / "x.wav", SMALL)[""]
    assert spectrogram.shape == (101, 64)
    assert spectrogram[50].argmax() == 22  # the band of 1000 Hz


@pytest.mark.parametrize(("seconds", "frames"), [(1 / 16_000, 3), (0.01, 3), (0.5, 51), (2.0, 201), (9.0, 201)])
def test_short_sounds_are_padded_and_long_ones_end_early(tmp_path, seconds, frames):
    write_tone(tmp_path / "x.wav", seconds=seconds)
    assert decode("audio", tmp_path / "x.wav", SMALL)[""].shape == (frames, 64)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "no sound in it"),
        (np.array([0.1, np.nan] * 300), "NaN or infinite"),
        (np.array([0.1, np.inf] * 300), "NaN or infinite"),
    ],
)
def test_sounds_without_meaning_are_faults(tmp_path, samples, reason):
    soundfile.write(tmp_path / "x.wav", samples.astype(np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(UnreadableError, match=reason):
        decode("audio", tmp_path / "x.wav", SMALL)


def test_a_wave_file_that_is_cut_off_is_read_as_far_as_it_goes_and_a_flac_file_is_not(tmp_path):
    for name in ("x.wav", "x.flac"):
        write_tone(tmp_path / name, seconds=1)
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    assert abs(len(decode("audio", tmp_path / "x.wav", SMALL)[""]) - 51) <= 1
    with pytest.raises(UnreadableError):
        decode("audio", tmp_path / "x.flac", SMALL)


@pytest.mark.parametrize("rate", [1, 2_000_000_000])
def test_rates_beyond_reason_are_faults(tmp_path, rate):
    write_tone(tmp_path / "x.wav")
    raw = bytearray((tmp_path / "x.wav").read_bytes())
    raw[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "x.wav").write_bytes(raw)
    with pytest.raises(UnreadableError):
        decode("audio", tmp_path / "x.wav", SMALL)


COLOURS = [RED] * 4 + [GREEN] * 4 + [BLUE] * 4


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "mpeg4"), ("x.avi", "mpeg4"), ("x.mkv", "mpeg4"), ("x.mpg", "mpeg1video")]
)
def test_a_film_becomes_evenly_spaced_pictures_and_its_sound(tmp_path, name, codec):
    sound = 0 if codec == "mpeg1video" else 2.4
    write_film(tmp_path / name, COLOURS, sound=sound, codec=codec, fps=25 if codec == "mpeg1video" else 5)
    (tmp_path / name).rename(tmp_path / "x.dat")
    parts = decode("video", tmp_path / "x.dat", SMALL)
    assert parts[""].shape == (3, 8, 8, 3)
    for pixels, colour in zip(parts[""], (RED, GREEN, BLUE), strict=True):
        assert close_to(pixels[4, 4], colour, 40)
    assert set(parts) == ({"", "sound"} if sound else {""})
    if sound:
        assert parts["sound"].shape == (201, 64)
        assert decode("audio", tmp_path / "x.dat", SMALL)[""].shape == (201, 64)


def test_a_long_film_is_searched_and_looks_the_same(tmp_path, monkeypatch):
    write_film(tmp_path / "x.mp4", COLOURS * 2, fps=1)
    through = decode("video", tmp_path / "x.mp4", MediaOptions(image_size=8, video_frames=5))[""]
    from equilib_torch.data import film

    monkeypatch.setattr(film, "_SHORT", 1000.0)
    np.testing.assert_array_equal(
        decode("video", tmp_path / "x.mp4", MediaOptions(image_size=8, video_frames=5))[""], through
    )
    assert len(through) == 5


def test_a_film_of_few_pictures_gives_those_it_has(tmp_path):
    write_film(tmp_path / "x.mp4", [RED, BLUE])
    assert decode("video", tmp_path / "x.mp4", MediaOptions(image_size=8, video_frames=9))[""].shape == (2, 8, 8, 3)


@pytest.mark.parametrize("faststart", [{}, {"movflags": "faststart"}])
def test_a_film_that_is_cut_off_is_a_fault(tmp_path, faststart):
    rng = np.random.default_rng(0)
    write_film(tmp_path / "x.mp4", [rng.integers(0, 256, (48, 64, 3)) for _ in range(20)], **faststart)
    raw = (tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UnreadableError):
        decode("video", tmp_path / "x.mp4", SMALL)


def test_pictures_sounds_and_subtitles_are_no_films(tmp_path):
    halves(RED, BLUE).save(tmp_path / "picture.png")
    halves(RED, BLUE).save(tmp_path / "picture.jpg")
    write_tone(tmp_path / "sound.wav")
    (tmp_path / "subtitles.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableError):
            decode("video", path, SMALL)


def test_a_film_is_no_picture_and_without_sound_no_sound(tmp_path):
    write_film(tmp_path / "x.mp4", COLOURS)
    with pytest.raises(UnreadableError):
        decode("image", tmp_path / "x.mp4", SMALL)
    with pytest.raises(UnreadableError, match="no sound"):
        decode("audio", tmp_path / "x.mp4", SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 0},
        {"image_size": 5000},
        {"audio_seconds": 0},
        {"audio_seconds": float("nan")},
        {"video_frames": 0},
        {"workers": -1},
    ],
)
def test_options_have_ranges(options):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", "-")):
        MediaOptions(**options)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(media, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the extra \[media\]: the package PIL is missing"):
        media.require_packages("image")
