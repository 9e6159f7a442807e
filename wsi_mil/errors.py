"""Exceptions of wsi_mil.

WsiMilError
├─ ConfigError            the user's configuration or sheet; carries all faults
├─ DataError              unusable data; becomes a status in a receipt
│  ├─ SlideError          .path
│  │  ├─ SlideFormatError cannot be opened, or has changed
│  │  │  └─ UnknownFormatError a format that the reader does not know
│  │  ├─ SlideReadError   opened, but pixels cannot be read
│  │  ├─ SlideAccessError a server does not have it, or denies access
│  │  └─ MissingMppError  no resolution; names the column for it
│  ├─ AnnotationError     .path; not GeoJSON or ASAP XML with polygons
│  └─ MaskError           .path; not a tissue mask of this slide
├─ EmptyBagError          .slide_id; a bag without instances
├─ NotFiniteError         .bag; features or logits of a bag that are not finite
├─ DivergedError          .epoch, .bag; training reached a loss or weights that are not finite
├─ ClusterError           a Dask cluster that does not answer, or whose workers died
├─ DeviceMemoryError      a device that cannot encode even one tile
├─ MissingFileError       .path; a fault of the machine or the sheet, so no status
├─ UnreachableError       .path; a server that does not answer, so no status
├─ UnknownNameError       a slide, method, … requested by a browser that the results do not have
├─ FeatureFileError       .path; another tool's features that cannot be imported
└─ StoreError             .path
   ├─ IncompleteStoreError not all of its shards are on disk
   └─ StoreMismatchError  made with other settings, or from another slide
"""

import errno
from pathlib import Path
from typing import Any

CANNOT_WRITE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
}
"""Faults of the machine that are reported without a traceback."""


class WsiMilError(Exception):
    """Base of all exceptions of wsi_mil. They can be pickled, whatever the arguments of their constructor."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[WsiMilError], args: tuple[Any, ...], attributes: dict[str, Any]) -> WsiMilError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigError(WsiMilError, ValueError):
    """All faults of the user's configuration or sheet."""

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class DataError(WsiMilError):
    """Unusable data: the run continues without them, and a receipt has the reason."""


class _PathError(WsiMilError):
    def __init__(self, path: Path | str, reason: str):
        self.path = path
        super().__init__(f"{path}: {' '.join(reason.splitlines())}")


class SlideError(_PathError, DataError):
    """A slide that cannot be used."""


class SlideFormatError(SlideError):
    """A file that no reader opens."""


class UnknownFormatError(SlideFormatError):
    """A file of a format that the reader does not know, so that another reader's reason is more specific."""


class SlideReadError(SlideError, OSError):
    """A region whose pixels cannot be read."""


class SlideAccessError(SlideError):
    """A slide that its server does not have (404), or to which it denies access (403)."""


class MissingMppError(SlideError):
    """A slide without a usable resolution."""

    def __init__(self, path: Path | str, values: str):
        super().__init__(
            path,
            f"no usable resolution ({values or 'the file has none'}); give its µm per pixel in the sheet's `mpp` column, or one"
            " for all such slides in slide.on_missing_mpp",
        )


class AnnotationError(_PathError, DataError):
    """An annotation file that cannot be read."""


class MaskError(_PathError, DataError):
    """A tissue mask of another tool that cannot be read, or that does not fit its slide."""


class MissingFileError(_PathError, FileNotFoundError):
    """A missing slide file: its disk may be unmounted, so it must not become a lasting status."""


class UnreachableError(_PathError, ConnectionError):
    """A server that does not answer, or with an error: a fault of network or credentials, worth a retry."""


class SilentServerError(UnreachableError):
    """A server that does not answer at all, or not to these credentials: all its slides are unreachable."""


class FeatureFileError(_PathError):
    """A file of features that cannot be imported, or whose scale is unknown."""


class ClusterError(WsiMilError):
    """A Dask cluster that cannot be used."""


class DeviceMemoryError(WsiMilError):
    """A device with too little free memory."""

    def __init__(self, device: str, reason: str):
        first_line = next(iter(reason.splitlines()), "")
        super().__init__(
            f"{device}: not even one tile at a time fits into its memory; free memory (does another job use it?), or use"
            f" another device or a smaller encoder ({first_line})"
        )


class EmptyBagError(WsiMilError):
    """A bag without instances."""

    def __init__(self, slide_id: str):
        self.slide_id = slide_id
        super().__init__(
            f"{slide_id}: a bag without instances (no tile could be read); remove it from the sheet, or run `extract` again"
        )


class NotFiniteError(WsiMilError):
    """A bag whose features or logits are not finite."""

    def __init__(self, bag: str, *, features_are_finite: bool, tile: tuple[int, int, int] | None = None):
        """Create the error; `tile` is the row in the store and the level-0 (x, y) of the first tile that is not finite."""
        self.bag = bag
        self.features_are_finite = features_are_finite
        self.tile = tile
        what = "the model's logits are" if features_are_finite else "its features are"
        if tile is not None:
            what = f"the features of tile {tile[0]} at ({tile[1]}, {tile[2]}) are"
        hint = (
            "train the model again"
            if features_are_finite
            else "run `extract` again for it (stores hold float16, up to 65,504), or remove it from the sheet"
        )
        super().__init__(f"{bag}: {what} not finite; {hint}")


class DivergedError(WsiMilError):
    """Training with a loss that is not finite."""

    def __init__(self, *, epoch: int, bag: str, features_are_finite: bool):
        self.epoch = epoch
        self.bag = bag
        hint = (
            "try a lower `lr`, or precision float32"
            if features_are_finite
            else "its features are not finite: run `extract` again for it"
        )
        kept = f"The state after epoch {epoch - 1} is kept" if epoch > 1 else "Nothing was kept yet"
        super().__init__(f"the loss is not finite in epoch {epoch} on bag {bag!r}; {hint}. {kept}")


class UnknownNameError(WsiMilError, LookupError):
    """A name that does not exist in a results folder."""


class StoreError(_PathError):
    """A store that cannot be used."""


class IncompleteStoreError(StoreError):
    """A store that was never finished."""


class StoreMismatchError(StoreError):
    """A store or model made with other settings or from another slide."""
