"""Work on a large picture in bands of rows: on several threads, and with less memory for what lies between two steps."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS = 128

Floats = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


def in_bands(work: Callable[[NDArray[Scalar]], Floats], image: NDArray[Scalar], *, halo: int = 0, threads: int = 1) -> Floats:
    """`work` on [height, width, 3], of which each row depends on `halo` rows above and below it.

    Args:
        work: gives float32 [height, width, 3] of any band of rows; it runs on several threads.
        image: [height, width, 3].
        halo: rows.
        threads: at once.
    """
    found = np.empty(image.shape, np.float32)

    def fill(top: int) -> None:
        bottom, above = min(top + ROWS, len(image)), min(top, halo)
        found[top:bottom] = work(image[top - above : bottom + halo])[above : above + bottom - top]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(image), ROWS)):
            pass
    return found


def masks_in_bands(
    work: Callable[[Floats], tuple[NDArray[np.bool_], ...]], image: Floats, n: int, *, threads: int = 1
) -> tuple[NDArray[np.bool_], ...]:
    """The `n` masks, bool [height, width], that `work` gives of [height, width, 3] pixel by pixel."""
    found = tuple(np.empty(image.shape[:2], bool) for _ in range(n))

    def fill(top: int) -> None:
        for mask, part in zip(found, work(image[top : top + ROWS]), strict=True):
            mask[top : top + ROWS] = part

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(image), ROWS)):
            pass
    return found
