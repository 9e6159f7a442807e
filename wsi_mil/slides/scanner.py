"""Which scanner made a slide, as far as its file says so: the device only, never who used it, when, or for whom."""

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
"""Properties that name the model, and the single device: two of one model can differ as two models do."""

LONGEST = 64
"""Letters that are kept."""


def scanner_of(properties: Mapping[str, str]) -> str:
    """Model and serial number, or one of them, or ""."""
    parts = (next((text for name in names if (text := _clean(properties.get(name, "")))), "") for names in (MODELS, SERIALS))
    return " ".join(part for part in parts if part)[:LONGEST].strip()


def _clean(text: str) -> str:
    """Without quotation marks (Philips) and letters that cannot be shown."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).replace('"', " ").split())
