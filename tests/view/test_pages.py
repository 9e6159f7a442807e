from dataclasses import replace

from tests.view.made import Results
from wsi_mil.geometry import Mpp
from wsi_mil.view.pages import slide_about
from wsi_mil.view.slide_images import Ground


def test_of_pixels_that_are_not_square_it_is_said_along_which_side_the_scale_bar_holds(made: Results) -> None:
    ground = Ground(dimensions=(700, 300), version="v", max_level=9, mpp=Mpp(0.5, 0.503), note="")
    assert slide_about(made.catalogue(), "s1", ground)["notes"] == []
    (note,) = slide_about(made.catalogue(), "s1", replace(ground, mpp=Mpp(0.5, 0.25)))["notes"]
    assert "0.5 µm wide and 0.25 µm high" in note and "from left to right only" in note
