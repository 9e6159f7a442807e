"""Tiles of slides as an AnnData table: tiles are observations, features the variables. Features are not read here."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.interchange.slide_tiles import SlideTiles
from wsi_mil.interchange.spatial_packages import anndata
from wsi_mil.version import __version__

OWN = "wsi_mil"
"""Key of our metadata in `uns`."""

PLACE = (
    "obsm['spatial']: middle of each tile, (x, y), level-0 pixels;"
    " obs['x'], obs['y']: its top-left corner, level-0 pixels; uns['wsi_mil']['slides']: its size, and µm per pixel"
)


def annotated(slides: Sequence[SlideTiles]) -> Any:
    """Return the table of the tiles of slides, one slide after the other, without features (`X` is None).

    Args:
        slides: at least one, with features of one encoder.

    Returns:
        AnnData with `obs` (slide, patient, labels, corner, share of tissue, scores), `obsm["spatial"]`, and in `uns` the
        places of spots as Squidpy reads them, without images, and the scale under "wsi_mil".
    """
    import pandas as pd

    names = [f"{slide.slide_id}-{number}" for slide in slides for number in range(len(slide.features))]
    table = anndata().AnnData(
        obs=pd.DataFrame(_columns(slides), index=_texts(names)),
        var=pd.DataFrame(index=_texts(f"feature_{number}" for number in range(slides[0].features.dim))),
    )
    table.obsm["spatial"] = np.concatenate([slide.centres for slide in slides])
    table.uns["spatial"] = {slide.slide_id: {"images": {}, "scalefactors": _scale_factors(slide)} for slide in slides}
    table.uns[OWN] = _about(slides)
    return table


def float32_blocks(slides: Iterable[SlideTiles]) -> Iterable[NDArray[np.float32]]:
    """Yield the features of slides some rows at a time, in float32, which other tools compute in."""
    return (block.astype(np.float32) for slide in slides for block in slide.features.blocks())


def background(slide: SlideTiles) -> NDArray[np.uint8] | None:
    """Return the thumbnail [height, width, 3] with the proportions of level 0, since Squidpy has one scale for both axes."""
    image = slide.thumbnail()
    if image is None or slide.scale.dimensions is None:
        return None
    width, height = slide.scale.dimensions
    rows = max(1, round(image.shape[1] * height / width))
    if abs(rows - image.shape[0]) <= 1:
        return image
    nearest = ((np.arange(rows) + 0.5) * image.shape[0] / rows).astype(int)
    resized: NDArray[np.uint8] = image[nearest]
    return resized


def hires_scale(image: NDArray[np.uint8], slide: SlideTiles) -> float:
    """Return the pixels of a `background` per level-0 pixel."""
    assert slide.scale.dimensions is not None
    return float(image.shape[1] / slide.scale.dimensions[0])


def _columns(slides: Sequence[SlideTiles]) -> dict[str, Any]:
    """Columns of `obs`."""
    corners = np.concatenate([slide.features.coords for slide in slides])
    columns = {
        "slide_id": _categories(slides, [slide.slide_id for slide in slides]),
        "patient_id": _categories(slides, [slide.patient_id for slide in slides]),
    }
    for target in sorted({target for slide in slides for target in slide.labels}):
        columns[f"label_{target}"] = _categories(slides, [slide.labels.get(target, "") for slide in slides])
    columns |= {"x": corners[:, 0], "y": corners[:, 1]}
    if any(slide.tissue_fraction is not None for slide in slides):
        columns["tissue_fraction"] = np.concatenate([_or_nan(slide, slide.tissue_fraction) for slide in slides])
    for name in dict.fromkeys(name for slide in slides for name in slide.scores.values):
        columns[name] = np.concatenate([_or_nan(slide, slide.scores.values.get(name)) for slide in slides])
    return columns


def _or_nan(slide: SlideTiles, values: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.full(len(slide.features), np.nan, np.float32) if values is None else values


def _categories(slides: Sequence[SlideTiles], of_slide: list[str]) -> Any:
    """Categories by tile from a text for each slide; "" is no value."""
    import pandas as pd

    known = sorted(set(of_slide) - {""})
    codes = [known.index(text) if text else -1 for text in of_slide]
    return pd.Categorical.from_codes(np.repeat(codes, [len(slide.features) for slide in slides]), _texts(known))


def _texts(values: Iterable[str]) -> Any:
    """Index of texts as objects: not every version of anndata writes pandas' own texts."""
    import pandas as pd

    return pd.Index(list(values), dtype=object)


def _scale_factors(slide: SlideTiles) -> dict[str, float]:
    return {"spot_diameter_fullres": float(slide.size[0])}


def _about(slides: Sequence[SlideTiles]) -> dict[str, Any]:
    """Our metadata."""
    import pandas as pd

    first = slides[0]
    about = {name: text for slide in slides for name, text in slide.scores.about.items()}
    scores = {"scores": _text_table(about)} if about else {}
    return {
        "place": PLACE,
        "encoder": first.encoder,
        "weights_hash": first.weights_hash,
        "mpp": first.scale.mpp,
        "tile_px": first.scale.tile_px,
        "version": __version__,
        "slides": pd.DataFrame(_of_slides(slides), index=_texts(slide.slide_id for slide in slides)),
        **scores,
    }


def _of_slides(slides: Sequence[SlideTiles]) -> dict[str, Any]:
    """Columns of the table of slides: sizes in level-0 pixels, µm per pixel, and what the scores are of."""
    sizes = np.stack([slide.size for slide in slides])
    dimensions = np.array([slide.scale.dimensions or (np.nan, np.nan) for slide in slides])
    mpp = np.stack([slide.mpp for slide in slides])
    return {
        "n_tiles": [len(slide.features) for slide in slides],
        "tile_width": sizes[:, 0],
        "tile_height": sizes[:, 1],
        "slide_width": dimensions[:, 0],
        "slide_height": dimensions[:, 1],
        "slide_mpp_x": mpp[:, 0],
        "slide_mpp_y": mpp[:, 1],
        "role": _texts(slide.scores.role for slide in slides),
        "explained": _texts(slide.scores.explained for slide in slides),
    }


def _text_table(rows: dict[str, Any]) -> Any:
    import pandas as pd

    columns = next(iter(rows.values()))
    values = {column: _texts(row[column] for row in rows.values()) for column in columns}
    return pd.DataFrame(values, index=_texts(rows))
