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


def nothing(wildcards, input):
    """Whatever a job reads, it takes the same."""
    return 0


NEEDS = {
    # rule: MB at least, more for each unit of what; minutes at least, more for each unit of what
    "tile": (300, 1, slide_mb, 5, 0.01, slide_mb),
    "extract": (6000, 0, nothing, 15, 1, thousand_tiles),
    "cohort": (500, 0.05, slides, 10, 0.01, slides),
    "split": (500, 0.05, slides, 10, 0.01, slides),
    "statistics": (1000, 0, nothing, 10, 0.05, slides),
    "train": (1500, 14, largest_bag_mb, 60, 0.5, slides),
    "predict": (1000, 8, largest_bag_mb, 15, 0.05, slides),
    "explain": (1000, 8, largest_bag_mb, 5, 0.1, largest_bag_mb),
    "explain_validation": (1000, 8, largest_bag_mb, 15, 0.1, slides),
    "heatmap_scale": (500, 0.5, slides, 10, 0.05, slides),
    "heatmap": (500, 0, nothing, 2, 0.05, slide_thousand_tiles),
    "evaluate": (500, 1, slides, 15, 0.1, slides),
    "report": (500, 5, slides, 15, 0.2, slides),
}


def needs(rule):
    """The `resources` of a rule's jobs; each further attempt asks for as much again."""
    mb, more_mb, mb_of, minutes, more_minutes, minutes_of = NEEDS[rule]

    def amount(least, more, size):
        return lambda wildcards, input, attempt: attempt * math.ceil(
            least + more * size(wildcards, input)
        )

    return {
        "mem_mb": amount(mb, more_mb, mb_of),
        "runtime": amount(minutes, more_minutes, minutes_of),
    }
