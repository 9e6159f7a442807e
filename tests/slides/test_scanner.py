from pathlib import Path

import pytest

from wsi_mil.slides import open_slide
from wsi_mil.slides.scanner import scanner_of

PRIVATE = {"aperio.User": "b414003d", "ventana.UserName": "J. Doe", "leica.barcode": "S-1", "tiff.Artist": "J. Doe"}


@pytest.mark.parametrize(
    ("properties", "scanner"),
    [
        ({"aperio.ScanScope ID": "SS1302"}, "SS1302"),
        ({"hamamatsu.Product": "C13210", "hamamatsu.NDP.S/N": "000415", "tiff.Model": "C13210-01"}, "C13210 000415"),
        ({"tiff.Model": "C9600-02"}, "C9600-02"),
        ({"leica.device-model": "Leica SCN400;Leica SCN"}, "Leica SCN400;Leica SCN"),
        ({"ventana.ScannerModel": "VENTANA DP 200", "ventana.UnitNumber": "2000515"}, "VENTANA DP 200 2000515"),
        ({"philips.DICOM_MANUFACTURERS_MODEL_NAME": '"UFS Scanner"'}, "UFS Scanner"),
        ({"dicom.ManufacturerModelName": "GT450\n", "dicom.DeviceSerialNumber": "7\x00"}, "GT450 7"),
        ({"tiff.Model": "x" * 99}, "x" * 64),
        ({}, ""),
    ],
)
def test_the_scanner_is_model_and_serial_number_and_nothing_personal(properties: dict[str, str], scanner: str) -> None:
    assert scanner_of({**PRIVATE, **properties}) == scanner


def test_a_real_file_has_its_scanner(shared_slides: Path) -> None:
    with open_slide(shared_slides / "CMU-1-Small-Region.svs") as slide:
        assert (slide.vendor, slide.scanner) == ("aperio", "CPAPERIOCS")
