"""Everything that wsi_mil raises on purpose.

WsiMilError
├─ ConfigError            the user's configuration or sheet; carries every fault found
├─ DataError              the data cannot be used; becomes a status in a receipt
│  ├─ SlideError          .path
│  │  ├─ SlideFormatError cannot be opened, or is not the slide it was
│  │  │  └─ UnknownFormatError the reader does not know such files
│  │  ├─ SlideReadError   opened, but these pixels cannot be read
│  │  ├─ SlideAccessError a server does not have it, or does not give it
│  │  └─ MissingMppError  no resolution; names the column that supplies it
│  ├─ AnnotationError     .path; not GeoJSON or ASAP XML with polygons
│  └─ MaskError           .path; not a tissue mask of this slide
├─ EmptyBagError          .slide_id; a bag without instances
├─ NotFiniteError         .bag; features or logits of a bag that are no numbers
├─ DivergedError          .epoch, .bag; training ran into a loss or weights that are no numbers
├─ ClusterError           a Dask cluster that does not answer, or whose workers die
├─ DeviceMemoryError      a device on which not even one tile can be encoded
├─ MissingFileError       .path; a fault of the machine or the sheet, so not a status
├─ UnreachableError       .path; a server that does not answer, so not a status
├─ UnknownNameError       a slide, method, … that the results do not have, asked for by a browser
├─ FeatureFileError       .path; another tool's features that cannot be taken over
└─ StoreError             .path
   ├─ IncompleteStoreError not all of its shards are on disk
   └─ StoreMismatchError  made from something else than what is asked for
"""

from pathlib import Path
from typing import Any


class WsiMilError(Exception):
    """Base of all errors below. They travel from one process to another, whatever they were made from."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(kind: type[WsiMilError], args: tuple[Any, ...], about: dict[str, Any]) -> WsiMilError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(about)
    return error


class ConfigError(WsiMilError, ValueError):
    """Faults of the user, all at once."""

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class DataError(WsiMilError):
    """A fault of the data: the run goes on without it, with its reason in a receipt."""


class _PathError(WsiMilError):
    def __init__(self, path: Path | str, reason: str):
        self.path = path
        super().__init__(f"{path}: {' '.join(reason.splitlines())}")


class SlideError(_PathError, DataError):
    """A slide that cannot be used."""


class SlideFormatError(SlideError):
    """A file that no reader opens."""


class UnknownFormatError(SlideFormatError):
    """A file of a kind that a reader does not know, so that another one's reason says more."""


class SlideReadError(SlideError, OSError):
    """A region whose pixels cannot be read."""


class SlideAccessError(SlideError):
    """A slide that its server does not have (404), or does not give to anybody with these credentials (403)."""


class MissingMppError(SlideError):
    """A slide that does not say its resolution."""

    def __init__(self, path: Path | str, found: str):
        super().__init__(
            path,
            f"no usable resolution ({found or 'the file says none'}); give its µm per pixel in the sheet's `mpp` column, or one"
            " for all such slides in slide.on_missing_mpp",
        )


class AnnotationError(_PathError, DataError):
    """An annotation file that cannot be read."""


class MaskError(_PathError, DataError):
    """A tissue mask of another tool that cannot be read, or that does not fit its slide."""


class MissingFileError(_PathError, FileNotFoundError):
    """A slide file that is not there: perhaps its disk is not, so it must not become a lasting status."""


class UnreachableError(_PathError, ConnectionError):
    """A server that does not answer, or not as it should: the network's fault or the credentials', and worth another try."""


class SilentServerError(UnreachableError):
    """A server that answers nothing, or nothing to these credentials: what else lies there is out of reach too."""


class FeatureFileError(_PathError):
    """A file of features that cannot be taken over, or whose scale nothing says."""


class ClusterError(WsiMilError):
    """A Dask cluster that cannot be worked with."""


class DeviceMemoryError(WsiMilError):
    """A device whose memory is too small, or taken."""

    def __init__(self, device: str, reason: str):
        said = next(iter(reason.splitlines()), "")
        super().__init__(
            f"{device}: not even one tile at a time fits into its memory; free it (does another job compute there?), or take"
            f" another device or a smaller encoder ({said})"
        )


class EmptyBagError(WsiMilError):
    """A bag without instances."""

    def __init__(self, slide_id: str):
        self.slide_id = slide_id
        super().__init__(
            f"{slide_id}: a bag without instances (no tile could be read); take it out of the sheet or extract again"
        )


class NotFiniteError(WsiMilError):
    """A bag whose features or logits are not finite."""

    def __init__(self, bag: str, *, features_are_finite: bool, tile: tuple[int, int, int] | None = None):
        """`tile`: row in the store, and level-0 x and y, of the first whose features are not finite."""
        self.bag, self.features_are_finite, self.tile = bag, features_are_finite, tile
        what = "what the model says of it is" if features_are_finite else "its features are"
        if tile is not None:
            what = f"the features of tile {tile[0]} at ({tile[1]}, {tile[2]}) are"
        mend = (
            "train the model again"
            if features_are_finite
            else "run `extract` again for it (stores hold float16, up to 65,504), or take it out of the sheet"
        )
        super().__init__(f"{bag}: {what} not finite; {mend}")


class DivergedError(WsiMilError):
    """Training whose loss is not finite."""

    def __init__(self, *, epoch: int, bag: str, features_are_finite: bool):
        self.epoch, self.bag = epoch, bag
        mend = (
            "a lower `lr`, or precision float32, may mend it"
            if features_are_finite
            else "its features are not finite: run `extract` again for it"
        )
        kept = f"The state after epoch {epoch - 1} is kept" if epoch > 1 else "Nothing was kept yet"
        super().__init__(f"the loss is not finite in epoch {epoch} on bag {bag!r}; {mend}. {kept}")


class UnknownNameError(WsiMilError, LookupError):
    """A name that nothing in a results folder has."""


class StoreError(_PathError):
    """A store that cannot be used."""


class IncompleteStoreError(StoreError):
    """A store that was never finished."""


class StoreMismatchError(StoreError):
    """A store or model made with other settings or from another slide."""
