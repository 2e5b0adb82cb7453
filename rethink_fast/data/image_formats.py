"""What the bytes of an image file are: its kind by its first bytes, and its structure to the image's own end.

Bytes behind that end (the video of a motion photo, what a tool appended) are not looked at.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx"),
)
"""Of the files that are decoded, in lower case. The kind is taken from the content, not from the suffix."""


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image: by its suffix, in any case, and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG2000 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_READ: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8", "JPEG"),
    (re.escape(PNG), "PNG"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}", "BMP"),
    (b"|".join(map(re.escape, TIFF)), "TIFF"),
    (rb"P[1-6]\s", "PNM"),
    (b"|".join(map(re.escape, _JPEG2000)), "JPEG 2000"),
    (rb"....ftypavi[fs]", "AVIF"),
)
_NOT_READ: tuple[tuple[bytes, str], ...] = (
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC image"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL image"),
    (rb"8BPS", "a Photoshop image"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg", "an SVG drawing"),
    (rb"\s*<(?:!doctype )?html|\s*<(?:head|body|script)\b", "an HTML page, not an image"),
    (rb"\s*<", "XML or HTML text, not an image"),
    (rb"%PDF", "a PDF document, not an image"),
    (rb"PK\x03\x04|Rar!|\x1f\x8b|7z\xbc\xaf|BZh|\xfd7zXZ", "an archive, not an image"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video, not an image"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not an image: run git lfs pull"),
)


def _first(patterns: tuple[tuple[bytes, str], ...], content: bytes) -> str | None:
    return next((name for start, name in patterns if re.match(start, content[:4096], re.DOTALL | re.IGNORECASE)), None)


def kind_of(content: bytes) -> str | None:
    """Return the kind of an image by its first bytes, as "JPEG"; None if it is none of those that are read."""
    return _first(_READ, content)


def unsupported(content: bytes) -> str | None:
    """Return what a file is that no decoder here reads; None if it is of a kind that is read."""
    kind = kind_of(content)
    if kind == "JPEG":
        return _unsupported_jpeg(content)
    return None if kind is not None else _first(_NOT_READ, content) or "not an image of a known kind"


def structural_damage(content: bytes) -> str | None:
    """Return what a JPEG, PNG, WebP or BMP lacks up to the image's own end, as "truncated at byte 512".

    None if nothing is missing, and for other kinds, of which the decoder reads all.
    """
    if not content:
        return "empty"
    walk = {"JPEG": _walk_jpeg, "PNG": _walk_png, "WebP": _walk_webp, "BMP": _walk_bmp}.get(kind_of(content) or "")
    if walk is None:
        return None
    try:
        walk(content)
    except _Damage as damage:
        return str(damage)
    return None


class _Damage(Exception):
    pass


def _need(content: bytes, end: int) -> None:
    """Raise if the content ends before `end`."""
    if len(content) < end:
        raise _Damage(f"truncated at byte {len(content):,}")


_MARKER = re.compile(rb"\xff([^\0\xff])", re.DOTALL)
_MARKER_AFTER_SCAN = re.compile(rb"\xff([^\0\xff\xd0-\xd7])", re.DOTALL)
_SOI, _EOI, _SOS, _WITHOUT_LENGTH = 0xD8, 0xD9, 0xDA, (0x01, *range(0xD0, 0xD9))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, where its segment begins) up to the image's own end-of-image marker.

    Segments go by their length, so that a thumbnail within one is passed over; a scan ends at the next marker that is
    neither a stuffed byte nor a restart.
    """
    position, pattern = 2, _MARKER
    while True:
        match = pattern.search(content, position)  # as libjpeg does, past bytes that belong to nothing
        if match is None:
            raise _Damage(f"truncated at byte {len(content):,}")
        marker, position, pattern = match[1][0], match.end(), _MARKER
        yield marker, position
        if marker == _EOI:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        if marker < 0xC0:
            raise _Damage(f"corrupt: marker {marker:02X} at byte {position - 2:,}")
        _need(content, position + 2)
        length = int.from_bytes(content[position : position + 2], "big")
        if length < 2:
            raise _Damage(f"corrupt: a segment of {length} bytes at byte {position:,}")
        position += length
        _need(content, position)
        if marker == _SOS:
            pattern = _MARKER_AFTER_SCAN


def _walk_jpeg(content: bytes) -> None:
    if _SOS not in [marker for marker, _ in _jpeg_segments(content)]:
        raise _Damage("corrupt: no image data")


def _unsupported_jpeg(content: bytes) -> str | None:
    try:
        for marker, place in _jpeg_segments(content):
            if marker in _FRAMES:
                bits = content[place + 2]
                if bits != 8:
                    return f"a JPEG of {bits} bits a sample"
                return "a lossless or hierarchical JPEG" if marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) else None
    except (_Damage, IndexError):
        pass
    return None


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, where the chunk begins, where it ends) up to IEND."""
    place = len(PNG)
    while True:
        _need(content, place + 8)
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        _need(content, end)
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end


def _walk_png(content: bytes) -> None:
    view = memoryview(content)
    for kind, start, end in _png_chunks(content):
        is_critical = not kind[0] & 0x20
        if is_critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise _Damage(f"corrupt: chunk {kind.decode('latin-1')!r} at byte {start:,} fails its checksum")


def without_text(content: bytes) -> bytes:
    """Return a PNG without the chunks that change no decoded pixel, about which libpng would write to the terminal.

    Colour profiles are among them: no decoder here applies one. What is no whole PNG is returned as it is.
    """
    try:
        chunks = list(_png_chunks(content))
    except _Damage:
        return content
    kept = [(start, end) for kind, start, end in chunks if not kind[0] & 0x20 or kind in (b"tRNS", b"eXIf")]
    if len(kept) == len(chunks):
        return content
    return PNG + b"".join(content[start:end] for start, end in kept)


def _walk_webp(content: bytes) -> None:
    _need(content, 12)
    _need(content, 8 + int.from_bytes(content[4:8], "little"))


def _walk_bmp(content: bytes) -> None:
    """By the pixels' own size: the size in the header is often wrong."""
    header = int.from_bytes(content[14:18], "little")
    if header < 40:
        return
    _need(content, 34)
    pixels, width, height, bits, compression = (
        int.from_bytes(content[at : at + size], "little", signed=at == 22)
        for at, size in ((10, 4), (18, 4), (22, 4), (28, 2), (30, 4))
    )
    if compression in (0, 3, 6):  # the others are compressed: their decoder finds the end
        _need(content, pixels + (width * bits + 31) // 32 * 4 * abs(height))
