"""Colour space of a JPEG stream by its own markers, whatever the containing file declares."""

from collections.abc import Iterator

HEAD_BYTES = 4096
"""Number of leading bytes of a stream that are searched for the markers."""

APP0, APP14, START_OF_SCAN = 0xE0, 0xEE, 0xDA
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Markers of a start of frame."""

WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def is_ycbcr(stream: bytes) -> bool | None:
    """Return whether a JPEG stream of three components holds YCbCr; None if its markers leave that open.

    A JFIF marker means YCbCr (ITU-T T.871, 6.1); an Adobe marker states it by its transform (T.872, 6.5.3). Without either,
    chroma subsampling means YCbCr, since RGB is never subsampled. Without subsampling the stream may be either: Aperio
    stores RGB so.

    Args:
        stream: the first `HEAD_BYTES` of the stream.
    """
    evidence: dict[str, bool] = {}
    for marker, body in _segments(stream):
        if marker == APP0 and body.startswith(b"JFIF\0"):
            evidence["jfif"] = True
        elif marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            evidence["adobe"] = body[11] == 1
        elif marker in FRAMES and len(body) >= 15 and body[5] == 3:
            sampling = {body[7], body[10], body[13]}
            evidence.update({"sampling": True} if len(sampling) > 1 else {})
    return next((evidence[name] for name in ("jfif", "adobe", "sampling") if name in evidence), None)


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment before the first scan."""
    at = stream.find(b"\xff\xd8") + 2
    while at >= 2 and at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == START_OF_SCAN:
            return
        if marker == 0xFF or marker in WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        yield marker, stream[at + 4 : at + 2 + length]
        at += 2 + length
