"""Draw the pictures of docs/papers.md with cached models: `python -m benchmarks.papers.pictures --data ../shared/data`."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from benchmarks.papers import keys
from benchmarks.papers.colon import SIDE_PX, fold_of, read_colon
from benchmarks.papers.colon_keys import GLASS_IS_WHITE
from benchmarks.papers.mnist_bags import COLUMNS, MnistBags, Setting
from benchmarks.papers.mnist_bags import SIDE_PX as DIGIT_PX
from benchmarks.papers.mnist_keys import DIGITS_ARE_BRIGHT, positive_bags
from benchmarks.papers.tables import PAGE
from wsi_mil.bags import bag_tensor
from wsi_mil.evaluate.localisation import Floats
from wsi_mil.explain.registry import METHODS
from wsi_mil.explain.sparse_inversion import PIXELS, Domain, refine
from wsi_mil.models import MILModel
from wsi_mil.records import Role

GAP_PX, DOT_PX = 6, 7
COLOURS = colormaps["viridis"]

Rgb = NDArray[np.uint8]


def refined_scores(model: MILModel, annotated: keys.AnnotatedBag, domain: Domain) -> tuple[torch.Tensor, dict[str, Floats]]:
    """Return the refined bag; attention, attention and evidence of the refined bag, and labels of instances, 0 to 1."""
    bag = bag_tensor(annotated.bag, model)
    result = refine(model, bag, keys.TARGET, PIXELS, domain=domain)
    if result.refused:
        raise ValueError(f"{annotated.bag.slide_id}: the refinement of this bag was refused: {result.refused}")
    scores_of = {
        "attention": METHODS["attention"].of_model(model, bag, keys.TARGET).scores,
        "refined": METHODS["attention"].of_model(model, result.bag, keys.TARGET).scores,
        "evidence": METHODS["evidence"].of_model(model, result.bag, keys.TARGET).scores,
        "truth": annotated.positive.astype(np.float64),
    }
    return result.bag, {name: keys.within_bag(scores) for name, scores in scores_of.items()}


def mnist_picture(data: Path) -> Rgb:
    """Return a picture of a long bag: digits, refined digits, three heatmaps and labels; the model is of short bags."""
    bags = MnistBags.read(data / "mnist")
    model, _ = bags.model(Setting(10, 200, "attention", 0))
    (annotated,) = positive_bags(bags, "test", Setting(100, 400, "attention", 0), 1)
    refined, scores = refined_scores(model, annotated, DIGITS_ARE_BRIGHT)
    digits = annotated.bag.features[:, 0]
    panels = [grey(digits), grey(refined[0, :, 0].numpy()), *(tinted(digits, of) for of in scores.values())]
    return stacked([in_rows(panel) for panel in panels])


def colon_picture(data: Path, model_name: str = "attention", number: int = 0) -> Rgb:
    """Return a picture of a positive test image: the image, three heatmaps and the labels of its nuclei."""
    images = read_colon(data / "colon")
    fold = fold_of(model_name, number)
    model, _ = fold.trained_model(images)
    image = next(i for i in fold.images(images, Role.TEST) if i.positive.any() and not i.positive.all() and len(i.patches) > 50)
    _, scores = refined_scores(model, keys.AnnotatedBag(image.bag(), image.positive), GLASS_IS_WHITE)
    folder = data / "colon" / image.name
    plain = Picture.open(folder / f"{image.name}.bmp").convert("RGB")
    panels = [np.asarray(plain), *(dotted(plain, image.coords + SIDE_PX // 2, of) for of in scores.values())]
    return np.concatenate([np.pad(p, ((0, 0), (0, GAP_PX), (0, 0)), constant_values=255) for p in panels], axis=1)


def grey(digits: NDArray[np.floating]) -> Rgb:
    """Return intensities `(n, side, side)` as grey images `(n, side, side, 3)`."""
    return np.rint(digits * 255).astype(np.uint8)[..., None].repeat(3, axis=3)


def tinted(digits: NDArray[np.floating], scores: Floats) -> Rgb:
    """Return digits in white on the colour of their score."""
    background = np.asarray(COLOURS(scores))[:, None, None, :3]
    ink = digits[..., None]
    return np.rint((background * (1 - ink) + ink) * 255).astype(np.uint8)


def in_rows(digits: Rgb) -> Rgb:
    """Arrange images `(n, side, side, 3)` in rows of `COLUMNS`; the rest of the last row is white."""
    rows = -(-len(digits) // COLUMNS)
    full = np.full((rows * COLUMNS, DIGIT_PX, DIGIT_PX, 3), 255, np.uint8)
    full[: len(digits)] = digits
    grid = full.reshape(rows, COLUMNS, DIGIT_PX, DIGIT_PX, 3)
    return grid.swapaxes(1, 2).reshape(rows * DIGIT_PX, COLUMNS * DIGIT_PX, 3)


def stacked(panels: list[Rgb]) -> Rgb:
    """Return panels one below the other."""
    return np.concatenate([np.pad(panel, ((0, GAP_PX), (0, 0), (0, 0)), constant_values=255) for panel in panels])


def dotted(plain: Picture.Image, centres: NDArray[np.int64], scores: Floats) -> Rgb:
    """Draw a dot at each centre (x, y) in the colour of its score, the highest on top."""
    picture = plain.copy()
    draw = ImageDraw.Draw(picture)
    for place in np.argsort(scores):
        (x, y), colour = centres[place], tuple(int(255 * c) for c in COLOURS(scores[place])[:3])
        draw.ellipse((x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX), fill=colour, outline=(255, 255, 255))
    return np.asarray(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/ and colon/")
    data = parser.parse_args().data
    Picture.fromarray(mnist_picture(data)).save(PAGE.with_name("papers_mnist.png"), optimize=True)
    picture = Picture.fromarray(colon_picture(data))
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).save(PAGE.with_name("papers_colon.jpg"), quality=85)


if __name__ == "__main__":
    main()
