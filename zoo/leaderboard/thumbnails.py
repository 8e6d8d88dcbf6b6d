"""Images of untrusted runs, decoded and encoded again at a size suitable for a page with all of them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import TYPE_CHECKING

from zoo.compatibility import picture_file
from zoo.leaderboard.folders import PICTURES
from zoo.leaderboard.results import Run
from zoo.leaderboard.untrusted import RefusedError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["encode_image", "open_image", "pictures"]

_MAX_BYTES, _MAX_PIXELS = 8 << 20, 4_000_000
_MIN_PIXELS = 340
"""Images whose longer side has at most this number of pixels are not reduced in size."""


def pictures(run: Run, allowance: int) -> dict[str, tuple[int, int, str]]:
    """Return width, height and base-64 PNG of the images of a run, by name; unreadable images are omitted.

    Args:
        run: The run.
        allowance: Limit of bytes per image; larger images are halved in size and reduced to 16 gray levels.
    """
    found = {}
    for name in PICTURES:
        if name not in run.files:
            continue
        try:
            content = run.folder.read(picture_file(name, run.folder.names), _MAX_BYTES)
        except RefusedError:
            continue
        if (picture := encode_image(content, allowance)) is not None:
            found[name] = picture
    return found


def open_image(content: bytes) -> Image | None:
    """Decode an untrusted PNG to gray levels or RGB; None if it is malformed or has too many pixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > _MAX_PIXELS:
                return None
            image.load()
            return image.convert("L" if image.mode in ("1", "L", "LA", "I", "I;16") else "RGB")
    except MemoryError:
        return None
    except Exception:  # a decoder may raise anything for malicious input
        return None


def encode_image(content: bytes, allowance: int) -> tuple[int, int, str] | None:
    """Encode an untrusted PNG again: width, height and base-64 PNG; None if it is unreadable.

    Args:
        content: The PNG.
        allowance: Limit of bytes; a larger image is halved in size and reduced to 16 gray levels or 64 colors.
    """
    from PIL import Image

    image = open_image(content)
    if image is None:
        return None
    pixels, written = image, _png(image)
    while len(written) > allowance and max(pixels.size) > _MIN_PIXELS:
        # The mean of 2×2 pixels; lossless for images of a run, which are enlarged.
        pixels = pixels.reduce(2)
        written = _png(pixels)
    if len(written) > allowance:
        written = _png(
            pixels.quantize(64, dither=Image.Dither.NONE).convert("RGB") if pixels.mode == "RGB" else pixels, 4
        )
    return image.width, image.height, base64.b64encode(written).decode()


def _png(image: Image, bits: int = 8) -> bytes:
    """Encode a PNG whose bytes do not depend on the version of Pillow, for committed pages."""
    width, height = image.size
    raw, step = image.tobytes(), len(image.getbands()) * width
    lines = [raw[i * step : (i + 1) * step] for i in range(height)]
    if image.mode == "L" and bits == 4:
        # Two pixels per byte, each rounded to 16 gray levels.
        nibble = bytes((v * 15 + 127) // 255 for v in range(256))
        lines = [line.translate(nibble) + b"\0" * (width % 2) for line in lines]
        lines = [bytes(a << 4 | b for a, b in zip(line[::2], line[1::2], strict=True)) for line in lines]
    else:
        bits = 8
    previous, filtered = b"\0" * len(lines[0]), []
    for line in lines:
        # Repeated lines, common in enlarged images, become zeros.
        filtered.append(b"\2" + b"\0" * len(line) if line == previous else b"\0" + line)
        previous = line
    head = struct.pack(">IIBBBBB", width, height, bits, 0 if image.mode == "L" else 2, 0, 0, 0)
    body = zlib.compress(b"".join(filtered), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
