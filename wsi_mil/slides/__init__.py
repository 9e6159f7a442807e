"""Open and read whole-slide images of any supported format with `open_slide`."""

from wsi_mil.slides.hashing import is_same_slide as is_same_slide
from wsi_mil.slides.hashing import slide_exists as slide_exists
from wsi_mil.slides.hashing import slide_hash as slide_hash
from wsi_mil.slides.mpp import MppGuess as MppGuess
from wsi_mil.slides.mpp import objective_power as objective_power
from wsi_mil.slides.mpp import resolve_mpp as resolve_mpp
from wsi_mil.slides.opening import open_slide as open_slide
from wsi_mil.slides.reading import TileBatch as TileBatch
from wsi_mil.slides.reading import read_tiles as read_tiles
from wsi_mil.slides.remote import remote_object as remote_object
from wsi_mil.slides.resample import resampled as resampled
from wsi_mil.slides.slide import MAX_UNREADABLE as MAX_UNREADABLE
from wsi_mil.slides.slide import Overview as Overview
from wsi_mil.slides.slide import Slide as Slide
from wsi_mil.slides.staging import is_read_in_place as is_read_in_place
from wsi_mil.slides.staging import remove_copies as remove_copies
from wsi_mil.slides.staging import scratch_folder as scratch_folder
