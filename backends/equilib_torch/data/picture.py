"""Pictures: any of the usual formats as RGB, upright, on white, at one size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from equilib_torch.data.media import UnreadableError
from equilib_torch.data.modality import Array

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS = 89_478_485
"""Pixels of the largest picture that is decoded, where Pillow begins to speak of a decompression bomb."""

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
_ORIENTATION = 0x0112


def read_picture(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Read a picture as it is meant to be seen: EXIF orientation applied, what is transparent on white.

    Of several pictures in a file the first counts. 16 bits become 8 by scaling.

    Args:
        path: JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF, JPEG 2000 or PPM, whatever the name says.
        size: Pixels of both sides.

    Returns:
        (size, size, 3), RGB; height and width are scaled apart.

    Raises:
        UnreadableError: It has more than `MAX_PIXELS`, or values of no known range.
        Exception: What Pillow raises for a file that is damaged or no picture.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image: Picture = Image.open(path, formats=_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels")
        image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
        image.load()
        # Asked after loading: a TIFF has applied it by then, and says so.
        orientation = image.getexif().get(_ORIENTATION, 1)
        small = _with_colours(image).resize((size, size), Image.Resampling.BILINEAR)
    if small.mode == "RGBA":  # scaled with its alpha first, which is the same and takes less memory
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small).convert("RGB")
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    if orientation in turns:
        small = small.transpose(turns[orientation])
    return np.asarray(small, dtype=np.uint8)


def _with_colours(image: Picture) -> Picture:
    """Give it as RGB, or RGBA where something is transparent."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: Array) -> npt.NDArray[np.uint8]:
    """Bring grey values of more bits into 0..255: from 0..65535, and real ones from 0..1.

    Pillow itself would cut off all above 255.
    """
    if values.dtype.kind == "f":
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= 0 and highest <= 65535):
            raise UnreadableError(f"its values must be in 0..1, 0..255 or 0..65535, got {lowest:g} to {highest:g}")
        factor = 255.0 if highest <= 1 else 1.0 if highest <= 255 else 1 / 257
    else:
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > 65535:
            raise UnreadableError(f"its values must be in 0..255 or 0..65535, got {lowest} to {highest}")
        factor = 1.0 if values.dtype.itemsize > 2 and highest <= 255 else 1 / 257
    eight: npt.NDArray[np.uint8] = np.rint(values.astype(np.float32) * np.float32(factor)).astype(np.uint8)
    return eight
