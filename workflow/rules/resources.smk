# Memory and time that jobs ask for, by the size of what they read. The numbers are measured: docs/cluster.md.
# Nothing here is part of a result, and nothing runs again when it is changed.
import math
from functools import lru_cache


@lru_cache(maxsize=None)
def tiles_and_width(receipt):
    """Of a slide's tiles or features: how many, and the length of each (0 of tiles); none where the slide is not ok."""
    content = json.loads(Path(receipt).read_text(encoding="utf-8"))
    return content.get("n_tiles") or 0, content.get("dim") or 0


def slide_mb(wildcards, input):
    """Of the slide file, MB."""
    return sum(Path(path).stat().st_size for path in input) / 1e6


def thousand_tiles(wildcards, input):
    """Of all slides of a job."""
    return sum(tiles_and_width(path)[0] for path in input) / 1000


def largest_bag_mb(wildcards, input):
    """The features of the largest slide in float32, MB; unknown while the cohort's status stands in for them."""
    receipts = [] if isinstance(input.features, str) else input.features
    sizes = [math.prod(tiles_and_width(path)) for path in receipts]
    return 4 * max(sizes, default=0) / 1e6


def slide_thousand_tiles(wildcards, input):
    """Of the slide that a heatmap shows; its tiles are no input."""
    receipt = Path(tile_receipt(wildcards))
    return tiles_and_width(receipt)[0] / 1000 if receipt.exists() else 0


def slides(wildcards, input):
    """In the sheet."""
    return len(SLIDES)


NEEDS = {
    # rule: MB, minutes; more for each unit of: MB, minutes
    "tile": (400, 5, slide_mb, 1.5, 0.01),
    "extract": (6000, 15, thousand_tiles, 0, 1),
    "cohort": (500, 10, slides, 0.05, 0.01),
    "split": (500, 10, slides, 0.05, 0.01),
    "statistics": (1000, 10, slides, 0, 0.05),
    "train": (1500, 30, largest_bag_mb, 14, 0.5),
    "predict": (1500, 15, largest_bag_mb, 14, 0.1),
    "explain": (1500, 5, largest_bag_mb, 14, 0.1),
    "explain_validation": (1500, 15, largest_bag_mb, 14, 0.5),
    "heatmap_scale": (500, 10, slides, 0.5, 0.05),
    "heatmap": (500, 2, slide_thousand_tiles, 10, 0.1),
    "evaluate": (1000, 15, slides, 1, 0.1),
    "report": (1000, 15, slides, 5, 0.2),
}


def needs(rule):
    """The `resources` of a rule's jobs; each further attempt asks for as much again."""
    mb, minutes, size, more_mb, more_minutes = NEEDS[rule]

    def amount(base, more):
        return lambda wildcards, input, attempt: attempt * math.ceil(
            base + more * size(wildcards, input)
        )

    return {"mem_mb": amount(mb, more_mb), "runtime": amount(minutes, more_minutes)}
