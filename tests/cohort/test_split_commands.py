"""`wsi-mil import-splits` and `wsi-mil export-splits`."""

import json
from pathlib import Path

import pytest
import yaml

from tests.cohort.test_split_exchange import CLAM_0, CLAM_1, PATIENT_OF
from tests.interchange.test_commands import called
from tests.targets import block_of
from wsi_mil.check import check
from wsi_mil.cohort.split_layouts import SPLIT_LAYOUTS
from wsi_mil.cohort.splits import Splits, draw_splits, read_splits, write_splits
from wsi_mil.cohort.status import SlideStatus, write_status
from wsi_mil.config import Split
from wsi_mil.records import NO_PATH, Role, SlideRow, Status
from wsi_mil.tasks import Classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet and a configuration in `study`, and CLAM's two folds in `clam`."""
    (tmp_path / "study").mkdir()
    (tmp_path / "clam").mkdir()
    labels = {s: "tumour" if PATIENT_OF[s] in "ace" else "normal" for s in PATIENT_OF}
    lines = [f"{s},{PATIENT_OF[s]},{labels[s]},{labels[s]}" for s in PATIENT_OF]
    (tmp_path / "study/cohort.csv").write_text("\n".join(["slide_id,patient_id,label,other", *lines]) + "\n")
    write_config(tmp_path)
    (tmp_path / "clam/splits_0.csv").write_text(CLAM_0)
    (tmp_path / "clam/splits_1.csv").write_text(CLAM_1)
    return tmp_path


def write_config(folder: Path, **changes: object) -> dict[str, object]:
    about = {
        "cohort": "cohort.csv",
        "targets": block_of("normal", "tumour"),
        "models": {"m": {"model": "embedding_pool"}},
        **changes,
    }
    (folder / "study/my.yaml").write_text(yaml.safe_dump(about))
    return about


def test_splits_of_clam_are_a_file_for_the_configuration_and_come_back(folder: Path) -> None:
    done = called("import-splits", "clam", "--configfile", "study/my.yaml", cwd=folder)
    place = folder / "study/splits_tumour.csv"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{place}: 7 slides of 6 patients in 2 folds (clam)",
        f"in study/my.yaml: splits: {{tumour: {place}}}",
    ]
    values = write_config(folder, cohort=str(folder / "study/cohort.csv"), splits={"tumour": str(place)})
    values["encoders"] = {"e": {"encoder": "resnet18", "weights": "random"}}
    with pytest.raises(Exception, match="column path is missing") as caught:
        check(values)
    assert "splits_tumour" not in str(caught.value) and "splits:" not in str(caught.value), "the file itself is right"
    done = called("export-splits", str(place), "--layout", "clam", "--out", "again", cwd=folder)
    assert done.returncode == 0 and "the files do not say patients and labels" in done.stderr
    assert (folder / "again/splits_0.csv").read_text() == CLAM_0


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS)
def test_splits_with_an_external_site_come_back_byte_for_byte(folder: Path, layout: str) -> None:
    rows = [SlideRow(f"s{n}", NO_PATH, ("normal", "tumour")[n % 2], f"p{n}", group="UVW"[n // 8]) for n in range(20)]
    lines = [f"{row.slide_id},{row.patient_id},{row.label},{row.group}" for row in rows]
    (folder / "study/cohort.csv").write_text("\n".join(["slide_id,patient_id,label,site", *lines]) + "\n")
    settings = {"group": "site", "folds": 2, "external": ["W"]}
    write_config(folder, split=settings)
    write_splits(folder / "run.csv", draw_splits(rows, Classes(("normal", "tumour")), Split.model_validate(settings)))
    assert "external" in (folder / "run.csv").read_text()
    done = called("export-splits", "run.csv", "--layout", layout, "--out", "shared", cwd=folder)
    assert done.returncode == 0 and "nor 4 slides that are in no part" in done.stderr, done.stderr
    done = called("import-splits", "shared", "--configfile", "study/my.yaml", "--out", "back.csv", cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (folder / "back.csv").read_bytes() == (folder / "run.csv").read_bytes()


def test_a_target_is_named_where_there_are_several(folder: Path) -> None:
    block = block_of("normal", "tumour")["tumour"]
    write_config(folder, targets={"a": block, "b": {**block, "column": "other"}})
    done = called("import-splits", "clam", "--configfile", "study/my.yaml", cwd=folder)
    assert done.returncode == 2 and "--target: the configuration has a, b; name the one" in done.stderr
    done = called("import-splits", "clam", "--configfile", "study/my.yaml", "--target", "b", "--out", "b.csv", cwd=folder)
    assert done.returncode == 0 and read_splits(folder / "b.csv").n_folds == 2


def test_faults_are_sentences_and_nothing_is_written(folder: Path) -> None:
    def fault(*arguments: str) -> str:
        done = called(*arguments, cwd=folder)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    (folder / "clam/splits_1.csv").write_text(CLAM_1.replace(",,b", "a2,,b").replace("d,f,a2", "d,f,"))
    said = fault("import-splits", "clam", "--configfile", "study/my.yaml")
    assert "splits_1.csv: patient 'a' is in" in said and not (folder / "study/splits_tumour.csv").exists()
    assert "no layout 'clma'; did you mean 'clam'?" in fault("import-splits", "clam", "--layout", "clma")
    assert "is what is read" in fault(
        "import-splits", "clam/splits_0.csv", "--configfile", "study/my.yaml", "--out", "clam/splits_0.csv"
    )
    assert "has no rows, or no column role_0" in fault("export-splits", "study/cohort.csv", "--layout", "stamp", "--out", "out")
    assert "no layout 'k=all'" in fault("export-splits", "study/cohort.csv", "--layout", "k=all", "--out", "out")
    assert "expected a folder, found a file" in fault(
        "export-splits", "study/cohort.csv", "--layout", "stamp", "--out", "study/cohort.csv"
    )
    assert not (folder / "out").exists()


def test_an_external_site_that_given_splits_lack_is_external(tmp_path: Path) -> None:
    """Four patients of the file, two of Graz, and a new one of a known site, who is predicted by all folds."""
    sites = {"a": "Bern", "b": "Bern", "c": "Basel", "d": "Basel", "g": "Graz", "h": "Graz", "n": "Bern"}
    labels = {slide: ("tumour", "normal")[n % 2] for n, slide in enumerate(sites)}
    lines = [f"{slide},{slide}.svs,{labels[slide]},{site}" for slide, site in sites.items()]
    (tmp_path / "cohort.csv").write_text("\n".join(["slide_id,path,label,site", *lines]) + "\n")
    write_status(tmp_path / "status.csv", [SlideStatus(slide, Status.OK, "", "", {"e": 3}) for slide in sites])
    of_file: dict[str, Role] = {"a": Role.TRAIN, "b": Role.TRAIN, "c": Role.TEST, "d": Role.TEST}
    write_splits(tmp_path / "old.csv", Splits({s: s for s in of_file}, {s: labels[s] for s in of_file}, (of_file,)))
    settings = {"group": "site", "external": ["Graz"]}
    files = ["--sheet", "cohort.csv", "--status", "status.csv", "--splits", "new.csv", "--frozen", "old.csv"]
    target = ["--target", json.dumps(block_of("normal", "tumour")["tumour"]), "--protocol", "as_published"]
    done = called("split", *files, *target, "--settings", json.dumps(settings), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_splits(tmp_path / "new.csv").roles == ({**of_file, "g": Role.EXTERNAL, "h": Role.EXTERNAL},)
