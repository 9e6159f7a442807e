from pathlib import Path

import pytest

from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange import find_sources
from wsi_mil.records import NO_PATH, SlideRow


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_an_hdf5_file_is_preferred_to_the_tensor_beside_it(tmp_path: Path) -> None:
    folder = touched(tmp_path, "h5_files/a.h5", "pt_files/a.pt", "pt_files/b.pt", "pt_files/.c.pt.part", "notes.txt")
    found, notes = find_sources([folder], None, None, "auto")
    assert [(s.row.slide_id, s.path.name) for s in found] == [("a", "a.h5"), ("b", "b.pt")] and not notes
    assert [s.path.name for s in find_sources([folder], None, None, "pt")[0]] == ["a.pt", "b.pt"]


def test_a_file_belongs_to_the_slide_of_its_id_or_of_its_slide_file(tmp_path: Path) -> None:
    folder = touched(tmp_path, "s1.h5", "TCGA-1.2.h5", "other.h5")
    rows = [SlideRow("s1", NO_PATH), SlideRow("s2", Path("slides/TCGA-1.2.svs")), SlideRow("s3", NO_PATH)]
    found, notes = find_sources([folder], rows, None, "auto")
    assert [(s.row.slide_id, s.path.name) for s in found] == [("s1", "s1.h5"), ("s2", "TCGA-1.2.h5")]
    assert notes == ["s3: no file", f"{folder / 'other.h5'}: no slide of the sheet"]


def test_coords_lie_in_one_file_or_in_one_for_each_slide(tmp_path: Path) -> None:
    folder = touched(tmp_path, "f/a.pt", "p/a_patches.h5")
    assert find_sources([folder / "f"], None, folder / "p", "auto")[0][0].coords == folder / "p/a_patches.h5"
    assert find_sources([folder / "f"], None, folder / "p/a_patches.h5", "auto")[0][0].coords == folder / "p/a_patches.h5"
    touched(tmp_path, "f/b.pt")
    assert find_sources([folder / "f"], None, folder / "p", "auto")[0][1].coords == folder / "p/b.h5", "which does not exist"


def test_two_files_of_a_slide_and_no_file_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(FeatureFileError, match="is of the same slide as"):
        find_sources([touched(tmp_path, "x/a.h5", "y/a.h5")], None, None, "auto")
    with pytest.raises(FeatureFileError, match=r"has no files that end in \.h5, \.hdf5, \.pt, \.pth"):
        find_sources([touched(tmp_path / "z", "a.txt")], None, None, "auto")
    with pytest.raises(FeatureFileError, match=r"a b\.h5: its name is no valid slide_id; give the sheet"):
        find_sources([touched(tmp_path / "o", "a b.h5")], None, None, "auto")


@pytest.mark.parametrize(
    "rows",
    [
        [SlideRow("p1", Path("p1/HE.svs")), SlideRow("p2", Path("p2/HE.svs"))],
        [SlideRow("HE", Path("p1/x.svs")), SlideRow("p2", Path("p2/HE.svs"))],
    ],
)
def test_a_file_that_matches_two_slides_is_rejected(tmp_path: Path, rows: list[SlideRow]) -> None:
    """Slide files of one name in the folders of several patients: the features of one would stand for both."""
    first, second = (row.slide_id for row in rows)
    with pytest.raises(FeatureFileError, match=rf"HE\.h5: its name matches two slides of the sheet, {first} and {second}; "):
        find_sources([touched(tmp_path, "HE.h5")], rows, None, "auto")
