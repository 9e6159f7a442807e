"""Process a large image in bands of rows, on several threads and with little memory for intermediate results."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS = 128

Floats = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


def in_bands(work: Callable[[NDArray[Scalar]], Floats], image: NDArray[Scalar], *, halo: int = 0, threads: int = 1) -> Floats:
    """Apply `work` band by band; each output row depends on at most `halo` rows above and below.

    Args:
        work: returns float32 [height, width, 3] for any band of rows; it runs on several threads.
        image: [height, width, 3].
        halo: rows of context on either side of a band.
        threads: number of bands processed at once.
    """
    result = np.empty(image.shape, np.float32)

    def fill(top: int) -> None:
        bottom, above = min(top + ROWS, len(image)), min(top, halo)
        result[top:bottom] = work(image[top - above : bottom + halo])[above : above + bottom - top]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(image), ROWS)):
            pass
    return result


def masks_from_bands(
    work: Callable[[Floats], tuple[NDArray[np.bool_], ...]], image: Floats, n: int, *, threads: int = 1
) -> tuple[NDArray[np.bool_], ...]:
    """Return the `n` masks, bool [height, width], that the pixelwise `work` computes from [height, width, 3]."""
    masks = tuple(np.empty(image.shape[:2], bool) for _ in range(n))

    def fill(top: int) -> None:
        for mask, part in zip(masks, work(image[top : top + ROWS]), strict=True):
            mask[top : top + ROWS] = part

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(image), ROWS)):
            pass
    return masks
