"""Synthetic H&E slides with known lesions, composed of the texture of a real slide. No I/O.

Tissue is a mosaic of pieces of the texture inside an irregular outline. A lesion is a mosaic of magnified
cellular pieces: its nuclei are larger than in normal tissue, but its mean colour is the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.demo.outlines import Mask, Ring, alpha, lesion_rings, luminance, outline, rings_mask, tissue_mask

Pixels = NDArray[np.uint8]

GLASS = 243
"""Grey level of the empty slide."""
GLASS_NOISE = 2

PIECE_PX = 304
"""Side of the square that a piece of the mosaic is cut from."""
PIECE_RADIUS_PX = 130
PIECE_WOBBLE = 0.03
PITCH_PX = 164
"""Distance of centres on a hexagonal lattice: PITCH_PX / sqrt(3) + JITTER_PX * sqrt(2) is well inside a piece."""
JITTER_PX = 10
FEATHER_PX = 5.0
N_STAMPS = 12
TURNS = tuple(Image.Transpose)
"""Quarter turns and mirrors."""
STROMA_WAVE_PX = (900.0, 2600.0)
"""Range of wavelengths of the random field that determines pale and dark tissue."""
N_WAVES = 6

TISSUE_EDGE_PX = 2.0
LESION_MAGNIFICATION = (2.0, 2.3)
LESION_WINDOWS = 0.3
"""Share of the windows used for lesions: the darkest, which are rich in nuclei."""
LESION_EDGE_PX = 3.0


@dataclass(frozen=True)
class Texture:
    """A real H&E image, and the windows to cut from it.

    Attributes:
        image: [height, width, 3], glass near `GLASS`.
        windows: int64 (n_windows, 2), (x, y) of the top left corners of squares of `PIECE_PX` that are all
            tissue, sorted from dark (epithelium) to pale (stroma).
    """

    image: Pixels
    windows: NDArray[np.int64]


@dataclass(frozen=True)
class SyntheticSlide:
    """A synthetic slide at full resolution.

    Attributes:
        image: [height, width, 3].
        tissue_mask: [height, width].
        lesions: outlines of the lesions; none on a normal slide.
    """

    image: Pixels
    tissue_mask: Mask
    lesions: tuple[Ring, ...]


def synthetic_slide(
    texture: Texture, dimensions: tuple[int, int], *, has_lesion: bool, rng: np.random.Generator
) -> SyntheticSlide:
    """Compose a slide of `dimensions` (width, height); normal tissue does not depend on `has_lesion`."""
    mask = tissue_mask(dimensions, rng)
    slide = Image.fromarray(_glass(dimensions, rng))
    tissue = Image.fromarray(mosaic(texture, mask, rng=rng))
    lesions = lesion_rings(mask, rng) if has_lesion else ()
    target = _mean_colour(tissue, mask & ~rings_mask(dimensions, lesions))
    for ring in lesions:
        _paste_lesion(tissue, texture, ring, target, rng)
    slide.paste(tissue, (0, 0), alpha(mask, TISSUE_EDGE_PX))
    return SyntheticSlide(np.asarray(slide), mask, lesions)


def stained(texture: Texture, gains: NDArray[np.float64]) -> Texture:
    """Multiply the optical density of a texture per channel; glass stays unchanged.

    Args:
        texture: texture to stain.
        gains: float64 (3,), red, green, blue; 1 = unchanged.
    """
    table = [level for gain in gains for level in _density_table(float(gain)).tolist()]
    return Texture(np.asarray(Image.fromarray(texture.image).point(table)), texture.windows)


def _density_table(gain: float) -> Pixels:
    """Grey level (256,) of each grey level after its optical density against glass is multiplied."""
    levels = np.arange(256) / GLASS
    return np.asarray(np.clip(np.rint(GLASS * levels**gain), 0, 255), np.uint8)


def _glass(dimensions: tuple[int, int], rng: np.random.Generator) -> Pixels:
    noise = rng.integers(-GLASS_NOISE, GLASS_NOISE + 1, dimensions[::-1], dtype=np.int8)
    grey = (noise.astype(np.int16) + GLASS).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def mosaic(texture: Texture, needed: Mask, *, rng: np.random.Generator, magnification: float = 1.0) -> Pixels:
    """Compose a mosaic of overlapping pieces of the texture, rotated and mirrored at random.

    Args:
        texture: texture to cut from.
        needed: [height, width], the pixels to cover.
        rng: random generator of positions, pieces and rotations.
        magnification: magnification of the pieces, whose size in the mosaic stays the same.

    Returns:
        uint8 [height, width, 3], black where nothing is needed.
    """
    centres = _lattice(needed, rng)
    windows = texture.windows[_coherent_choice(centres, len(texture.windows), rng)]
    source, canvas = Image.fromarray(texture.image), Image.new("RGB", needed.shape[::-1])
    stamps = [_stamp(rng) for _ in range(N_STAMPS)]
    for index in rng.permutation(len(centres)):
        piece = _piece(source, windows[index], magnification).transpose(TURNS[rng.integers(len(TURNS))])
        x, y = (int(side) for side in centres[index] - PIECE_PX // 2)
        canvas.paste(piece, (x, y), stamps[rng.integers(N_STAMPS)])
    return np.asarray(canvas)


def _lattice(needed: Mask, rng: np.random.Generator) -> NDArray[np.int64]:
    """Centres of needed pieces on a jittered hexagonal lattice: int64 (n_pieces, 2), (x, y)."""
    height, width = needed.shape
    step_y = PITCH_PX * np.sqrt(3) / 2
    start = rng.uniform(-PITCH_PX, 0, 2)
    row, column = np.mgrid[0 : int(height / step_y) + 4, 0 : width // PITCH_PX + 4]
    x = start[0] + PITCH_PX * (column - row % 2 / 2)
    y = start[1] + step_y * row
    centres = np.stack([x, y], axis=-1).reshape(-1, 2) + rng.uniform(-JITTER_PX, JITTER_PX, (x.size, 2))
    whole = np.rint(centres).astype(np.int64)
    low, high = np.maximum(whole - PIECE_PX // 2, 0), np.maximum(whole + PIECE_PX // 2, 0)
    touches = [bool(needed[y0:y1, x0:x1].any()) for (x0, y0), (x1, y1) in zip(low, high, strict=True)]
    return whole[touches]


def _coherent_choice(centres: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """An index in 0 … n - 1 for each centre: similar for near centres, uniformly distributed over all centres."""
    length = rng.uniform(*STROMA_WAVE_PX, N_WAVES)
    angle, phase = rng.uniform(0, 2 * np.pi, (2, N_WAVES))
    wave = 2 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])
    rank = np.cos(centres @ wave + phase).sum(axis=1).argsort().argsort()
    return np.asarray((rank + rng.random(len(centres))) / len(centres) * n, np.int64)


def _piece(source: Image.Image, window: NDArray[np.int64], magnification: float) -> Image.Image:
    """The middle of a window, magnified to `PIECE_PX`."""
    x, y = (float(side) for side in window + (PIECE_PX - PIECE_PX / magnification) / 2)
    box = (x, y, x + PIECE_PX / magnification, y + PIECE_PX / magnification)
    return source.resize((PIECE_PX, PIECE_PX), Image.Resampling.BICUBIC, box=box)


def _stamp(rng: np.random.Generator) -> Image.Image:
    """A blob with a soft edge, opaque inside."""
    ring = outline(rng, wobble=PIECE_WOBBLE) * np.sqrt(np.pi) * PIECE_RADIUS_PX + PIECE_PX / 2
    return alpha(rings_mask((PIECE_PX, PIECE_PX), (ring,)), FEATHER_PX)


def _paste_lesion(
    tissue: Image.Image, texture: Texture, ring: Ring, target: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Paste a lesion of the target mean colour into the tissue, in place."""
    left, top = (int(side) for side in np.maximum(np.floor(ring.min(axis=0) - 4 * LESION_EDGE_PX), 0))
    width, height = (int(side) for side in np.ceil(ring.max(axis=0) + 4 * LESION_EDGE_PX) - (left, top))
    mask = rings_mask((width, height), (ring - (left, top),))
    cellular = Texture(texture.image, texture.windows[: round(LESION_WINDOWS * len(texture.windows))])
    patch = Image.fromarray(mosaic(cellular, np.ones_like(mask), rng=rng, magnification=rng.uniform(*LESION_MAGNIFICATION)))
    tissue.paste(_matched(patch, mask, target), (left, top), alpha(mask, LESION_EDGE_PX))


def _matched(image: Image.Image, mask: Mask, target: NDArray[np.float64]) -> Image.Image:
    """The image, with the density gain per channel that makes its mean colour in the mask equal to the target."""
    table: list[int] = []
    for channel, wanted in zip(image.split(), target, strict=True):
        counts = np.array(channel.histogram(luminance(mask)))
        table += _density_table(_gain_for_mean(counts, float(wanted))).tolist()
    return image.point(table)


def _gain_for_mean(counts: NDArray[np.int64], wanted: float) -> float:
    """Density gain, 1/4 to 4, at which the mean grey level of a histogram (256,) is the wanted one."""
    low, high = 0.25, 4.0
    for _ in range(20):
        gain = np.sqrt(low * high)
        is_too_pale = counts @ _density_table(gain) / counts.sum() > wanted
        low, high = (gain, high) if is_too_pale else (low, gain)
    return float(np.sqrt(low * high))


def _mean_colour(image: Image.Image, mask: Mask) -> NDArray[np.float64]:
    counts = np.array(image.histogram(luminance(mask))).reshape(3, 256)
    return np.asarray(counts @ np.arange(256) / counts.sum(axis=1))
