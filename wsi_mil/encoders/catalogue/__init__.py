"""Records of all built-in encoders by name. docs/add_an_encoder.md describes how to add one."""

from types import MappingProxyType

from wsi_mil.encoders.catalogue.converted import CONVERTED
from wsi_mil.encoders.catalogue.imagenet import DEFAULT_ENCODER as DEFAULT_ENCODER
from wsi_mil.encoders.catalogue.imagenet import IMAGENET
from wsi_mil.encoders.catalogue.language import LANGUAGE
from wsi_mil.encoders.catalogue.pathology import PATHOLOGY
from wsi_mil.encoders.record import EncoderRecord

RECORDS = MappingProxyType({record.name: record for record in (*IMAGENET, *PATHOLOGY, *CONVERTED, *LANGUAGE)})


def record_of(name: str) -> EncoderRecord | None:
    """Return the record of an encoder; None for names of timm and the Hub."""
    return RECORDS.get(name)
