"""Files from elsewhere: nothing in them is run, they lead nowhere else, and pictures of labels stay in them."""

import base64
import contextlib
import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numcodecs.pickles
import numpy as np
import pytest
import tifffile
import torch
import zarr
from openslide import OpenSlide
from PIL import Image

from tests.conftest import tissue_image, write_aperio, write_geojson
from tests.dag import Run
from tests.interchange.files import grid, numbers, write_clam
from tests.malicious import Malicious
from tests.targets import block_of
from tests.train.cohort import CLASSES, CPU, TASK
from tests.train.cohort import SETTINGS as MODEL
from wsi_mil.annotations import Frame, read_annotation
from wsi_mil.check import check
from wsi_mil.checkpoints import ModelCard, read_checkpoint, write_checkpoint
from wsi_mil.cohort.splits import read_splits
from wsi_mil.config import Encoder, Truth
from wsi_mil.encoders.encoder import create_encoder
from wsi_mil.errors import AnnotationError, FeatureFileError, StoreError, WsiMilError
from wsi_mil.interchange import FeatureSource, ImportOptions, import_slide
from wsi_mil.models import create_model
from wsi_mil.receipts import read_receipt, store_path, write_receipt
from wsi_mil.records import NO_PATH, SlideRow
from wsi_mil.slides import open_slide
from wsi_mil.store import read_bag, read_thumbnail
from wsi_mil.train.resume import TrainingState


def pickled(harm: Path) -> bytes:
    return pickle.dumps({"features": Malicious(harm)}, protocol=2)  # that of torch


def saved_by_torch(harm: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "x": Malicious(harm)}, buffer)
    return buffer.getvalue()


def numpy_objects(harm: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Malicious(harm)], object), allow_pickle=True)
    return buffer.getvalue()


PAYLOADS = {"pickle": pickled, "torch": saved_by_torch, "numpy": numpy_objects}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_each_payload_would_do_harm(payload: Callable[[Path], bytes], tmp_path: Path) -> None:
    """Else the tests below show nothing."""
    data = io.BytesIO(payload(tmp_path / "harm"))
    if payload is pickled:
        pickle.load(data)
    elif payload is saved_by_torch:
        torch.load(data, weights_only=False)
    else:
        np.load(data, allow_pickle=True)
    assert (tmp_path / "harm").exists()


def as_encoder_weights(file: Path, folder: Path) -> None:
    create_encoder(Encoder(encoder="resnet18", weights=str(file)), device=CPU, dtype=torch.float32)


def as_features(file: Path, folder: Path) -> None:
    import_slide(FeatureSource(SlideRow("s", NO_PATH), file, None), folder / "results", "e", ImportOptions(mpp=0.5, tile_px=256))


def as_slide(file: Path, folder: Path) -> None:
    open_slide(file)


def as_annotation(file: Path, folder: Path) -> None:
    read_annotation(file, Truth(), Frame((100, 80)))


def as_sheet(file: Path, folder: Path) -> None:
    check({"cohort": str(file), "targets": block_of(*CLASSES)})


def as_checkpoint(file: Path, folder: Path) -> None:
    card = ModelCard(MODEL, MODEL, TASK, 4, {}, 0, "slide", "held_out", "", "")
    write_checkpoint(folder / "m", create_model(MODEL, feature_dim=4, n_classes=2), card)
    file.replace(folder / "m" / "model.safetensors")
    read_checkpoint(folder / "m", CPU)


def as_receipt(file: Path, folder: Path) -> None:
    read_receipt(file)


def as_splits(file: Path, folder: Path) -> None:
    read_splits(file)


def as_interrupted_training(file: Path, folder: Path) -> None:
    file.rename(folder / "last.safetensors")
    model = torch.nn.Linear(2, 2)
    assert TrainingState(folder, "f").load(model, torch.optim.Adam(model.parameters())) is None  # it begins anew


DOORS = (
    as_encoder_weights,
    as_features,
    as_slide,
    as_annotation,
    as_sheet,
    as_checkpoint,
    as_receipt,
    as_splits,
    as_interrupted_training,
)


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".csv", ".xml", ".safetensors"])
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("door", DOORS)
def test_nothing_is_run_at_any_door(
    door: Callable[[Path, Path], None], payload: Callable[[Path], bytes], suffix: str, tmp_path: Path
) -> None:
    file, harm = tmp_path / f"file{suffix}", tmp_path / "harm"
    file.write_bytes(payload(harm))
    if door is as_interrupted_training:
        door(file, tmp_path)
    else:
        with pytest.raises(WsiMilError):
            door(file, tmp_path)
    assert not harm.exists()


