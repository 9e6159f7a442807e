"""docs/camelyon16.md and its configuration, on small slides in the data's two layouts."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import yaml

from tests.conftest import tissue_box, tissue_image
from wsi_mil.check import check
from wsi_mil.cohort import read_sheet
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import TileSettings, Tiling, Truth, parse_target
from wsi_mil.evaluate.slides import Sources, slide_truth
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.slides import open_slide
from wsi_mil.store import read_grid
from wsi_mil.tasks import Classes
from wsi_mil.tile import tile_slide

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "camelyon16.md").read_text(encoding="utf-8")
CONFIG = yaml.safe_load((ROOT / "configs" / "camelyon16.yaml").read_text(encoding="utf-8"))
CLASSES = ("normal", "tumor")
TASK = Classes(CLASSES)
TARGET = parse_target(CONFIG["targets"]["tumor"])

SIZE, MPP = (2560, 1792), 0.243
LESION, HOLE, SECOND = (1200, 300, 1700, 600), (1300, 400, 1400, 450), (2000, 900, 2100, 1100)
"""(left, top, right, bottom), level-0 pixels: group _0, what _2 cuts out of it, and group _1."""

AREA = 500 * 300 - 100 * 50 + 100 * 200
TRAINING = ["normal_001", "normal_002", "normal_003", "tumor_001", "tumor_002", "tumor_003", "tumor_010"]
TEST = {"test_001": "Tumor", "test_002": "Normal", "test_114": "Tumor"}
OUTLINED = ["tumor_001", "tumor_002", "tumor_003", "tumor_010", "test_001", "test_114"]

SPACING = (
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
    "&quot;{0}&quot; &quot;{0}&quot;</Attribute>"
)
LEVEL = '<DataObject ObjectType="PixelDataRepresentation">{}</DataObject>'
PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"'
    ' Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array><DataObject ObjectType="DPScannedImage"><Attribute'
    ' Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute><Attribute'
    ' Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" PMSVR="IDataObjectArray"><Array>{}'
    "</Array></Attribute>{}</DataObject></Array></Attribute></DataObject>"
)


def write_philips(path: Path, image: np.ndarray, levels: tuple[int, ...] = (1, 2, 4)) -> None:
    """A TIFF in Philips' form, as ASAP's converter writes it: 512-px JPEG tiles, the scale in XML, in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PHILIPS.format("".join(LEVEL.format(SPACING.format(MPP * n / 1000)) for n in levels), SPACING.format(MPP / 1000))
    with tifffile.TiffWriter(path) as tif:
        for step in levels:
            how = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 80}, "metadata": None}
            about = {"description": text, "software": "Philips DP v1.0"} if step == 1 else {"software": False}
            tif.write(image[::step, ::step].copy(), tile=(512, 512), subfiletype=int(step > 1), **how, **about)


