"""How a JPEG stream stores its colours, by its own markers, whatever the file around it declares."""

from collections.abc import Iterator

HEAD_BYTES = 4096
"""The markers that say it stand in the first so many bytes of a stream."""

APP0, APP14, START_OF_SCAN = 0xE0, 0xEE, 0xDA
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Start of frame, of any kind."""

WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def is_ycbcr(stream: bytes) -> bool | None:
    """Whether a JPEG stream of three components holds YCbCr; None where its markers do not say so beyond doubt.

    A JFIF marker says YCbCr (ITU-T T.871, 6.1), an Adobe marker by its transform (T.872, 6.5.3). Where neither stands there,
    components that are sampled differently say YCbCr, for nobody samples red, green and blue so. Components that are all
    sampled alike, without a marker, may be either: Aperio stores RGB so.

    Args:
        stream: the first `HEAD_BYTES` of it.
    """
    said: dict[str, bool] = {}
    for marker, body in _segments(stream):
        if marker == APP0 and body.startswith(b"JFIF\0"):
            said["jfif"] = True
        elif marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            said["adobe"] = body[11] == 1
        elif marker in FRAMES and len(body) >= 15 and body[5] == 3:
            sampling = {body[7], body[10], body[13]}
            said.update({"sampling": True} if len(sampling) > 1 else {})
    return next((said[name] for name in ("jfif", "adobe", "sampling") if name in said), None)


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
