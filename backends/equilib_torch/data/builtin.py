"""The bundled data sets, and harder ones made from them by fixed recipes.

Two files ship with the package (`files/ATTRIBUTION.md` has sources and licences). The variants are made when loaded.
Their random draws come from constants, so that everybody has the same data; the seed of a run decides nothing but
which part of the training data is held out for validation. Means, scales and components are those of the *file's*
training part, the held-out samples included, for the same reason; test samples never enter them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from equilib_torch.data.dataset import Dataset
from equilib_torch.data.modality import Array, IntArray, Modality
from equilib_torch.data.npz import read_npz
from equilib_torch.data.split import VAL_FRACTION, hold_out
from equilib_torch.registry import Registry

IMAGE_NOISE = 1.5
AUDIO_NOISE = 3.5
ENERGY = 0.25
RECORDINGS_PER_IMAGE = 4
SAMPLES_PER_CLASS = 30  # mfeat-small: 10 classes make 300

_FILES = Path(__file__).parent / "files"
# One stream per recipe: noise on images, noise on audio, the pairs of av-digits-sum, the rows of mfeat-small.
_IMAGE_STREAM, _AUDIO_STREAM, _PAIR_STREAM, _ROW_STREAM = range(20_240, 20_244)


def av_digits(seed: int) -> Dataset:
    """Give pairs of a handwritten and a spoken digit.

    `image` (3000, 28, 28) uint8; `audio` (3000, 92, 13) float16, MFCC frames with lengths. 600 test pairs; 15 % of the
    other 2,400 validate.

    Example:
        >>> [modality.values.shape for modality in av_digits(0).modalities]
        [(3000, 28, 28), (3000, 92, 13)]
    """
    return replace(read_npz(_FILES / "av_digits.npz", seed=seed), name="av-digits")


def mfeat(seed: int) -> Dataset:
    """Give six views of handwritten digits, as vectors.

    2,000 rows: `profile_correlations` (216), `fourier_coefficients` (76), `karhunen_loeve` (64), `morphological` (6),
    `pixel_averages` (240), `zernike_moments` (47). 600 test rows; 15 % of the other 1,400 validate.
    Six digits occur twice in the source; four of these are once among the 1,400 and once in test.

    Example:
        >>> len(mfeat(0).modalities)
        6
    """
    return replace(read_npz(_FILES / "mfeat.npz", seed=seed), name="mfeat")


def av_digits_noisy(seed: int) -> Dataset:
    """Give av-digits with Gaussian noise on standardised values.

    The image is standardised by one mean and one sd over all training pixels (a pixel at the border never varies and
    has no sd of its own) and gets noise of sd 1.5. Every MFCC is standardised by its mean and sd over the valid
    training frames and gets noise of sd 3.5; padding stays 0. Both become float32.
    """
    base = av_digits(seed)
    image, audio = base.modalities
    values = _standardised_image(image.values, _training(base))
    noisy = replace(image, values=_with_noise(values, IMAGE_NOISE, _IMAGE_STREAM))
    return replace(base, name="av-digits-noisy", modalities=(noisy, _noisy_audio(audio, _training(base))))


def av_digits_pca(seed: int) -> Dataset:
    """Give av-digits with a weak image: the leading principal components that hold 25 % of the energy.

    The image, scaled as in av-digits-noisy but centred pixel by pixel, is projected on the fewest components whose
    variances add up to 25 % of the total over the training images (as AV-MNIST does): (3000, 4) float32 vectors. The
    audio is that of av-digits-noisy.
    """
    base = av_digits(seed)
    image, audio = base.modalities
    train = _training(base)
    pixels = _standardised_image(image.values, train).reshape(len(image.values), -1).astype(np.float64)
    pixels -= pixels[train].mean(axis=0)
    reduced = Modality(
        "image", "vector", (pixels @ _leading_components(pixels[train])).astype(np.float32), None, image.present
    )
    return replace(base, name="av-digits-pca", modalities=(reduced, _noisy_audio(audio, train)))


def av_digits_sum(seed: int) -> Dataset:
    """Give a written digit with a random spoken one; the label is their sum, 0 to 18.

    Neither modality suffices: the sum is as good as undetermined given one of them. 15 % of the training images and,
    apart from them, 15 % of the training recordings are held out first, stratified by digit, by the run's seed; then
    every image is paired with four distinct recordings of its own part, drawn by a fixed stream. No image and no
    recording is in two parts. 12,000 rows in the order train (8,160), val (1,440), test (2,400).
    """
    base = av_digits(seed)
    image, audio = base.modalities
    train, test = _training(base), base.splits["test"]
    image_parts = [train[rows] for rows in hold_out(base.labels[train], VAL_FRACTION, seed, stream=2)]
    audio_parts = [train[rows] for rows in hold_out(base.labels[train], VAL_FRACTION, seed, stream=3)]
    parts = zip([*image_parts, test], [*audio_parts, test], strict=True)
    pairs = [_pairs(images, recordings, part) for part, (images, recordings) in enumerate(parts)]
    image_rows, audio_rows = np.concatenate(pairs, axis=1)
    train_rows, val_rows, test_rows = np.split(
        np.arange(image_rows.size), np.cumsum([part.shape[1] for part in pairs])[:-1]
    )
    return Dataset(
        "av-digits-sum",
        (_take(image, image_rows), _take(audio, audio_rows)),
        base.labels[image_rows] + base.labels[audio_rows],
        tuple(range(19)),
        {"train": train_rows, "val": val_rows, "test": test_rows},
    )


def mfeat_small(seed: int) -> Dataset:
    """Give four views of mfeat and few samples: `fourier`, `karhunen_loeve`, `morphological`, `zernike`.

    300 training and 300 validation rows, 30 of each class, drawn from mfeat's 1,400 by a fixed stream; its 600 test
    rows. Both parts belong to the recipe, so the seed changes nothing.
    """
    base = mfeat(seed)
    rng = np.random.default_rng(_ROW_STREAM)
    train, val = [], []
    for label in range(base.n_classes):
        rows = rng.permutation(_training(base)[base.labels[_training(base)] == label])
        train.append(rows[:SAMPLES_PER_CLASS])
        val.append(rows[SAMPLES_PER_CLASS : 2 * SAMPLES_PER_CLASS])
    parts = {"train": np.concatenate(train), "val": np.concatenate(val), "test": base.splits["test"]}
    kept = np.sort(np.concatenate(list(parts.values())))
    short = {"fourier_coefficients": "fourier", "zernike_moments": "zernike"}
    wanted = ("fourier_coefficients", "karhunen_loeve", "morphological", "zernike_moments")
    return Dataset(
        "mfeat-small",
        tuple(
            replace(_take(modality, kept), name=short.get(modality.name, modality.name))
            for modality in base.modalities
            if modality.name in wanted
        ),
        base.labels[kept],
        base.classes,
        {part: np.searchsorted(kept, np.sort(rows)) for part, rows in parts.items()},
    )


def _training(dataset: Dataset) -> IntArray:
    """Give the rows the file calls training, of which the seed has held out some."""
    return np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))


def _take(modality: Modality, rows: IntArray) -> Modality:
    lengths = None if modality.lengths is None else modality.lengths[rows]
    return replace(modality, values=modality.values[rows], lengths=lengths, present=modality.present[rows])


def _standardised_image(images: Array, train: IntArray) -> Array:
    standardised: Array = (images - images[train].mean()) / images[train].std()
    return standardised.astype(np.float32)


def _leading_components(rows: Array) -> Array:
    """Give the fewest principal components of centred (N, D) rows that hold a quarter of the energy: (D, k)."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no types; comes with scikit-learn

    # On cores that are busy, BLAS threads wait for each other at every small step: 11 s instead of 0.2 s measured.
    with threadpool_limits(1, user_api="blas"):
        variances, components = np.linalg.eigh(rows.T @ rows)
    variances, components = variances[::-1], components[:, ::-1]
    k = 1 + int(np.searchsorted(np.cumsum(variances) / variances.sum(), ENERGY))
    leading: Array = components[:, :k]
    # An eigenvector has no sign of its own: make its largest entry positive, for the same data on every machine.
    signs: Array = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(k)])
    return leading * signs


