"""Encoder entries whose features are imported: what is missing, and what lies in the wrong place."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.config import Config
from wsi_mil.errors import StoreError
from wsi_mil.receipts import IMPORTED, read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.wording import named


def import_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Slides of the sheet without the features that were to be imported, by encoder entry, and the command that brings them."""
    faults = []
    for entry in config.imported:
        missing: dict[str, list[str]] = {}
        for row in rows:
            reason = why_not_imported(config.results, entry, row.slide_id)
            if reason:
                missing.setdefault(reason, []).append(row.slide_id)
        where = f"--results {shlex.quote(str(config.results))} --slides {shlex.quote(str(config.cohort))}"
        command = f"wsi-mil import-features FILES --encoder {entry} {where}"
        faults += [f"encoders.{entry}: {reason} for {named(slides)}; run `{command}`" for reason, slides in missing.items()]
    return faults


def mistaken_faults(config: Config, rows: Iterable[SlideRow]) -> list[str]:
    """Imported tiles and features where the run's own are to lie. Snakemake would take them for those: it knows no job that
    made them, and they are newer than what goes into them.
    """
    tilings = {encoder.tiling for encoder in config.extracted.values()}
    own = [*(("features", entry, "layout") for entry in config.extracted), *(("tiles", t, IMPORTED) for t in sorted(tilings))]
    faults = []
    for stage, name, mark in own:
        folder = config.results / stage / name
        found = [row.slide_id for row in rows if mark in _said(folder / f"{row.slide_id}.json")]
        if found:
            mend = f"give {name!r} another name in the configuration, or delete the folder"
            faults.append(f"{folder}: imported {stage} of {named(found)}, which the run would take for its own; {mend}")
    return faults


def _said(receipt: Path) -> dict[str, object]:
    """What a receipt says; nothing where there is none that can be read."""
    try:
        return read_receipt(receipt) if receipt.is_file() else {}
    except StoreError:
        return {}


def why_not_imported(results: Path, entry: str, slide_id: str) -> str:
    """Why a slide cannot be taken from imported features, or ""."""
    layout = Results(results)
    features, tiles = layout.features_receipt(entry, slide_id), layout.tiles_receipt(entry, slide_id)
    if not features.is_file():
        is_interrupted = store_path(features).exists()
        return "a store without its receipt (the import was interrupted)" if is_interrupted else "no imported features"
    if not tiles.is_file() or IMPORTED not in read_receipt(tiles):
        return "features that were not imported, or no tiles beside them"
    return ""
