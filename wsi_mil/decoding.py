"""Decode text files of unknown origin. No file access."""

import codecs

from wsi_mil.wording import in_rows

BOM_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by byte order mark; UTF-32 comes first, since its mark begins like that of UTF-16."""


def decoded(data: bytes, *, line: str = "line") -> str:
    """Decode UTF-8, or the encoding of the byte order mark.

    Args:
        data: the whole file.
        line: name of a line of such a file in messages.

    Raises:
        ValueError: the data have another encoding; the message names the lines. No other encoding is guessed, since nearly
            every byte is a letter in each of them, but a different one.
    """
    encoding = next((name for mark, name in BOM_ENCODINGS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise ValueError(
                f"its byte order mark says {encoding.upper()}, but it is not in that encoding: save it as UTF-8"
            ) from error
        first_bytes = [(number, _invalid_byte(content)) for number, content in enumerate(data.splitlines(), start=1)]
        invalid = [(number, byte) for number, byte in first_bytes if byte]
        where = in_rows([number for number, _ in invalid], line)
        raise ValueError(f"{where}: byte {invalid[0][1]} is no UTF-8: save it as UTF-8") from error
    if "\0" in text:
        number = text[: text.index("\0")].replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        raise ValueError(f"{line} {number} holds a zero byte: it is damaged, or UTF-16 without its mark: save it as UTF-8")
    return text


def _invalid_byte(line: bytes) -> str:
    """First byte of a line that is no UTF-8, in hexadecimal, or ""."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"0x{line[error.start]:02X}"
    return ""
