"""Check the slides that are chosen for finer heatmaps."""

from collections.abc import Sequence

from wsi_mil.config import Config, nearest
from wsi_mil.records import SlideRow
from wsi_mil.results import Results
from wsi_mil.shifts import shifts
from wsi_mil.wording import named


def fine_faults(config: Config, rows: Sequence[SlideRow]) -> list[str]:
    """Return why finer heatmaps of the chosen slides cannot be drawn."""
    key, chosen = "heatmap.fine.slides", config.heatmap.fine.slides
    ids = [row.slide_id for row in rows]
    faults = [f"{key}: the sheet has no slide {name!r}{_nearest(name, ids)}" for name in chosen if name not in ids]
    if chosen and not config.extracted:
        faults.append(
            f"{key}: shifted tiles must be encoded, but the features of every entry of encoders are imported; add an entry that"
            " extracts, or remove heatmap.fine"
        )
    if chosen and not config.explain.methods:
        faults.append(f"{key}: explain.methods is empty, so there is nothing to draw; name a method, or remove heatmap.fine")
    return faults


def fine_warnings(config: Config) -> list[str]:
    """Return what to know about finer heatmaps."""
    if not config.heatmap.fine.slides:
        return []
    warnings = [
        f"heatmap.fine: features of encoders.{entry} are imported, so there are no finer heatmaps by it"
        for entry in config.imported
    ]
    sampled = sorted({e.tiling for e in config.extracted.values() if config.tilings[e.tiling].max_tiles is not None})
    return warnings + [
        f"heatmap.fine: tilings.{name} samples at most max_tiles tiles, of each shifted tiling too, so that cells differ in the"
        " number of tiles they are the mean of"
        for name in sampled
    ]


def needs_slide(slide_id: str, config: Config) -> bool:
    """Whether a slide is chosen for finer heatmaps and its shifted tiles are not encoded yet, so that its file is needed."""
    fine = config.heatmap.fine
    if slide_id not in fine.slides:
        return False
    folders = [Results(config.results).shifted(shift.name) for shift in shifts(fine.steps)]
    return not all(folder.features_receipt(entry, slide_id).is_file() for folder in folders for entry in config.extracted)


def _nearest(name: str, ids: Sequence[str]) -> str:
    """Which slide may be meant; a long list of ids helps nobody."""
    hint = nearest(name, list(ids))
    return hint if hint.startswith("; did you mean") else f"; it has {named(list(ids))}"
