"""Whole-slide multiple instance learning: learn a slide's label, show where the evidence is.

The names in `__all__` are the public interface (docs/api.md). Each is imported when it is first used, so that
`import wsi_mil` and light commands load neither torch nor numpy.
"""

from wsi_mil.version import __version__ as __version__

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` for it would be nine tenths of `import wsi_mil`

if TYPE_CHECKING:
    from wsi_mil.bags import BagSet as BagSet
    from wsi_mil.bags import LabelledBag as LabelledBag
    from wsi_mil.checkpoints import read_checkpoint as read_checkpoint
    from wsi_mil.config import Encoder as Encoder
    from wsi_mil.config import Heatmap as Heatmap
    from wsi_mil.config import SparseInversion as SparseInversion
    from wsi_mil.config import TileSettings as TileSettings
    from wsi_mil.config import Tiling as Tiling
    from wsi_mil.config import Tissue as Tissue
    from wsi_mil.config import Training as Training
    from wsi_mil.errors import ConfigError as ConfigError
    from wsi_mil.errors import DataError as DataError
    from wsi_mil.errors import SlideError as SlideError
    from wsi_mil.errors import WsiMilError as WsiMilError
    from wsi_mil.explain.sparse_inversion import refine as refine
    from wsi_mil.models import ABMIL as ABMIL
    from wsi_mil.models import CLAM as CLAM
    from wsi_mil.models import DSMIL as DSMIL
    from wsi_mil.models import DTFD as DTFD
    from wsi_mil.models import MHIM as MHIM
    from wsi_mil.models import EmbeddingPool as EmbeddingPool
    from wsi_mil.models import InstancePool as InstancePool
    from wsi_mil.models import KrausPool as KrausPool
    from wsi_mil.models import MeanLinear as MeanLinear
    from wsi_mil.models import MILModel as MILModel
    from wsi_mil.models import MILOutput as MILOutput
    from wsi_mil.models import TransMIL as TransMIL
    from wsi_mil.models import create_mhim as create_mhim
    from wsi_mil.notebook import class_probs as class_probs
    from wsi_mil.notebook import draw_scores as draw_scores
    from wsi_mil.notebook import encoded_slide as encoded_slide
    from wsi_mil.notebook import fitted_for as fitted_for
    from wsi_mil.notebook import fitted_model as fitted_model
    from wsi_mil.notebook import tile_scores as tile_scores
    from wsi_mil.records import Bag as Bag
    from wsi_mil.records import InstanceScores as InstanceScores
    from wsi_mil.records import SlideRow as SlideRow
    from wsi_mil.records import Status as Status
    from wsi_mil.records import TileGrid as TileGrid
    from wsi_mil.slides import Slide as Slide
    from wsi_mil.slides import open_slide as open_slide
    from wsi_mil.slides import read_tiles as read_tiles
    from wsi_mil.store import read_bag as read_bag
    from wsi_mil.store import read_grid as read_grid
    from wsi_mil.store import read_scores as read_scores
    from wsi_mil.tasks import Classes as Classes
    from wsi_mil.tasks import Multilabel as Multilabel
    from wsi_mil.tasks import Regression as Regression
    from wsi_mil.tasks import Survival as Survival
    from wsi_mil.tile import tile_slide as tile_slide
    from wsi_mil.train import fit as fit
    from wsi_mil.train import predict_outputs as predict_outputs


_HOMES = {
    "bags": ("BagSet", "LabelledBag"),
    "checkpoints": ("read_checkpoint",),
    "config": ("Encoder", "Heatmap", "SparseInversion", "TileSettings", "Tiling", "Tissue", "Training"),
    "errors": ("ConfigError", "DataError", "SlideError", "WsiMilError"),
    "explain.sparse_inversion": ("refine",),
    "models": (
        *("ABMIL", "CLAM", "DSMIL", "DTFD", "MHIM", "EmbeddingPool", "InstancePool", "KrausPool", "MeanLinear", "MILModel"),
        *("MILOutput", "TransMIL", "create_mhim"),
    ),
    "notebook": ("class_probs", "draw_scores", "encoded_slide", "fitted_for", "fitted_model", "tile_scores"),
    "records": ("Bag", "InstanceScores", "SlideRow", "Status", "TileGrid"),
    "slides": ("Slide", "open_slide", "read_tiles"),
    "store": ("read_bag", "read_grid", "read_scores"),
    "tasks": ("Classes", "Multilabel", "Regression", "Survival"),
    "tile": ("tile_slide",),
    "train": ("fit", "predict_outputs"),
}
"""Module → public names in it; the imports above say the same to type checkers, and a test compares them."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_MODULE_OF)


if not TYPE_CHECKING:  # or a type checker would take every name for one of the package

    def __getattr__(name: str) -> object:
        """Import a public name from its module when it is first used."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names too, imported or not."""
    return sorted({*globals(), *__all__})
