from pathlib import Path

import pytest
import torch

from tests.test_extract import SETTINGS
from tests.test_store import tree
from wsi_mil.config import Encoder
from wsi_mil.errors import WsiMilError
from wsi_mil.extractor import Extractor
from wsi_mil.receipts import read_receipt
from wsi_mil.records import SlideRow, Status
from wsi_mil.tile import tile_slide


def extracted(tmp_path: Path, slide: Path, *, dtype: str, device: str = "cpu") -> dict[str, object]:
    """Run the stage on a slide with an extractor of its own; return the receipt."""
    tiles, receipt = tmp_path / "tiles" / "s.json", tmp_path / "features" / "s.json"
    if not tiles.is_file():
        tile_slide(SlideRow("s", slide), SETTINGS, tiles)
    settings = Encoder(encoder="test_efficientnet", weights="random", dtype=dtype, batch_size=16)
    assert Extractor(settings, device=device, threads=1).extract(tiles, SlideRow("s", slide), receipt) is Status.OK
    return read_receipt(receipt)


def test_auto_is_the_number_format_that_torch_chooses(slide: Path, tmp_path: Path) -> None:
    from wsi_mil.devices import fast_dtype

    assert extracted(tmp_path, slide, dtype="auto")["dtype"] == str(fast_dtype("auto", torch.device("cpu"))).split(".")[1]


def test_finished_features_stay_if_the_machine_is_wrong_about_its_number_format(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a GPU that torch cannot use: torch, which is asked then, says what the features have."""
    first = extracted(tmp_path, slide, dtype="auto")
    before = tree(tmp_path / "features")
    other = {"float32": "bfloat16", "bfloat16": "float32"}[str(first["dtype"])]
    monkeypatch.setattr("wsi_mil.runtime.hardware.cpu_format", lambda: other)
    slide.unlink()  # whatever encodes must read it
    assert extracted(tmp_path, slide, dtype="auto") == first and tree(tmp_path / "features") == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_matters_only_while_tiles_are_left_to_encode(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(WsiMilError, match="sees no CUDA device here"):
        extracted(tmp_path, slide, dtype="float32", device="cuda")
    first = extracted(tmp_path, slide, dtype="float32")
    assert extracted(tmp_path, slide, dtype="float32", device="cuda") == first
