"""Check the rows of the sheet against a configuration: required annotations, and slides that are tiled already."""

from wsi_mil.cohort import Sheet
from wsi_mil.config import Config
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.wording import named


def slides_tiled_by_annotation(config: Config, sheet: Sheet) -> dict[str, list[SlideRow]]:
    """Return the slides whose annotation determines their tissue or tiles, by the configuration key that requests it."""
    used = {encoder.tiling for encoder in config.extracted.values()} & set(config.tilings)
    by_tiling = {
        f"tilings.{name}.min_annotation": list(sheet.rows) for name in sorted(used) if config.tilings[name].min_annotation
    }
    method = "tissue.method"
    needs_tiles = bool(config.extracted)
    by_tissue = [r for r in sheet.rows if needs_tiles and r.overrides.get(method, config.tissue.method) == "annotation"]
    return {**by_tiling, **({f"{method}: annotation": by_tissue} if by_tissue else {})}


def annotation_faults(config: Config, sheet: Sheet) -> list[str]:
    """Report slides that lack the annotation that determines their tiles."""
    faults = []
    for key, rows in slides_tiled_by_annotation(config, sheet).items():
        without = [row.slide_id for row in rows if row.annotation is None]
        if without:
            faults.append(f"{key} needs an annotation, and the sheet's `annotation` column has none for {named(without)}")
    return faults


def is_tiled(slide_id: str, config: Config) -> bool:
    """Whether a slide has a receipt for every tiling in use, so that its file is no longer needed."""
    return all(Results(config.results).tiles_receipt(name, slide_id).is_file() for name in tilings_of_encoders(config))


def tilings_of_encoders(config: Config) -> set[str]:
    """Return the names of the tilings used by encoder entries that extract."""
    return {encoder.tiling for encoder in config.extracted.values()}
