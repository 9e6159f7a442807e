import dataclasses
import re
from collections import Counter

import pytest
import torch

from wsi_mil.config import Encoder
from wsi_mil.encoders import RECORDS, EncoderRecord, feature_dim, name_faults
from wsi_mil.encoders.networks import build, create_network, with_pooling

EVERY = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)

PUBLISHED_BYTES = {
    "h0_mini": 342_974_184,
    "h_optimus_1": 4_539_151_464,
    "virchow": 2_524_960_072,
    "gigapath": 4_540_023_137,
}
"""Sizes of the weights files on the Hub, float32 and a few kilobytes of names."""

PUBLISHED_TENSORS = {"uni2_h": 343, "virchow": 454, "virchow2": 455, "h_optimus_0": 567}

PREFIX_TOKENS = {"uni": 1, "uni2_h": 9, "virchow": 1, "virchow2": 5, "h_optimus_0": 5, "h0_mini": 5, "gigapath": 1}
PREFIX_TOKENS |= {"kaiko_vitl14": 5, "hibou_b": 5, "hibou_l": 5, "midnight": 1, "phikon": 1, "phikon_v2": 1}
"""The class token and the registers, by the model cards."""


@EVERY
def test_a_record_is_built_as_large_as_published_and_gives_vectors_of_the_stated_length(record: EncoderRecord) -> None:
    with torch.device("meta"), torch.inference_mode():
        network = build(record)
        features = with_pooling(network, record).eval()(torch.empty(2, 3, record.input_px, record.input_px))
    n = sum(parameter.numel() for parameter in network.parameters())
    assert features.shape == (2, record.dim) == (2, feature_dim(Encoder(encoder=record.name)))
    assert round(n / 1e6) == record.million_parameters
    if record.name in PUBLISHED_BYTES:
        assert 0 < PUBLISHED_BYTES[record.name] - 4 * n < 250_000
    if record.name in PUBLISHED_TENSORS:
        assert len(network.state_dict()) == PUBLISHED_TENSORS[record.name]
    if record.name in PREFIX_TOKENS:
        assert network.num_prefix_tokens == PREFIX_TOKENS[record.name]


@EVERY
def test_a_record_has_what_a_user_needs(record: EncoderRecord) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", record.name) and record.licence and record.title
    assert not name_faults("e", record.name, "pretrained")
    assert len(record.mean) == len(record.std) == 3 and all(0 < value < 1 for value in (*record.mean, *record.std))
    assert record.resize_px >= record.input_px
    if record.hub is not None:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", record.repository) and record.hub.url.startswith(record.hub.page)
        assert record.revision is None or re.fullmatch(r"[0-9a-f]{40}", record.revision)


def test_records_of_the_same_weights_say_the_same_of_them() -> None:
    shared = [name for name, n in Counter(record.repository for record in RECORDS.values()).items() if n > 1]
    assert set(shared) == {"paige-ai/Virchow", "paige-ai/Virchow2", "bioptimus/H0-mini", "kaiko-ai/midnight"}
    for repository in shared:
        licences = {(r.licence, r.gated, r.revision, r.files) for r in RECORDS.values() if r.repository == repository}
        assert len(licences) == 1


def test_gated_records_are_those_that_the_hub_gates() -> None:
    open_to_all = {record.repository for record in RECORDS.values() if not record.gated}
    assert {name.partition("/")[0] for name in open_to_all if name} == {"timm", "1aurent", "owkin", "kaiko-ai", "Astaxanthin"}


def small(record: EncoderRecord, **arguments: int) -> EncoderRecord:
    """The record's vision transformer, one block deep and 48 wide: everything else is as it was."""
    sizes = {"embed_dim": 48, "depth": 1, "num_heads": 3, **arguments}
    return dataclasses.replace(record, arguments={**record.arguments, **sizes})


@pytest.mark.parametrize("name", PREFIX_TOKENS)
def test_tokens_are_pooled_as_in_the_model_card(name: str) -> None:
    record = small(RECORDS[name])
    torch.manual_seed(3)
    network = build(record).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        tokens, features = network.forward_features(images), with_pooling(network, record)(images)
    expected = tokens[:, 0]
    if record.pooling == "cls+mean":
        expected = torch.cat([expected, tokens[:, PREFIX_TOKENS[name] :].mean(1)], dim=1)
    assert torch.allclose(features, expected, atol=1e-6)


def test_images_are_preprocessed_as_in_the_record() -> None:
    network = create_network(Encoder(encoder="kaiko_vits16", weights="random"))
    assert (network.input_px, network.resize_px, network.interpolation) == (224, 224, "bilinear")
    assert network.mean == network.std == (0.5, 0.5, 0.5)
    assert (RECORDS["gigapath"].input_px, RECORDS["gigapath"].resize_px) == (224, 256)
    timm_name = create_network(Encoder(encoder="test_vit.r160_in1k", weights="random"))
    assert timm_name.input_px == timm_name.resize_px == 160


def test_random_weights_are_the_same_each_time() -> None:
    settings = Encoder(encoder="lunit_vits16_dino", weights="random")
    first, again = (create_network(settings).module.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_names_written_otherwise_come_with_the_record() -> None:
    for written, meant in {
        "UNI2-h": "uni2_h",
        "H-optimus-0": "h_optimus_0",
        "virchow_2": "virchow2",
        "GigaPath": "gigapath",
    }.items():
        (fault,) = name_faults("e", written, "random")
        assert fault == f"encoders.e.encoder: timm has no model {written!r}; did you mean {meant!r}?"
    (fault,) = name_faults("e", "ctranspth", "random")
    assert fault.endswith("did you mean 'ctranspath'?")
    (fault,) = name_faults("e", "no_such_thing_at_all", "random")
    assert len(fault) < 160
