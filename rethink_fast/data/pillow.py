"""Images that DALI does not read, decoded by Pillow on the host and handed to DALI as a plain PPM.

They come out as DALI decodes the others: 8-bit RGB, upright by their EXIF orientation, alpha and transparent colours
dropped (not composited), colour profiles not applied, the first frame of an animation.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from .image_formats import PNG, TIFF, without_text

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000")
"""No others are tried: some of Pillow's run other programs, or take any bytes for an image."""

MAX_PIXELS = 178_000_000
"""Of one image, height times width. Pillow refuses more than 178,956,970; ImageNet's largest has some 50 million."""


class TooLarge(Exception):
    """An image's header claims more than MAX_PIXELS."""

    def __init__(self, height: int | None = None, width: int | None = None) -> None:
        size = "" if height is None else f": {width:,} x {height:,}"
        super().__init__(f"larger than {MAX_PIXELS // 10**6} megapixels{size}")


def for_dali(data: np.ndarray) -> np.ndarray:
    """Return encoded bytes, uint8 [n], as DALI decodes them to the same pixels without a word on the terminal.

    Its libpng and libtiff write there. So PNGs come without the chunks that change no pixel, and TIFFs decoded.
    """
    start = data[:8].tobytes()
    if start == PNG:
        content = data.tobytes()
        needed = without_text(content)
        return data if needed is content else np.frombuffer(needed, np.uint8)
    if start[:4] in TIFF:
        try:
            decoded = as_ppm(data.tobytes())
        except TooLarge:  # by its header, which DALI reads too
            return data
        return data if decoded is None else np.frombuffer(decoded, np.uint8)
    return data


def as_ppm(content: bytes) -> bytes | None:
    """Return an image as an 8-bit RGB PPM; None if Pillow cannot read it, or not all of it. Raises TooLarge."""
    from PIL import Image

    # For all threads, which warnings.catch_warnings is not: a fault in a file is reported in one line.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TooLarge(image.height, image.width)
            image.load()
            pixels = _as_dali(image)
            return b"P6 %d %d 255\n" % pixels.size + pixels.tobytes()
    except TooLarge:
        raise
    except Image.DecompressionBombError:
        raise TooLarge from None
    except Exception:  # Pillow's parsers raise OSError, SyntaxError, ValueError, struct.error, ... on damaged files
        return None


def _as_dali(image: Any) -> Any:
    """Return an image as RGB by the conventions above. Raises ValueError for values without a known range."""
    from PIL import Image, ImageChops, ImageOps

    try:
        upright: Any = ImageOps.exif_transpose(image)
    except Exception:  # of EXIF data that cannot be parsed: it is not turned, as by DALI
        upright = image
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(upright).astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(image.mode)
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Without Adobe's marker the values are ink, as libjpeg takes them; Pillow takes them for Adobe's, inverted.
        upright = ImageChops.invert(upright)
    return upright.convert("RGB")
