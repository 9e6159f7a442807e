"""Everything that wsi_mil raises on purpose.

WsiMilError
├─ ConfigError            the user's configuration or sheet; carries every fault found
├─ DataError              the data cannot be used; becomes a status in a receipt
│  ├─ SlideError          .path
│  │  ├─ SlideFormatError cannot be opened, or is not the slide it was
│  │  ├─ SlideReadError   opened, but these pixels cannot be read
│  │  └─ MissingMppError  no resolution; names the column that supplies it
│  └─ AnnotationError     .path; not GeoJSON or ASAP XML with polygons
├─ MissingFileError       .path; a fault of the machine or the sheet, so not a status
└─ StoreError             .path
   ├─ IncompleteStoreError not all of its shards are on disk
   └─ StoreMismatchError  made from something else than what is asked for
"""

from pathlib import Path


class WsiMilError(Exception):
    """Base of all errors below."""


class ConfigError(WsiMilError, ValueError):
    """Faults of the user, all at once."""

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class DataError(WsiMilError):
    """A fault of the data: the run goes on without it, with its reason in a receipt."""


class _PathError(WsiMilError):
    def __init__(self, path: Path, reason: str):
        self.path = path
        super().__init__(f"{path}: {reason}")


class SlideError(_PathError, DataError):
    """A slide that cannot be used."""


class SlideFormatError(SlideError):
    """A file that no reader opens."""


class SlideReadError(SlideError, OSError):
    """A region whose pixels cannot be read."""


class MissingMppError(SlideError):
    """A slide that does not say its resolution."""

    def __init__(self, path: Path, found: str):
        super().__init__(path, f"no usable resolution ({found}); give its µm per pixel in the sheet's `mpp` column")


class AnnotationError(_PathError, DataError):
    """An annotation file that cannot be read."""


class MissingFileError(_PathError, FileNotFoundError):
    """A slide file that is not there: perhaps its disk is not, so it must not become a lasting status."""


class StoreError(_PathError):
    """A store that cannot be used."""


class IncompleteStoreError(StoreError):
    """A store that was never finished."""


class StoreMismatchError(StoreError):
    """A store or model made with other settings or from another slide."""