def test_a_store_of_an_older_zarr_whose_filter_is_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # as older versions were
    receipt = tmp_path / "s.json"
    write_receipt(receipt, {"slide_id": "s", "status": "ok", "reason": ""})
    old = zarr.open_group(store_path(receipt), mode="w", zarr_format=2)
    values = old.create_array("features", shape=(1,), dtype="i8", filters=[numcodecs.pickles.Pickle()], compressors=None)
    (store_path(receipt) / "features" / "0").write_bytes(pickle.dumps(Malicious(tmp_path / "harm")))
    with contextlib.suppress(Exception):  # whatever comes of it
        values[...]
    assert (tmp_path / "harm").exists()  # so zarr itself would run it
    (tmp_path / "harm").unlink()
    with pytest.raises(StoreError, match="is no readable store"):
        read_bag(receipt)
    assert not (tmp_path / "harm").exists()


XML = """<?xml version="1.0"?>
<!DOCTYPE x [{}]>
<ASAP_Annotations><Annotations><Annotation Name="&a;" Type="Polygon" PartOfGroup="&a;"><Coordinates>
<Coordinate Order="0" X="1" Y="1"/><Coordinate Order="1" X="50" Y="1"/><Coordinate Order="2" X="50" Y="40"/>
</Coordinates></Annotation></Annotations></ASAP_Annotations>"""


