"""Text for people: numbers and durations, and text from anywhere made safe to print and to encode."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return the text on one line with what a terminal would act upon, or cannot show, escaped as in Python: \x1b.

    That is everything but printable characters and spaces: control and escape characters, line ends, direction marks,
    and bytes of a name that are not UTF-8.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def utf8(text: str) -> str:
    r"""Return the text with what UTF-8 cannot hold escaped: the byte 0x80 of a file's name becomes \x80."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(char) if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def split_names(text: str) -> list[str]:
    """Return the names of a list that is separated by commas."""
    return [name for word in text.split(",") if (name := word.strip())]


def number(value: float) -> str:
    """Return a number as text: 1,234,567, 85.75 or 2.1e-09."""
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return seconds as text: 41 s, 3 min 20 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_bytes(count: int) -> str:
    """Return a number of bytes as text: 1.50 GB or 12.0 MB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _escaped(char: str) -> str:
    # Python keeps a byte of a name that is not UTF-8 as this surrogate.
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
