"""Pathology encoders whose weights are published under timm's tensor names."""

from dataclasses import replace

from wsi_mil.encoders.record import HALVES, SWIGLU, EncoderRecord

CC_BY_NC_ND = "CC-BY-NC-ND-4.0"
KAIKO_LICENCE = "Kaiko non-commercial"
LUNIT_LICENCE = "Lunit non-commercial"
OPTIMUS_MEAN, OPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
LUNIT_MEAN, LUNIT_STD = (0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464)

UNI = EncoderRecord(
    name="uni",
    title="UNI",
    architecture="vit_large_patch16_224",
    arguments={"init_values": 1e-5},
    dim=1024,
    million_parameters=303,
    interpolation="bilinear",
    licence=CC_BY_NC_ND,
    gated=True,
    repository="MahmoodLab/uni",
    revision="b55a5ec6cade1a39edfe6534189a9b8ca7a022f0",
    files=("pytorch_model.bin", "model.safetensors"),
)

UNI2_H = EncoderRecord(
    name="uni2_h",
    title="UNI2-h",
    architecture="vit_giant_patch14_224",
    arguments={
        "img_size": 224,
        "embed_dim": 1536,
        "depth": 24,
        "num_heads": 24,
        "mlp_ratio": 5.33334,
        "init_values": 1e-5,
        "reg_tokens": 8,
        "no_embed_class": True,
        **SWIGLU,
    },
    dim=1536,
    million_parameters=681,
    interpolation="bilinear",
    licence=CC_BY_NC_ND,
    gated=True,
    repository="MahmoodLab/UNI2-h",
    revision="d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
    files=("pytorch_model.bin", "model.safetensors"),
)

VIRCHOW = EncoderRecord(
    name="virchow",
    title="Virchow",
    architecture="vit_huge_patch14_224",
    arguments={"img_size": 224, "mlp_ratio": 5.3375, "init_values": 1e-5, **SWIGLU},
    pooling="cls+mean",
    dim=2560,
    million_parameters=631,
    licence="Apache-2.0",
    gated=True,
    repository="paige-ai/Virchow",
    revision="19eebc84ae33e79f1b2d866e6ff90ae50e522f9a",
)

VIRCHOW2 = replace(
    VIRCHOW,
    name="virchow2",
    title="Virchow2",
    arguments={**VIRCHOW.arguments, "reg_tokens": 4},
    mpps=(0.5, 0.25, 1.0, 2.0),
    licence=CC_BY_NC_ND,
    repository="paige-ai/Virchow2",
    revision="3158645804b69e3f3bc4439d4116edddf0840a72",
)

H_OPTIMUS_0 = EncoderRecord(
    name="h_optimus_0",
    title="H-optimus-0",
    architecture="vit_giant_patch14_reg4_dinov2",
    arguments={"img_size": 224},
    dim=1536,
    million_parameters=1135,
    mean=OPTIMUS_MEAN,
    std=OPTIMUS_STD,
    licence="Apache-2.0",
    gated=True,
    repository="bioptimus/H-optimus-0",
    revision="b145cc1e6c6b30d3251aa8b1f844e6974188a743",
    files=("pytorch_model.bin", "model.safetensors"),
)

H0_MINI = EncoderRecord(
    name="h0_mini",
    title="H0-mini",
    architecture="vit_base_patch14_reg4_dinov2",
    arguments={"img_size": 224, "mlp_ratio": 5.33334, **SWIGLU},
    dim=768,
    million_parameters=86,
    mean=OPTIMUS_MEAN,
    std=OPTIMUS_STD,
    licence=CC_BY_NC_ND,
    gated=True,
    repository="bioptimus/H0-mini",
    revision="5b5cc0505d19ae558270045eb0df8c34df4d9609",
)

KAIKO_VITS16 = EncoderRecord(
    name="kaiko_vits16",
    title="Kaiko ViT-S/16",
    architecture="vit_small_patch16_224",
    dim=384,
    million_parameters=22,
    mean=HALVES,
    std=HALVES,
    interpolation="bilinear",
    licence=KAIKO_LICENCE,
    repository="1aurent/vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms",
)