@pytest.mark.parametrize(
    "declared",
    ['<!ENTITY a "tumour">', '<!ENTITY a SYSTEM "file:///etc/hostname">', '<!ENTITY b "ha"><!ENTITY a "&b;&b;&b;&b;">'],
    ids=["plain", "of another file", "of others"],
)
def test_an_annotation_with_entities_is_refused(declared: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(XML.format(declared))
    with pytest.raises(AnnotationError, match="DTDForbidden"):
        read_annotation(path, Truth(), Frame((100, 80)))


def linked(file: h5py.File, other: Path) -> None:
    file["features"] = h5py.ExternalLink(str(other), "features")


def linked_inside(file: h5py.File, other: Path) -> None:
    file["there"] = h5py.ExternalLink(str(other), "/")
    file["features"] = h5py.SoftLink("/there/features")


def stored_outside(file: h5py.File, other: Path) -> None:
    file.create_dataset("features", shape=(12, 8), dtype="f2", external=[(str(other), 0, 12 * 8 * 2)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((12, 8), "f2")
    layout[:] = h5py.VirtualSource(str(other), "features", (12, 8))
    file.create_virtual_dataset("features", layout)


@pytest.mark.parametrize("put", [linked, linked_inside, stored_outside, virtual])
def test_a_feature_file_brings_nothing_of_another_file_along(put: Callable[[h5py.File, Path], None], tmp_path: Path) -> None:
    other = write_clam(tmp_path / "other.h5", grid(4, 3, 512), numbers(12), patch_size=256, patch_level=0)
    path = write_clam(tmp_path / "s.h5", grid(4, 3, 512), None, patch_size=256, patch_level=0)
    with h5py.File(path, "a") as file:
        put(file, other)
    with pytest.raises(FeatureFileError, match="is in another file, which is not opened"):
        import_slide(FeatureSource(SlideRow("s", NO_PATH), path, None), tmp_path / "results", "e", ImportOptions(mpp=0.5))
    assert not (tmp_path / "results").exists()


def test_a_configuration_that_would_run_code_is_refused(tmp_path: Path) -> None:
    call = f"!!python/object/apply:os.mkdir ['{tmp_path}/harm']"
    (tmp_path / "c.yaml").write_text(f"cohort: {call}\n")
    done = subprocess.run(
        [sys.executable, "-m", "wsi_mil", "check", str(tmp_path / "c.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "python/object" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "harm").exists()


INK = (255, 0, 255)
"""Of labels, and of nothing else."""


def write_labelled(path: Path, image: np.ndarray) -> Path:
    """A slide with a label and a picture of the whole glass, as Aperio stores them."""
    write_aperio(path, image)
    with tifffile.TiffWriter(path, append=True) as tif:
        for name, kind, (width, height) in (("label", 1, (180, 200)), ("macro", 9, (448, 160))):
            text = f"Aperio Image Library v12\r\n{name} {width}x{height}"
            picture = np.full((height, width, 3), INK, np.uint8)
            tif.write(picture, subfiletype=kind, rowsperstrip=16, photometric="rgb", description=text, metadata=None)
    return path


def has_ink(image: np.ndarray) -> bool:
    red, green, blue = np.moveaxis(np.asarray(image, np.int16)[..., :3], -1, 0)
    return bool(((red > 220) & (green < 70) & (blue > 220)).any())


def pictures(results: Path) -> Iterator[np.ndarray]:
    """All that a run has drawn."""
    for path in results.rglob("*.png"):
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB"))
    for page in results.rglob("*.html"):
        for data in re.findall(r"data:image/(?:jpeg|webp|png);base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8")):
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                yield np.asarray(image.convert("RGB"))
    for store in results.glob("tiles/*/*.zarr"):
        yield read_thumbnail(store)


def test_ink_is_seen_where_it_is(tmp_path: Path) -> None:
    """Else the tests below show nothing."""
    path = write_labelled(tmp_path / "s.svs", tissue_image(640, 448))
    with OpenSlide(path) as slide:
        assert all(has_ink(np.asarray(slide.associated_images[name])) for name in ("label", "macro"))
        shown = slide.associated_images["label"].convert("RGB")
    shown.save(tmp_path / "a.png")
    shown.save(tmp_path / "b.jpg", quality=60)
    data = base64.b64encode((tmp_path / "b.jpg").read_bytes()).decode()
    (tmp_path / "a.html").write_text(f'<img src="data:image/jpeg;base64,{data}">')
    assert [has_ink(image) for image in pictures(tmp_path)] == [True, True]


@pytest.mark.parametrize("reader", ["jpeg_tiff", "openslide", "tiffslide"])
def test_no_reader_takes_a_label_for_a_part_of_the_slide(reader: str, tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "s.svs", tissue_image(640, 448))
    with open_slide(path, reader) as slide:
        for mpp in (0.5, 2.0, 8.0, 16.0):
            size = (int(640 * 0.5 / mpp), int(448 * 0.5 / mpp))
            assert not has_ink(slide.read_region((0, 0), size, mpp=mpp))


HARM = (
    "$(touch harm)",
    "; touch harm #",
    "`touch harm`",
    "| touch harm",
    "&& touch harm &&",
    "' touch harm '",
    '" touch harm',
    "x\ntouch harm",
)


@pytest.mark.slow
@pytest.mark.system
def test_a_cohort_of_hostile_names_runs_and_no_name_reaches_a_shell_nor_a_label_the_results(
    tmp_path: Path, command: Path
) -> None:
    run, results = Run(tmp_path, command), tmp_path / f"results {HARM[0]}"
    folder = run.sheet.parent
    folder.mkdir()
    classes, rows = [f"normal {HARM[0]}", f'tumour "{HARM[1]}'], []
    for number, name in enumerate(HARM):
        lesion = (300, 100, 450, 250) if number % 2 else None
        write_labelled(folder / f"{name}.svs", tissue_image(640, 448, seed=number, lesion=lesion))
        row = {
            "slide_id": f"s{number}",
            "path": f"{name}.svs",
            "label": classes[number % 2],
            "patient_id": f"../../p{number} {name}",
        }
        truth = write_geojson(folder / "truth" / f"{name}.geojson", lesion) if lesion else None
        rows.append({**row, "annotation": f"truth/{truth.name}" if truth else "", "scanner": f"<b>{name}</b>"})
    run.write_rows(rows)
    run.config(targets=block_of(*classes), results=results.name)
    counts = run.snakemake()
    assert counts["tile"] == counts["extract"] == counts["heatmap"] == 8 and counts["report"] == 1
    assert not list(tmp_path.rglob("harm"))
    statuses = (results / "cohort_status.csv").read_text()
    assert statuses.count(",ok,") == 8
    pages = [page.read_text() for page in (results / "report").glob("*.html")]
    assert len(pages) == 3 and any("&lt;b&gt;" in page for page in pages) and all("<b>$(touch" not in page for page in pages)
    drawn = list(pictures(results))
    assert len(drawn) > 4 * 8 and not any(map(has_ink, drawn))
    assert run.snakemake() == {}