def _with_noise(values: Array, sd: float, stream: int) -> Array:
    noisy: Array = values + np.float32(sd) * np.random.default_rng(stream).standard_normal(
        values.shape, dtype=np.float32
    )
    return noisy


def _noisy_audio(audio: Modality, train: IntArray) -> Modality:
    """Standardise every coefficient over the valid training frames and add noise; `Modality` clears the padding."""
    values = audio.values.astype(np.float32)
    valid = np.arange(values.shape[1]) < np.asarray(audio.lengths)[train, None]
    frames = values[train][valid].astype(np.float64)
    values = ((values - frames.mean(axis=0)) / frames.std(axis=0)).astype(np.float32)
    return replace(audio, values=_with_noise(values, AUDIO_NOISE, _AUDIO_STREAM))


def _pairs(images: IntArray, recordings: IntArray, part: int) -> IntArray:
    """Pair every image with four distinct recordings: (2, 4 n) rows of images and of recordings."""
    rng = np.random.default_rng([_PAIR_STREAM, part])
    drawn = [rng.choice(recordings, RECORDINGS_PER_IMAGE, replace=False) for _ in images]
    return np.stack([np.repeat(images, RECORDINGS_PER_IMAGE), np.concatenate(drawn)])


@dataclass(frozen=True)
class BuiltinDataset:
    """A bundled data set by name.

    Attributes:
        name: for `--dataset`.
        description: one line on what it holds.
        load: makes it from a run's seed.
    """

    name: str
    description: str
    load: Callable[[int], Dataset]


DATASETS = Registry(
    "dataset",
    [
        BuiltinDataset(
            "av-digits",
            "image and audio of a digit, 10 classes, 3,000 pairs (MNIST, Free Spoken Digit Dataset)",
            av_digits,
        ),
        BuiltinDataset(
            "mfeat", "six feature views of a handwritten digit, 10 classes, 2,000 digits (UCI Multiple Features)", mfeat
        ),
        BuiltinDataset(
            "av-digits-noisy",
            "av-digits with noise on both modalities, sd 1.5 (image) and 3.5 (audio)",
            av_digits_noisy,
        ),
        BuiltinDataset(
            "av-digits-pca", "av-digits, image reduced to 25 % of its energy, noise of sd 3.5 on audio", av_digits_pca
        ),
        BuiltinDataset(
            "av-digits-sum",
            "a written and a random spoken digit, label = their sum, 19 classes, 12,000 pairs",
            av_digits_sum,
        ),
        BuiltinDataset(
            "mfeat-small", "four views of mfeat; 300 training, 300 validation and 600 test digits", mfeat_small
        ),
    ],
)
"""Every bundled data set by name."""
