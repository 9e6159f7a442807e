"""Scanner of a slide by its file's properties: the device only, never the operator, the time or the patient."""

from collections.abc import Mapping

MODELS = (
    "dicom.ManufacturerModelName",
    "hamamatsu.Product",
    "leica.device-model",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "ventana.ScannerModel",
    "tiff.Model",
)
SERIALS = (
    "aperio.ScanScope ID",
    "dicom.DeviceSerialNumber",
    "hamamatsu.NDP.S/N",
    "philips.DICOM_DEVICE_SERIAL_NUMBER",
    "ventana.UnitNumber",
)
"""Properties with the model and the serial number; two devices of one model can differ as much as two models."""

LONGEST = 64
"""Largest number of characters kept."""


def scanner_of(properties: Mapping[str, str]) -> str:
    """Return the model and serial number of the scanner, either of them, or ""."""
    parts = (next((text for name in names if (text := _clean(properties.get(name, "")))), "") for names in (MODELS, SERIALS))
    return " ".join(part for part in parts if part)[:LONGEST].strip()


def _clean(text: str) -> str:
    """Text without quotation marks (Philips) and unprintable characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).replace('"', " ").split())
