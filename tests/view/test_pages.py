from dataclasses import replace

from tests.view.made import Results
from wsi_mil.geometry import Mpp
from wsi_mil.view.pages import slide_json
from wsi_mil.view.slide_images import SlideImage


def test_a_note_says_that_the_scale_bar_is_horizontal_if_pixels_are_not_square(made: Results) -> None:
    image = SlideImage(dimensions=(700, 300), version="v", max_level=9, mpp=Mpp(0.5, 0.503), note="")
    assert slide_json(made.catalogue(), "s1", image)["notes"] == []
    (note,) = slide_json(made.catalogue(), "s1", replace(image, mpp=Mpp(0.5, 0.25)))["notes"]
    assert "0.5 µm wide and 0.25 µm high" in note and "valid horizontally only" in note
