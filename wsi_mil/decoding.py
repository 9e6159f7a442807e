"""Bytes of a text file that somebody wrote with whatever program → text. Pure."""

import codecs

from wsi_mil.wording import in_rows

MARKED = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, and what they say; that of UTF-32 begins as that of UTF-16 does."""


def decoded(data: bytes, *, line: str = "line") -> str:
    """Text in UTF-8, or in what its byte order mark says.

    Args:
        data: the whole file.
        line: what a line of such a file is called.

    Raises:
        ValueError: it is neither; the message names the lines. No other encoding is guessed: nearly every byte is a letter in
            all of them, but not the same one.
    """
    encoding = next((name for mark, name in MARKED.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise ValueError(f"its byte order mark says {encoding.upper()}, which the rest is not: save it as UTF-8") from error
        lines = [(number, _stray(of)) for number, of in enumerate(data.splitlines(), start=1)]
        stray = [(number, byte) for number, byte in lines if byte]
        where = in_rows([number for number, _ in stray], line)
        raise ValueError(f"{where}: byte {stray[0][1]} is no UTF-8: save it as UTF-8") from error
    if "\0" in text:
        number = text[: text.index("\0")].replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        raise ValueError(f"{line} {number} holds a zero byte, which no text has: it is damaged, or UTF-16 without its mark")
    return text


def _stray(line: bytes) -> str:
    """The first byte of a line that is no UTF-8, in hexadecimal, or ""."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"0x{line[error.start]:02X}"
    return ""
