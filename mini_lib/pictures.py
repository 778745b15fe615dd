"""Open a user's picture as plain 8-bit RGB, or say in one sentence why that cannot be done."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .refusal import Refusal

MOST_PIXELS = 100_000_000   # above this a picture is refused: it would not fit beside a model in memory
LONG_SIDE = 4096            # above this it is shrunk: no vision tower sees more


def open_picture(source: str | Path | Image.Image | np.ndarray) -> tuple[Image.Image, list[str]]:
    """Return the picture as RGB and notes on what was changed to get there.

    source: a path, a PIL image or an array (H, W, 3) uint8.
    Transparent pictures are laid on white; 16-bit and CMYK ones are converted; sideways photos are turned upright.
    Raises Refusal for a missing, unreadable, cut-short, animated or too large picture.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise Refusal(f"An array picture must be (height, width, 3) uint8; this one is {source.shape} {source.dtype}.")
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        return _rgb(source, "the picture")
    path = Path(source)
    if not path.exists():
        raise Refusal(f"There is no file {str(path)!r}; check the path.")
    if path.is_dir():
        raise Refusal(f"{str(path)!r} is a folder; give one picture file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)   # we have our own limit, just below
            picture = Image.open(path)
            if picture.width * picture.height > MOST_PIXELS:
                raise Refusal(f"{str(path)!r} has {picture.width} x {picture.height} pixels, more than "
                              f"{MOST_PIXELS // 1_000_000} million; shrink it first.")
            if getattr(picture, "n_frames", 1) > 1:
                raise Refusal(f"{str(path)!r} is animated ({picture.n_frames} frames); save the frame you mean as a PNG.")
            picture.load()
    except UnidentifiedImageError:
        raise Refusal(f"{str(path)!r} is not a picture that can be read; give a PNG, JPEG, WebP or TIFF.") from None
    except Image.DecompressionBombError:
        raise Refusal(f"{str(path)!r} has more than {MOST_PIXELS // 1_000_000} million pixels; shrink it first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"{str(path)!r} is cut short or damaged ({error}); get the file again.") from None
    return _rgb(picture, path.name)


def _rgb(picture: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    notes = []
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, np.float64))
        # Only "I;16" says where white lies; in the others the brightest value has to tell.
        tops = {"I": (255, 65535), "F": (1, 255, 65535)}.get(picture.mode, (65535,))
        top = next((t for t in tops if values.max() <= t), 65535)
        picture = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
        notes.append(f"{name} has more than 8 bits a channel; it was scaled to 8, taking {top} for white.")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
        notes.append(f"{name} has transparent parts; they were laid on white.")
    if picture.mode == "CMYK":
        notes.append(f"{name} is CMYK; it was converted to RGB without a colour profile, so colours may shift.")
    picture = picture.convert("RGB")
    if max(picture.size) > LONG_SIDE:
        before = picture.size
        picture.thumbnail((LONG_SIDE, LONG_SIDE))
        notes.append(f"{name} was shrunk from {before[0]} x {before[1]} to {picture.width} x {picture.height} pixels.")
    return picture, notes