LUNIT_VITS16 = EncoderRecord(
    name="lunit_vits16_dino",
    title="Lunit DINO ViT-S/16",
    architecture="vit_small_patch16_224",
    dim=384,
    million_parameters=22,
    mean=LUNIT_MEAN,
    std=LUNIT_STD,
    mpps=(0.5, 0.25),
    licence=LUNIT_LICENCE,
    repository="1aurent/vit_small_patch16_224.lunit_dino",
    revision="9ed09909d93f9d39a092d8e49717ae48f9b44e6f",
    note="mean and std are those of its training as kaiko's eva gives them, not timm's defaults in the Hub's configuration",
)

PATHOLOGY = (
    UNI,
    UNI2_H,
    VIRCHOW,
    replace(VIRCHOW, name="virchow_cls", title="Virchow, class token", pooling="cls", dim=1280),
    VIRCHOW2,
    replace(VIRCHOW2, name="virchow2_cls", title="Virchow2, class token", pooling="cls", dim=1280),
    H_OPTIMUS_0,
    replace(
        H_OPTIMUS_0,
        name="h_optimus_1",
        title="H-optimus-1",
        licence=CC_BY_NC_ND,
        repository="bioptimus/H-optimus-1",
        revision="3592cb220dec7a150c5d7813fb56e68bd57473b9",
        files=("model.safetensors", "pytorch_model.bin"),
    ),
    H0_MINI,
    replace(H0_MINI, name="h0_mini_cls_mean", title="H0-mini, class token and mean", pooling="cls+mean", dim=1536),
    EncoderRecord(
        name="gigapath",
        title="Prov-GigaPath, tile encoder",
        architecture="vit_giant_patch14_dinov2",
        arguments={"img_size": 224, "patch_size": 16},
        dim=1536,
        million_parameters=1135,
        resize_px=256,
        tile_px=256,
        licence="Apache-2.0",
        gated=True,
        repository="prov-gigapath/prov-gigapath",
        revision="64f9e26c15019f2d4f6d9113c6822f88bb16b01b",
        files=("pytorch_model.bin",),
        note="tiles are resized to 256 px and the middle 224 are seen; its card allows research only",
    ),
    KAIKO_VITS16,
    replace(
        KAIKO_VITS16,
        name="kaiko_vits8",
        title="Kaiko ViT-S/8",
        architecture="vit_small_patch8_224",
        repository="1aurent/vit_small_patch8_224.kaiko_ai_towards_large_pathology_fms",
    ),
    replace(
        KAIKO_VITS16,
        name="kaiko_vitb16",
        title="Kaiko ViT-B/16",
        architecture="vit_base_patch16_224",
        dim=768,
        million_parameters=86,
        repository="1aurent/vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms",
    ),
    replace(
        KAIKO_VITS16,
        name="kaiko_vitb8",
        title="Kaiko ViT-B/8",
        architecture="vit_base_patch8_224",
        dim=768,
        million_parameters=86,
        repository="1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms",
    ),
    replace(
        KAIKO_VITS16,
        name="kaiko_vitl14",
        title="Kaiko ViT-L/14",
        architecture="vit_large_patch14_reg4_dinov2",
        arguments={"img_size": 518, "dynamic_img_size": True},
        dim=1024,
        million_parameters=304,
        repository="1aurent/vit_large_patch14_reg4_224.kaiko_ai_towards_large_pathology_fms",
        revision="fb802e347d2c59f05207b70ad75f7df30019c188",
        note="positions are stored for 518 px and resampled to 224",
    ),
    LUNIT_VITS16,
    replace(
        LUNIT_VITS16,
        name="lunit_vits8_dino",
        title="Lunit DINO ViT-S/8",
        architecture="vit_small_patch8_224",
        repository="1aurent/vit_small_patch8_224.lunit_dino",
        revision="c23bc01cfbe022bc1f2a8a9306125a07818e4eb4",
    ),
)
