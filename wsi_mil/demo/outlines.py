"""Random outlines of tissue and lesions, as rings and masks. No I/O.

A ring is float64 (n_vertices, 2), (x, y) in level-0 pixels, the first vertex not repeated; (0, 0) is the
outer corner of the top left pixel. A mask is bool [height, width].
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Mask = NDArray[np.bool_]
Ring = NDArray[np.float64]

TISSUE_SHARE = (0.3, 0.42)
"""Range of the share of the slide, before holes."""
TISSUE_WOBBLE = 0.16
TISSUE_ASPECT = (0.8, 1.25)
GLASS_MARGIN = 0.02
"""Margin without tissue, as a share of the shorter side of the slide."""
MAX_HOLES = 2
HOLE_SHARE = (0.004, 0.02)
"""Range of the share of the tissue of each hole."""

LESION_SHARE = (0.045, 0.11)
"""Range of the share of the tissue of all lesions of a slide together."""
LESION_SPLIT = (0.35, 0.65)
LESION_WOBBLE = 0.14
LESION_CELLS = 6
"""Minimum distance of a lesion from the edge of the tissue and from another lesion, in cells of COARSE_PX."""
COARSE_PX = 8
MAX_ATTEMPTS = 4000

N_VERTICES = 360
N_HARMONICS = 60


def outline(rng: np.random.Generator, *, wobble: float) -> Ring:
    """Draw a closed star-shaped curve of area 1 around (0, 0).

    Args:
        rng: random generator.
        wobble: amplitude of the lowest harmonic of the logarithm of the radius.
    """
    angle = np.linspace(0, 2 * np.pi, N_VERTICES, endpoint=False)
    order = np.arange(2, N_HARMONICS)[:, None]
    size = wobble * rng.uniform(-1.7, 1.7, order.shape) * (order / 2.0) ** -1.25
    phase = rng.uniform(0, 2 * np.pi, order.shape)
    radius = np.exp((size * np.cos(order * angle + phase)).sum(axis=0))
    ring = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return np.asarray(ring / np.sqrt(ring_area(ring)))


def ring_area(ring: Ring) -> float:
    """Compute the area inside a ring in its squared units (shoelace formula)."""
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def rings_mask(dimensions: tuple[int, int], rings: tuple[Ring, ...]) -> Mask:
    """Return a mask [height, width], True inside any ring; `dimensions` are (width, height)."""
    canvas = Image.new("L", dimensions)
    for ring in rings:
        ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in ring], fill=255)
    return np.asarray(canvas) > 0


def tissue_mask(dimensions: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Draw one off-centre piece of tissue with up to `MAX_HOLES` holes or notches."""
    ring = _tissue_ring(dimensions, rng)
    middle = ring.mean(axis=0)
    holes = []
    for _ in range(rng.integers(0, MAX_HOLES + 1)):
        centre = middle + rng.uniform(0.3, 1.0) * (ring[rng.integers(N_VERTICES)] - middle)
        area = rng.uniform(*HOLE_SHARE) * ring_area(ring)
        holes.append(outline(rng, wobble=TISSUE_WOBBLE) * np.sqrt(area) + centre)
    return rings_mask(dimensions, (ring,)) & ~rings_mask(dimensions, tuple(holes))


def _tissue_ring(dimensions: tuple[int, int], rng: np.random.Generator) -> Ring:
    sides = np.array(dimensions, float)
    margin = GLASS_MARGIN * sides.min()
    while True:
        aspect = np.sqrt(sides[0] / sides[1] * rng.uniform(*TISSUE_ASPECT))
        side = np.sqrt(rng.uniform(*TISSUE_SHARE) * sides.prod())
        ring = outline(rng, wobble=TISSUE_WOBBLE) * side * (aspect, 1 / aspect)
        room = sides - 2 * margin - np.ptp(ring, axis=0)
        if (room >= 0).all():
            return np.asarray(ring - ring.min(axis=0) + margin + room * rng.random(2))


def lesion_rings(tissue_mask: Mask, rng: np.random.Generator) -> tuple[Ring, ...]:
    """Draw one or two separate lesions inside the tissue, which together cover `LESION_SHARE` of it.

    Args:
        tissue_mask: [height, width].
        rng: random generator of number, size, shape and position.

    Raises:
        ValueError: the tissue is too thin for a lesion.
    """
    area = rng.uniform(*LESION_SHARE) * np.count_nonzero(tissue_mask)
    first = rng.uniform(*LESION_SPLIT) if rng.random() < 0.5 else 1.0
    free = _eroded(_coarse(tissue_mask))
    rings: list[Ring] = []
    for share in (first, 1 - first):
        if share > 0:
            rings.append(_random_lesion(share * area, free, rng))
            free &= _eroded(~rings_mask(free.shape[::-1], (rings[-1] / COARSE_PX,)))
    return tuple(rings)


def _random_lesion(area: float, free: Mask, rng: np.random.Generator) -> Ring:
    """A ring of the given area, level-0 pixels, whose cells are all free."""
    cells = np.argwhere(free)[:, ::-1]
    for _ in range(MAX_ATTEMPTS if len(cells) else 0):
        centre = cells[rng.integers(len(cells))] * COARSE_PX + rng.uniform(0, COARSE_PX, 2)
        ring: Ring = np.round(outline(rng, wobble=LESION_WOBBLE) * np.sqrt(area) + centre, 2)
        inside_image = (ring >= 0).all() and (ring < np.array(free.shape[::-1]) * COARSE_PX).all()
        if inside_image and free[rings_mask(free.shape[::-1], (ring / COARSE_PX,))].all():
            return ring
    raise ValueError(f"no room for a lesion of {area:.0f} px² in {MAX_ATTEMPTS} attempts")


def _coarse(mask: Mask) -> Mask:
    """Mask [height // COARSE_PX, width // COARSE_PX], True for cells that are entirely True."""
    height, width = (side // COARSE_PX for side in mask.shape)
    cells = mask[: height * COARSE_PX, : width * COARSE_PX].reshape(height, COARSE_PX, width, COARSE_PX)
    return np.asarray(cells.all(axis=(1, 3)))


def _eroded(cells: Mask) -> Mask:
    shrunk = luminance(cells).filter(ImageFilter.MinFilter(2 * LESION_CELLS + 1))
    return np.asarray(shrunk) > 0


def luminance(mask: Mask) -> Image.Image:
    """Convert a mask to a grey image of 0 and 255."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def alpha(mask: Mask, edge_px: float) -> Image.Image:
    """Convert a mask to an opacity image with an edge of `edge_px` (standard deviation of the blur)."""
    return luminance(mask).filter(ImageFilter.GaussianBlur(edge_px))
