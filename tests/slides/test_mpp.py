from pathlib import Path

import pytest

from wsi_mil.errors import MissingMppError
from wsi_mil.geometry import Mpp
from wsi_mil.slides import MppGuess, resolve_mpp

SLIDE = Path("a.tiff")
READER = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"}
VENDOR = {"aperio.MPP": "0.4"}
TAGS = {"tiff.XResolution": "20000", "tiff.YResolution": "25000", "tiff.ResolutionUnit": "centimeter"}
LENS = {"openslide.objective-power": "40"}
GUESS = MppGuess(from_objective=True, default=0.7)


@pytest.mark.parametrize(
    ("properties", "mpp_override", "guess", "mpp", "source"),
    [
        ({**READER, **VENDOR, **TAGS, **LENS}, Mpp(0.3, 0.3), GUESS, Mpp(0.3, 0.3), "sheet"),
        ({**READER, **VENDOR, **TAGS, **LENS}, None, GUESS, Mpp(0.25, 0.26), "openslide.mpp-x, openslide.mpp-y"),
        ({**VENDOR, **TAGS, **LENS}, None, GUESS, Mpp(0.4, 0.4), "aperio.MPP"),
        ({**TAGS, **LENS}, None, GUESS, Mpp(0.5, 0.4), "tiff.XResolution, tiff.YResolution"),
        (LENS, None, GUESS, Mpp(0.25, 0.25), "objective power 40"),
        ({}, None, GUESS, Mpp(0.7, 0.7), "slide.on_missing_mpp"),
    ],
)
def test_the_first_source_with_a_resolution_is_used(
    properties: dict[str, str], mpp_override: Mpp | None, guess: MppGuess, mpp: Mpp, source: str
) -> None:
    found = resolve_mpp(properties, SLIDE, mpp_override=mpp_override, guess=guess)
    assert (found.mpp.x, found.mpp.y) == pytest.approx((mpp.x, mpp.y)) and found.source == source


def test_the_objective_is_used_only_if_allowed() -> None:
    with pytest.raises(MissingMppError, match=r"`mpp` column.*slide\.on_missing_mpp"):
        resolve_mpp(LENS, SLIDE)


@pytest.mark.parametrize("nonsense", ["896.056", "0.001", "none", "nan", "inf", "-0.5", ""])
def test_a_nonsense_mpp_counts_as_missing(nonsense: str) -> None:
    properties = {"openslide.mpp-x": nonsense, "openslide.mpp-y": nonsense}
    with pytest.raises(MissingMppError, match="`mpp` column"):
        resolve_mpp(properties, SLIDE)
    assert resolve_mpp({**properties, **VENDOR}, SLIDE).source == "aperio.MPP"


def test_nonsense_along_one_axis_is_nonsense() -> None:
    with pytest.raises(MissingMppError, match=r"0\.25 × 896 µm"):
        resolve_mpp({"openslide.mpp-x": "0.25", "openslide.mpp-y": "896"}, SLIDE)


@pytest.mark.parametrize(
    ("properties", "mpp"),
    [
        ({"philips.DICOM_PIXEL_SPACING": '"0.00025" "0.0003"'}, (0.3, 0.25)),
        ({"dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0]": "0.00025",
          "dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[1]": "0.0003"}, (0.3, 0.25)),
        ({"mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X": "0.3",
          "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y": "0.25"}, (0.3, 0.25)),
        ({"ventana.ScanRes": "0.25"}, (0.25, 0.25)),
        ({"tiffslide.mpp-x": "0.3", "tiffslide.mpp-y": "0.25"}, (0.3, 0.25)),
        ({"tiff.XResolution": "84666.7", "tiff.YResolution": "101600", "tiff.ResolutionUnit": "inch"}, (0.3, 0.25)),
        ({"tiff.ImageDescription": '<OME><Pixels PhysicalSizeX="300" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25"/></OME>'},
         (0.3, 0.25)),
        ({"tiff.ImageDescription": '<OME><Pixels PhysicalSizeX="0.3" PhysicalSizeXUnit="&#181;m" PhysicalSizeY="0.25" '
          'PhysicalSizeYUnit="&#xB5;m"/></OME>'}, (0.3, 0.25)),
    ],
)  # fmt: skip
def test_every_vendors_property_is_read(properties: dict[str, str], mpp: tuple[float, float]) -> None:
    found = resolve_mpp(properties, SLIDE).mpp
    assert (found.x, found.y) == pytest.approx(mpp, rel=1e-5)


def test_disagreeing_sources_are_noted() -> None:
    notes = resolve_mpp({**READER, **VENDOR}, SLIDE, mpp_override=Mpp(0.27, 0.27)).notes
    assert len(notes) == 1 and "0.27 × 0.27 µm (sheet)" in notes[0] and "0.4 × 0.4 µm (aperio.MPP)" in notes[0]
