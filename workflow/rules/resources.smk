# Memory and time of jobs, by the size of their input. The numbers are measured, see docs/cluster.md.
# They change no result, and changing them reruns nothing.
import math
from functools import lru_cache


@lru_cache(maxsize=None)
def tiles_and_width(receipt):
    """Number of a slide's tiles or features, and length of a feature vector (0 for tiles); 0 if the slide is not ok."""
    content = json.loads(Path(receipt).read_text(encoding="utf-8"))
    return content.get("n_tiles") or 0, content.get("dim") or 0


def slide_mb(wildcards, input):
    """Size of each slide file of a job, MB."""
    return [Path(path).stat().st_size / 1e6 for path in input]


def thousand_tiles(wildcards, input):
    """Thousands of tiles of each slide of a job; 0 for one that is not tiled yet."""
    folder = Path(RESULTS) / "tiles" / tiling_of(wildcards)
    receipts = [folder / f"{row['slide_id']}.json" for row in members(wildcards)]
    return [tiles_and_width(r)[0] / 1000 if r.exists() else 0 for r in receipts]


def thousand_fine_tiles(wildcards, input):
    """Thousands of tiles of all shifted tilings of a slide, about; 0 if it is not tiled yet."""
    shifts = CONFIG["heatmap"]["fine"]["steps"] ** 2 - 1
    return [shifts * thousand for thousand in thousand_tiles(wildcards, input)]


@lru_cache(maxsize=64)
def bag_mb(encoder, status, modified):
    """Size of the features of each usable slide in float32, MB."""
    return [
        4 * math.prod(tiles_and_width(features_of(encoder, slide_id))) / 1e6
        for slide_id in ok_in(status, modified)
    ]


def largest_bag_mb(wildcards, input):
    """Size of the features of the cohort's largest slide in float32, MB; 0 until the checkpoint `cohort` has run."""
    status = Path(RESULTS) / "cohort_status.csv"
    return (
        max(
            bag_mb(wildcards.encoder, str(status), status.stat().st_mtime_ns), default=0
        )
        if status.exists()
        else 0
    )


def bags_mb(wildcards, input):
    """As `largest_bag_mb`, for each slide of a job."""
    return [largest_bag_mb(wildcards, input)] * len(members(wildcards))


def slides(wildcards, input):
    """Number of slides in the sheet."""
    return len(SLIDES)


def constant(wildcards, input):
    """Size for jobs whose needs do not depend on their input."""
    return 0


NEEDS = {
    # rule: base MB, MB per unit, unit; base minutes, minutes per unit, unit
    # for a job of several slides: memory for the largest, minutes for all of them
    "tile": (300, 1, slide_mb, 5, 0.01, slide_mb),
    "extract": (6000, 0, constant, 15, 1, thousand_tiles),
    "cohort": (500, 0.05, slides, 10, 0.01, slides),
    "split": (500, 0.05, slides, 10, 0.01, slides),
    "statistics": (1000, 0, constant, 10, 0.05, slides),
    "train": (1500, 14, largest_bag_mb, 60, 0.5, slides),
    "predict": (1000, 8, largest_bag_mb, 15, 0.05, slides),
    "explain": (1000, 8, largest_bag_mb, 5, 0.1, bags_mb),
    "explain_validation": (1000, 8, largest_bag_mb, 15, 0.1, slides),
    "trust": (500, 0.5, slides, 10, 0.05, slides),
    "heatmap_scale": (500, 0.5, slides, 10, 0.05, slides),
    "heatmap": (500, 0, constant, 2, 0.05, thousand_tiles),
    "fine_tile": (600, 0, constant, 10, 0, constant),
    "fine_extract": (6000, 0, constant, 15, 1, thousand_fine_tiles),
    "fine_explain": (1000, 12, largest_bag_mb, 10, 1, thousand_fine_tiles),
    "fine_heatmap": (700, 0, constant, 5, 0.2, thousand_fine_tiles),
    "evaluate": (500, 1, slides, 15, 0.1, slides),
    "report": (500, 5, slides, 15, 0.2, slides),
}


def needs(rule):
    """The `resources` of a rule's jobs; the n-th attempt requests n times as much."""
    mb, more_mb, mb_of, minutes, more_minutes, minutes_of = NEEDS[rule]

    def amount(base, per_unit, size, over_slides):
        def needed(wildcards, input, attempt):
            found = size(wildcards, input)
            units = over_slides(found) if isinstance(found, list) else found
            return attempt * math.ceil(base + per_unit * units)

        return needed

    return {
        "mem_mb": amount(mb, more_mb, mb_of, lambda sizes: max(sizes, default=0)),
        "runtime": amount(minutes, more_minutes, minutes_of, sum),
    }
