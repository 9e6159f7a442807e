"""One door to every slide: `open_slide`."""

from wsi_mil.slides.content import slide_hash as slide_hash
from wsi_mil.slides.door import open_slide as open_slide
from wsi_mil.slides.mpp import resolve_mpp as resolve_mpp
from wsi_mil.slides.slide import Slide as Slide
