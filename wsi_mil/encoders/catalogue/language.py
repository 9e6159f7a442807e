"""Image parts of vision-language encoders. Each fact is from the source that is named beside it.

CONCH v1: architecture, pooler, side of the input and normalisation from the authors' code (github.com/mahmoodlab/CONCH:
model_configs/conch_ViT-B-16.json, coca_model.py, vision_tower.py, factory.py); features before the projection, as the authors
advise for slides and TRIDENT and STAMP take them; licence and gating as public lists of encoders have them, not read on its card
(hf.co/MahmoodLab/CONCH); the commit is that which other public projects pin. The authors state no resolution: 0.5 µm × 512 px is
what those tools cut.

MUSK: architecture from the authors' code (github.com/lilab-stanford/MUSK: musk/modeling.py, musk/torchscale), whose blocks are
those of BEiT-3; class token without the head, 384 px and normalisation as in TRIDENT's and STAMP's extractors; licence and gating
as public lists of encoders have them, not read on its card (hf.co/xiangjx/musk); resolutions as slide2vec lists them. STAMP
concatenates a second scale (2,048 numbers).

KEEP: architecture, projection and normalisation from the authors' code (modeling_keep.py on hf.co/Astaxanthin/KEEP, and STAMP's
extractor); licence from its card. The authors state no resolution.
"""

from wsi_mil.encoders.record import HALVES, EncoderRecord

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

LANGUAGE = (
    EncoderRecord(
        name="conch",
        title="CONCH v1",
        architecture="vit_base_patch16_224",
        arguments={"img_size": 448},
        change="coca_pooler",
        pooling="own",
        dim=512,
        million_parameters=88,
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        input_px=448,
        resize_px=448,
        tile_px=512,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        repository="MahmoodLab/CONCH",
        revision="f9ca9f877171a28ade80228fb195ac5d79003357",
        files=("pytorch_model.bin",),
        tensor_names="coca",
        note="before the projection to the space of texts; its authors state no resolution",
    ),
    EncoderRecord(
        name="musk",
        title="MUSK",
        architecture="beit3_large_patch16_224",
        arguments={"img_size": 384, "global_pool": "token"},
        dim=1024,
        million_parameters=304,
        mean=HALVES,
        std=HALVES,
        input_px=384,
        resize_px=384,
        mpps=(0.5, 0.25, 1.0),
        tile_px=384,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        repository="xiangjx/musk",
        files=("model.safetensors",),
        tensor_names="beit3",
        note="class token of one scale, without the head; STAMP's 2,048 features add a second scale",
    ),
    EncoderRecord(
        name="keep",
        title="KEEP",
        architecture="vit_large_patch16_224",
        arguments={"init_values": 1e-5},
        change="projection",
        pooling="own",
        dim=768,
        million_parameters=305,
        mpps=(),
        licence="MIT",
        repository="Astaxanthin/KEEP",
        files=("model.safetensors", "pytorch_model.bin"),
        tensor_names="keep",
        note="projected to the space of texts and of length 1; its authors state no resolution",
    ),
)
