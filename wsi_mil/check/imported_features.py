"""Check imported features: features that are missing, and features imported to the wrong place."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.config import Config, FeatureUnit
from wsi_mil.errors import StoreError
from wsi_mil.receipts import IMPORTED, read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.wording import named


def import_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Report slides without imported features, by encoder entry, with the command that imports them."""
    faults = []
    for entry in config.imported:
        missing: dict[str, list[str]] = {}
        for row in rows:
            reason = why_not_imported(config.results, entry, row.slide_id, config.encoders[entry].of)
            if reason:
                missing.setdefault(reason, []).append(row.slide_id)
        where = f"--results {shlex.quote(str(config.results))} --slides {shlex.quote(str(config.cohort))}"
        of = " --of slide" if config.encoders[entry].is_of_slides else ""
        command = f"wsi-mil import-features FILES --encoder {entry}{of} {where}"
        faults += [f"encoders.{entry}: {reason} for {named(slides)}; run `{command}`" for reason, slides in missing.items()]
    return faults


def misplaced_import_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Report imported tiles and features in folders for extracted ones. Snakemake would use them as the output of the run:
    they are newer than their inputs, and no job is known to have made them.
    """
    tilings = {encoder.tiling for encoder in config.extracted.values()}
    folders = [
        *(("features", entry, "layout") for entry in config.extracted),
        *(("tiles", t, IMPORTED) for t in sorted(tilings)),
    ]
    faults = []
    for stage, name, import_key in folders:
        folder = config.results / stage / name
        imported = [row.slide_id for row in rows if import_key in _receipt_or_empty(folder / f"{row.slide_id}.json")]
        if imported:
            fix = f"give {name!r} another name in the configuration, or delete the folder"
            faults.append(f"{folder}: imported {stage} of {named(imported)}, which would be used as results of this run; {fix}")
    return faults


def _receipt_or_empty(receipt: Path) -> dict[str, object]:
    """Content of a receipt; {} if there is none that can be read."""
    try:
        return read_receipt(receipt) if receipt.is_file() else {}
    except StoreError:
        return {}


def why_not_imported(results: Path, entry: str, slide_id: str, of: FeatureUnit = "tile") -> str:
    """Return why the imported features of a slide, or of its tiles, cannot be used, or ""."""
    layout = Results(results)
    features, tiles = layout.features_receipt(entry, slide_id), layout.tiles_receipt(entry, slide_id)
    what = "vectors of slides" if of == "slide" else "features"
    if not features.is_file():
        is_interrupted = store_path(features).exists()
        return "a store without its receipt (the import was interrupted)" if is_interrupted else f"no imported {what}"
    receipt = read_receipt(features)
    if receipt.get("of", "tile") != of:
        found = receipt.get("of", "tile")
        return (
            f"imported features of a {found}, but the entry says of: {of} (write of: {found}, or import again under another name)"
        )
    if of == "slide":
        return ""
    if not tiles.is_file() or IMPORTED not in read_receipt(tiles):
        return "features that were not imported, or that lack their tiles"
    return ""
