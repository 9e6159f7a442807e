"""Vectors of whole slides, as TRIDENT, STAMP, GigaPath, PRISM and people write them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.interchange.files import grid, numbers, write_clam, write_pt, write_stamp, write_trident
from tests.interchange.test_commands import called
from tests.malicious import Malicious
from wsi_mil.errors import FeatureFileError
from wsi_mil.interchange import FeatureSource, ImportOptions, import_slide
from wsi_mil.interchange.importing_vectors import import_vector, match_vectors, of_one_length
from wsi_mil.interchange.slide_vectors import read_vectors, vectors_of
from wsi_mil.receipts import read_receipt
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.store import read_bag
from wsi_mil.verify import verify

VECTOR = np.array([0.5, -2, 3, 0.25, 8], np.float32)
COORDS = grid(3, 2, 512)


def write_h5(path: Path, attributes: dict[str, object] | None = None, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes or {})
    return path


def trident(path: Path, values: np.ndarray = VECTOR, coords: np.ndarray = COORDS) -> Path:
    write_h5(path, features=values, coords=coords)
    with h5py.File(path, "a") as file:
        file["features"].attrs.update({"name": path.stem, "savetodir": "/data"})
        file["coords"].attrs.update({"patch_size_level0": 512, "target_magnification": 20})
    return path


def stamp(path: Path, values: np.ndarray = VECTOR, kind: str = "slide") -> Path:
    return write_h5(path, {"feat_type": kind, "encoder": "titan", "precision": "torch.float32", "version": "2.4.0"}, feats=values)


def npy(path: Path, values: np.ndarray = VECTOR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(FeatureFileError) as caught:
        read_vectors(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


ONE = {
    "trident": lambda folder: trident(folder / "s.h5"),
    "of a single tile": lambda folder: trident(folder / "s.h5", coords=np.array([7, 9])),
    "stamp": lambda folder: stamp(folder / "s.h5"),
    "(1, d)": lambda folder: stamp(folder / "s.h5", VECTOR[None]),
    "(1, 1, d)": lambda folder: write_h5(folder / "s.h5", features=VECTOR[None, None]),
    "(1, d), many coords": lambda folder: trident(folder / "s.h5", VECTOR[None]),
    "pt": lambda folder: write_pt(folder / "s.pt", torch.from_numpy(VECTOR)),
    "bfloat16": lambda folder: write_pt(folder / "s.pt", torch.from_numpy(VECTOR).bfloat16()[None]),
    "dictionary": lambda folder: write_pt(folder / "s.pt", {"features": torch.from_numpy(VECTOR), "coords": torch.zeros(6, 2)}),
    "prism": lambda folder: write_pt(
        folder / "s.pt", {"image_embedding": torch.from_numpy(VECTOR)[None], "image_latents": torch.zeros(1, 512, 3)}
    ),
    "gigapath": lambda folder: write_pt(
        folder / "s.pt", {"layer_0_embed": torch.zeros(1, 5), "last_layer_embed": torch.from_numpy(VECTOR)[None]}
    ),
    "npy": lambda folder: npy(folder / "s.npy"),
    "table": lambda folder: table(folder / "t.csv", "slide_id,0,1,2,3,4\ns,0.5,-2,3,0.25,8\n"),
    "pandas": lambda folder: table(folder / "t.csv", ",feat_1,feat_2,feat_3,feat_4,feat_5\ns,0.5,-2.0,3.0,0.25,8.0\n"),
    "row numbers": lambda folder: table(folder / "t.tsv", "\tslide_id\t0\t1\t2\t3\t4\n0\ts\t0.5\t-2\t3\t0.25\t8\n"),
}


@pytest.mark.parametrize("name", ONE)
def test_a_vector_is_read_from_the_files_of_each_tool(tmp_path: Path, name: str) -> None:
    (vector,) = read_vectors(ONE[name](tmp_path))
    assert vector.name == "s" and np.array_equal(vector.values.astype(np.float32), VECTOR)
    assert vector.encoder == ("titan" if name in ("stamp", "(1, d)") else "")


MANY = {
    "stamp before version 2": lambda folder: write_h5(folder / "e.h5", {"encoder": "chief"}, a=VECTOR, b=-VECTOR[None]),
    "pt": lambda folder: write_pt(folder / "e.pt", {"a": torch.from_numpy(VECTOR), "b": -torch.from_numpy(VECTOR)}),
    "table": lambda folder: table(folder / "e.csv", "slide_id;f0;f1;f2;f3;f4\na;0.5;-2;3;.25;8\nb;-0.5;2;-3;-.25;-8\n"),
}


@pytest.mark.parametrize("name", MANY)
def test_a_file_may_have_the_vectors_of_several_slides(tmp_path: Path, name: str) -> None:
    a, b = read_vectors(MANY[name](tmp_path))
    assert (a.name, b.name) == ("a", "b") and np.array_equal(a.values, VECTOR) and np.array_equal(b.values, -VECTOR)


OF_TILES = {
    "trident": lambda folder: write_trident(folder / "s.h5", COORDS, numbers(6)),
    "trident, one tile": lambda folder: write_trident(folder / "s.h5", COORDS[:1], numbers(1)),
    "clam": lambda folder: write_clam(folder / "s.h5", COORDS, numbers(6)),
    "clam, one tile": lambda folder: write_clam(folder / "s.h5", COORDS[:1], numbers(1)),
    "stamp": lambda folder: write_stamp(folder / "s.h5", COORDS.astype(np.float32), numbers(6)),
    "stamp, one tile": lambda folder: write_stamp(folder / "s.h5", COORDS[:1].astype(np.float32), numbers(1)),
    "pt": lambda folder: write_pt(folder / "s.pt", torch.from_numpy(numbers(6))),
    "dictionary": lambda folder: write_pt(
        folder / "s.pt", {"features": torch.from_numpy(numbers(1)), "coords": torch.zeros(1, 2)}
    ),
    "npy": lambda folder: npy(folder / "s.npy", numbers(6)),
}


@pytest.mark.parametrize("name", OF_TILES)
def test_features_of_tiles_are_no_vectors_of_slides(tmp_path: Path, name: str) -> None:
    reason = refused(OF_TILES[name](tmp_path))
    assert reason.endswith("import features of tiles without --of slide, under an entry without of: slide")


@pytest.mark.parametrize("name", ["trident", "stamp", "(1, d), many coords", "pt", "npy", "table"])
def test_vectors_of_slides_are_no_features_of_tiles(tmp_path: Path, name: str) -> None:
    path = ONE[name](tmp_path)
    with pytest.raises(FeatureFileError, match="a vector of the whole slide is imported with --of slide") as caught:
        import_slide(FeatureSource(SlideRow("s", NO_PATH), path), tmp_path / "results", "e", ImportOptions(mpp=0.5))
    assert str(caught.value).startswith(f"{path}: ") and not (tmp_path / "results").exists()


def test_the_vector_of_a_patient_is_refused(tmp_path: Path) -> None:
    reason = "has the features of a patient, expected a vector of a slide; encode slides (`stamp encode_slides`)"
    assert refused(stamp(tmp_path / "s.h5", kind="patient")) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,0,1\ns,1,2\n", "has no column slide_id"),
        ("slide_id,0,1,label\ns,1,2,1\n", "found column label; leave in the table only the numbers of the vector"),
        ("slide_id,0,2\ns,1,2\n", "are not numbered in order from 0 or 1"),
        ("slide_id,5,6\ns,1,2\n", "are not numbered in order from 0 or 1"),
        ("slide_id\ns\n", "found none"),
        ("slide_id,0,1\ns,1,\n", "row 2: expected a number in each cell"),
        ("slide_id,0,1\ns,1,x\n", "row 2: expected a number in each cell"),
        ("slide_id,0,1\ns,1\n", "row 2: expected slide_id and 2 numbers, found 2 cells"),
        ("slide_id,0,1\ns,1,2\nt,1,2\n\ns,1,2\n", "row 5: slide s is in row 2 too; remove one"),
        ("slide_id,0,1\n", "has no rows"),
        ("\n", "is empty"),
    ],
)
def test_a_faulty_table_is_refused_with_its_row(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(table(tmp_path / "t.csv", text))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda folder: write_pt(folder / "s.pt", {"features": Malicious(folder / "harm")}), "loading them could run code"),
        (lambda folder: npy(folder / "s.npy", np.array([{}], object)), "is no readable .npy file of numbers"),
        (lambda folder: npy(folder / "s.npy", np.arange(5)), "has numbers of type int64, expected floating-point numbers"),
        (lambda folder: npy(folder / "s.npy", np.float32(3)), "has shape (), expected that of one vector"),
        (lambda folder: npy(folder / "s.npy", np.zeros(0, np.float32)), "has shape (0,), expected that of one vector"),
        (lambda folder: write_h5(folder / "s.h5"), "has no vectors of slides"),
        (lambda folder: table(folder / "s.h5", "text"), "is no readable HDF5 file"),
        (lambda folder: folder / "s.h5", "no such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, write, reason: str) -> None:
    assert reason in refused(write(tmp_path))


def imported(folder: Path, *arguments: str, expected: int = 0) -> str:
    done = called("import-features", ".", "--encoder", "e", *arguments, cwd=folder)
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


def test_an_imported_vector_is_a_store_of_one_row_without_tiles(tmp_path: Path) -> None:
    trident(tmp_path / "s.h5")
    assert "s: a vector of 5 (trident)\n" in imported(tmp_path, "--of", "slide", "--name", "titan")
    bag = read_bag(tmp_path / "results/features/e/s.json")
    assert np.array_equal(bag.features, VECTOR.astype(np.float16)[None]) and bag.coords.tolist() == [[0, 0]]
    receipt = read_receipt(tmp_path / "results/features/e/s.json")
    assert (receipt["of"], receipt["dim"], receipt["encoder"], receipt["mpp"]) == ("slide", 5, "titan", None)
    assert [(one.verdict, one.faults) for one in verify(tmp_path / "results")] == [("sound", ())], "there are no tiles"
    assert "unchanged" in imported(tmp_path, "--of", "slide", "--name", "titan")
    trident(tmp_path / "s.h5", VECTOR + 1)
    assert "unchanged" not in imported(tmp_path, "--of", "slide", "--name", "titan")


def test_a_vector_of_another_length_is_named_with_one_of_its_siblings(tmp_path: Path) -> None:
    for name in "abc":
        npy(tmp_path / f"{name}.npy")
    npy(tmp_path / "d.npy", VECTOR[:3])
    said = imported(tmp_path, "--of", "slide", expected=2)
    assert "d.npy: the vector of slide d has 3 numbers, but that of a.npy (slide a) has 5;" in said
    features = tmp_path / "results/features/e"
    assert sorted(path.stem for path in features.glob("*.json")) == ["a", "b", "c"]
    (tmp_path / "more").mkdir()
    npy(tmp_path / "more/f.npy", VECTOR[:3])
    found, _ = vectors_of([tmp_path / "more"])
    fitting, (fault,) = of_one_length(match_vectors(found, None)[0], tmp_path / "results", "e")
    assert not fitting and f"but that of {features}/a.json has 5" in fault, "those that were imported before count"
    everything = {name: read_vectors(npy(tmp_path / f"more/{name}.npy", VECTOR[:3]))[0] for name in "abc"}
    assert not of_one_length(match_vectors(everything, None)[0], tmp_path / "results", "e")[1], "all are replaced"


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "nan, not finite"), (np.inf, "inf, not finite"), (7e4, "70000, beyond")])
def test_numbers_that_float16_cannot_hold_are_refused(tmp_path: Path, value: float, reason: str) -> None:
    vector = VECTOR.copy()
    vector[3] = value
    (source,) = match_vectors(vectors_of([npy(tmp_path / "s.npy", vector)])[0], None)[0]
    with pytest.raises(FeatureFileError, match=f"slide s: number 4 of 5 is {reason}"):
        import_vector(source, tmp_path / "results", "e")
    assert not (tmp_path / "results").exists()


def test_a_slide_found_twice_is_a_fault_with_both_files(tmp_path: Path) -> None:
    first, second = npy(tmp_path / "a/s.npy"), stamp(tmp_path / "b/s.h5")
    found, faults = vectors_of([tmp_path])
    assert faults == [f"{second}: has a vector of slide s, and so has {first}; give one of the files"] and len(found) == 1


def test_vectors_are_matched_by_slide_id_and_by_the_slides_file(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "slide_id,0\na,1\nb.svs,2\nc,3\nelse,4\n")
    rows = [SlideRow("a", NO_PATH), SlideRow("x", Path("/slides/b.svs")), SlideRow("y", Path("c.svs")), SlideRow("z", NO_PATH)]
    sources, notes = match_vectors(vectors_of([path])[0], rows)
    assert [(s.slide_id, s.vector.values.tolist()) for s in sources] == [("a", [1]), ("x", [2]), ("y", [3])]
    assert notes == ["z: no vector", f"{path}, else: no slide of the sheet"]
    twice = [SlideRow("c", NO_PATH), SlideRow("y", Path("c.svs"))]
    with pytest.raises(FeatureFileError, match="c fits two slides of the sheet, c and y"):
        match_vectors(vectors_of([path])[0], twice)


def test_an_entry_holds_features_of_one_kind(tmp_path: Path) -> None:
    write_trident(tmp_path / "tiles/s.h5", COORDS, numbers(6), level0_width=4000, level0_height=3000)
    tiles = FeatureSource(SlideRow("s", NO_PATH), tmp_path / "tiles/s.h5")
    (vector,) = match_vectors(vectors_of([npy(tmp_path / "s.npy")])[0], None)[0]
    import_slide(tiles, tmp_path / "results", "t", ImportOptions())
    with pytest.raises(FeatureFileError, match="has imported features of a tile, not of a slide; choose another name"):
        import_vector(vector, tmp_path / "results", "t")
    import_vector(vector, tmp_path / "results", "v")
    with pytest.raises(FeatureFileError, match="has imported features of a slide, not of a tile; choose another name"):
        import_slide(tiles, tmp_path / "results", "v", ImportOptions())


def test_options_of_tiles_do_not_go_with_vectors(tmp_path: Path) -> None:
    npy(tmp_path / "s.npy")
    said = imported(tmp_path, "--of", "slide", "--mpp", "0.5", "--layout", "pt", expected=2)
    assert "--mpp, --layout: a vector of a slide has no tiles" in said
    assert "--of: expected tile or slide, got 'slides'" in imported(tmp_path, "--of", "slides", expected=2)
