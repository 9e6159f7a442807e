from pathlib import Path

import pytest

from wsi_mil.demo.synthesis import Texture
from wsi_mil.demo.texture import read_texture, texture_path
from wsi_mil.errors import DataError


@pytest.fixture(scope="session")
def texture_slide() -> Path:
    """CMU-1-Small-Region.svs, 2220x2967, 0.499 µm/px."""
    try:
        return texture_path(None)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def texture(texture_slide: Path) -> Texture:
    return read_texture(texture_slide)
