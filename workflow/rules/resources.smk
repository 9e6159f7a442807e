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
    """Size of the slide file, MB."""
    return sum(Path(path).stat().st_size for path in input) / 1e6


def thousand_tiles(wildcards, input):
    """Thousands of tiles of all slides of a job."""
    return sum(tiles_and_width(path)[0] for path in input) / 1000


def largest_bag_mb(wildcards, input):
    """Size of the features of the largest slide in float32, MB; 0 until the checkpoint `cohort` has run."""
    receipts = [] if isinstance(input.features, str) else input.features
    sizes = [math.prod(tiles_and_width(path)) for path in receipts]
    return 4 * max(sizes, default=0) / 1e6


def slide_thousand_tiles(wildcards, input):
    """Thousands of tiles of the slide of a heatmap, whose receipt is not among the inputs."""
    receipt = Path(tile_receipt(wildcards))
    return tiles_and_width(receipt)[0] / 1000 if receipt.exists() else 0


def slides(wildcards, input):
    """Number of slides in the sheet."""
    return len(SLIDES)


def constant(wildcards, input):
    """Size for jobs whose needs do not depend on their input."""
    return 0


NEEDS = {
    # rule: base MB, MB per unit, unit; base minutes, minutes per unit, unit
    "tile": (300, 1, slide_mb, 5, 0.01, slide_mb),
    "extract": (6000, 0, constant, 15, 1, thousand_tiles),
    "cohort": (500, 0.05, slides, 10, 0.01, slides),
    "split": (500, 0.05, slides, 10, 0.01, slides),
    "statistics": (1000, 0, constant, 10, 0.05, slides),
    "train": (1500, 14, largest_bag_mb, 60, 0.5, slides),
    "predict": (1000, 8, largest_bag_mb, 15, 0.05, slides),
    "explain": (1000, 8, largest_bag_mb, 5, 0.1, largest_bag_mb),
    "explain_validation": (1000, 8, largest_bag_mb, 15, 0.1, slides),
    "heatmap_scale": (500, 0.5, slides, 10, 0.05, slides),
    "heatmap": (500, 0, constant, 2, 0.05, slide_thousand_tiles),
    "evaluate": (500, 1, slides, 15, 0.1, slides),
    "report": (500, 5, slides, 15, 0.2, slides),
}


def needs(rule):
    """The `resources` of a rule's jobs; the n-th attempt requests n times as much."""
    mb, more_mb, mb_of, minutes, more_minutes, minutes_of = NEEDS[rule]

    def amount(base, per_unit, size):
        return lambda wildcards, input, attempt: attempt * math.ceil(
            base + per_unit * size(wildcards, input)
        )

    return {
        "mem_mb": amount(mb, more_mb, mb_of),
        "runtime": amount(minutes, more_minutes, minutes_of),
    }