def write_asap(path: Path) -> None:
    """As the data has it: groups _0, _1 and _2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    for number, (group, (left, top, right, bottom)) in enumerate([("_0", LESION), ("_1", SECOND), ("_2", HOLE)]):
        about = {"Name": f"Annotation {number}", "Type": "Polygon", "PartOfGroup": group, "Color": "#F4FA58"}
        coordinates = ElementTree.SubElement(ElementTree.SubElement(annotations, "Annotation", about), "Coordinates")
        for order, (x, y) in enumerate([(left, top), (right, top), (right, bottom), (left, bottom)]):
            ElementTree.SubElement(coordinates, "Coordinate", Order=str(order), X=f"{x}.0", Y=f"{y}.0")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for group in ("_0", "_1", "_2"):
        ElementTree.SubElement(groups, "Group", Name=group, PartOfGroup="None", Color="#00ff00")
    ElementTree.ElementTree(root).write(path, xml_declaration=True, encoding="utf-8")


def make_data(folder: Path, layout: str) -> Path:
    """Seven training and three test slides, with masks in the way; slides are one of two files by their true label."""
    images = {label: folder / "made" / f"{label}.tif" for label in ("normal", "tumor")}
    for label, path in images.items():
        write_philips(path, tissue_image(*SIZE, lesion=LESION if label == "tumor" else None))
    data = folder / "camelyon16"
    for name in [*TRAINING, *TEST]:
        part, label = name.split("_")[0], TEST.get(name, name.split("_")[0]).lower()
        old = f"training/{part}" if part != "test" else "testing/images"
        target = data / ("images" if layout == "aws" else old) / f"{name}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(images[label], target)
    for name in OUTLINED:
        old = "testing" if name.startswith("test") else "training"
        write_asap(data / ("annotations" if layout == "aws" else f"{old}/lesion_annotations") / f"{name}.xml")
    (data / "masks").mkdir()
    os.link(images["tumor"], data / "masks" / "tumor_001_mask.tif")
    write_reference(data, layout)
    return data


def write_reference(data: Path, layout: str) -> None:
    if layout == "aws":
        lines = ["image,class,type,center", *(f"{name}.tif,{label},IDC,0" for name, label in TEST.items())]
    else:
        lines = [f"{name},{label},None" for name, label in TEST.items()]
    path = data / ("evaluation" if layout == "aws" else "testing") / "reference.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def make_sheet(data: Path) -> subprocess.CompletedProcess:
    """What the page says to type, for another folder and this interpreter."""
    (command,) = re.findall(r"^awk .*$", PAGE, re.MULTILINE)
    command = command.replace("| python - camelyon16", f"| '{sys.executable}' - '{data}'")
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)


def sheet_rows(data: Path) -> dict[str, SlideRow]:
    sheet = read_sheet(data / "cohort.csv", {"tumor": TARGET}, needs_file=lambda _: True)
    assert sheet.faults == ()
    return {row.slide_id: row.for_target("tumor") for row in sheet.rows}


def settings() -> TileSettings:
    """The configuration's own; nothing of it is made to suit small slides."""
    return TileSettings(tiling=Tiling(**CONFIG["tilings"]["default"]), slide=CONFIG["slide"])


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data in both layouts, each with its sheet."""
    folders = {layout: make_data(tmp_path_factory.mktemp(layout), layout) for layout in ("aws", "older")}
    for folder in folders.values():
        done = make_sheet(folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "train: 3 normal, 4 tumor\ntest: 1 normal, 2 tumor\n"
    return folders


@pytest.fixture(scope="module")
def data(layouts: dict[str, Path]) -> Path:
    return layouts["older"]


@pytest.mark.parametrize("layout", ["aws", "older"])
def test_labels_parts_and_outlines_are_those_of_the_data(layouts: dict[str, Path], layout: str) -> None:
    rows = sheet_rows(layouts[layout])
    assert set(rows) == {*TRAINING, *TEST}
    assert {name: row.label for name, row in rows.items() if row.label == "tumor"}.keys() == set(OUTLINED)
    assert {name for name, row in rows.items() if row.split == "test"} == set(TEST)
    assert {row.split for row in rows.values()} == {"train", "test"}
    outlined = {name: row.annotation.stem for name, row in rows.items() if row.annotation is not None}
    assert outlined == {name: name for name in ("tumor_001", "tumor_002", "tumor_003", "test_001")}  # the other two in part
    assert all(row.path.stem == name for name, row in rows.items())


def test_the_configuration_has_no_fault_and_tests_on_the_test_set(data: Path) -> None:
    plan = check({**CONFIG, "cohort": str(data / "cohort.csv"), "results": str(data / "results")})
    assert plan.n_folds == {"tumor": 1} and len(plan.rows) == 10
    splits = draw_splits([row.for_target("tumor") for row in plan.rows], TASK, plan.config.split)
    assert {s for s, role in splits.roles[0].items() if role == "test"} == set(TEST)
    assert sum(role == "val" for role in splits.roles[0].values()) == 2


def test_lesions_are_read_and_what_is_cut_out_of_them_is_not(data: Path, tmp_path: Path) -> None:
    rows = sheet_rows(data)
    sources = Sources(tmp_path, tmp_path, None, TASK, Truth(**CONFIG["truth"]))
    for name in ("tumor_001", "test_001"):
        tile_slide(rows[name], settings(), tmp_path / f"{name}.json")
        known = slide_truth(rows[name], sources)
        assert known.notes == () and known.annotation is not None
        assert known.annotation.region.area == AREA and len(known.annotation.lesions) == 2
        assert known.annotation.region.bounds == (1200, 300, 2100, 1100)
    assert slide_truth(rows["test_114"], sources).annotation is None  # not known: it is outlined in part
    normal = slide_truth(rows["test_002"], sources).annotation
    assert normal is not None and normal.region.is_empty


def test_slides_in_philips_form_are_read_at_their_scale(data: Path, tmp_path: Path) -> None:
    row = sheet_rows(data)["test_001"]
    with open_slide(row.path) as opened:
        assert opened.properties["openslide.vendor"] == "philips" and opened.reader == "openslide"
        assert opened.dimensions == SIZE and opened.mpp.x == pytest.approx(MPP)
        assert opened.read_region((LESION[0], LESION[1]), (400, 90), MPP)[..., 0].mean() == pytest.approx(110, abs=5)
    tile_slide(row, settings(), tmp_path / "a.json")
    about, grid = read_receipt(tmp_path / "a.json"), read_grid(store_path(tmp_path / "a.json"))
    left, top, right, bottom = tissue_box(*SIZE)
    assert about["status"] == "ok" and about["reader"] == "openslide" and about["mpp"] == [MPP, MPP]
    assert about["tissue_area_um2"] == pytest.approx((right - left) * (bottom - top) * MPP**2, rel=0.1)
    side = 224 * 0.5 / MPP
    assert len(grid.coords) > 4 and ((grid.coords > (left - side, top - side)) & (grid.coords < (right, bottom))).all()


def test_what_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    data = make_data(tmp_path, "older")
    (data / "testing" / "reference.csv").write_text("test_001,Tumor,None\ntest_114,Tumor,None\n")
    (data / "training" / "lesion_annotations" / "tumor_002.xml").unlink()
    os.link(data / "testing" / "images" / "test_001.tif", data / "testing" / "images" / "test_049.tif")
    done = make_sheet(data)
    assert done.returncode == 1 and not (data / "cohort.csv").exists()
    faults = done.stderr.splitlines()
    assert len(faults) == 2 and faults[0].startswith("test_002: its label is not in") and "tumor_002.xml is missing" in faults[1]
    write_reference(data, "older")
    write_asap(data / "training" / "lesion_annotations" / "tumor_002.xml")
    assert make_sheet(data).returncode == 0 and "test_049" not in sheet_rows(data)
    assert "no slides in folders" in make_sheet(tmp_path / "made").stderr


def test_the_sheet_for_drawn_folds_has_neither_split_nor_test_114(data: Path) -> None:
    (command,) = re.findall(r"^grep .*$", PAGE, re.MULTILINE)
    subprocess.run(["bash", "-c", command], cwd=data.parent, check=True)
    with (data / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["slide_id", "path", "label", "annotation"] and len(rows) == 9
    assert "test_114" not in {row["slide_id"] for row in rows}
    changes = {"cohort": str(data / "folds.csv"), "protocol": "as_published", "split": {"folds": 3, "repeats": 3}}
    assert check({**CONFIG, **changes, "results": str(data / "results")}).n_folds == {"tumor": 9}


@pytest.mark.slow
def test_a_dry_run_plans_every_slide(data: Path) -> None:
    changes = {"cohort": str(data / "cohort.csv"), "results": str(data / "results"), "slides_per_job": 1}
    (data / "c.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
    program = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1", "--dry-run", "--configfile", "c.yaml"]
    done = subprocess.run(command, cwd=data, env={**os.environ, "PATH": program}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    planned = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}
    assert planned["tile"] == planned["extract"] == 10 and planned["cohort"] == 1
