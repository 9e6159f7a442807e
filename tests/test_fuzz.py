from pathlib import Path

import pytest

from tests.fuzz import Damage, damages, is_good, outcome
from wsi_mil.demo.texture import texture_path
from wsi_mil.errors import DataError

try:
    SOURCE = texture_path(None)
except DataError as error:
    pytest.skip(f"no slide to damage: {error}", allow_module_level=True)


@pytest.mark.slow
@pytest.mark.parametrize("damage", damages(SOURCE, truncated=5, flipped=15, seed=1), ids=lambda damage: damage.name)
def test_a_damaged_slide_has_a_status_or_pixels(damage: Damage, tmp_path: Path) -> None:
    result = outcome(SOURCE, damage, tmp_path)
    assert is_good(result), result
