"""Characters that a careless export left in a text: Windows-1252 bytes read as Latin-1, and halves of emoji."""

import re

WRONG = re.compile("[\x80-\x9f\ud800-\udfff]")
WINDOWS_1252 = {
    code: bytes([code]).decode("cp1252") for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
"""The control characters U+0080 to U+009F and the quotation marks, dashes and dots that these bytes stand for."""


def is_whole(text: str) -> bool:
    """Whether a text can stand as it is."""
    return text.isascii() or WRONG.search(text) is None


def halves(text: str) -> bool:
    """Whether it holds a lone surrogate: a text that was cut inside an emoji."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def mend(text: str) -> str:
    """Control characters as the Windows-1252 characters they stand for; each lone surrogate as U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text.translate(WINDOWS_1252))


def is_utf8(text: str) -> bool:
    """Whether a text read with `surrogateescape` was UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, most: int = 40) -> str:
    """A text from a file, fit to be quoted in one line on a terminal."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[: most + 1])
    return shown if len(shown) <= most else shown[:most] + "..."
