import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import numpy as np
import pytest
import torch

from tests.interchange.files import grid, numbers, write_pt, write_trident
from tests.test_cli import is_light
from wsi_mil.receipts import read_receipt
from wsi_mil.store import read_bag


def called(*arguments: str, cwd: Path, without: str = "") -> CompletedProcess:
    """`wsi-mil`, as if the package `without` were not installed."""
    code = f"import sys; sys.modules[{without!r}] = None; from wsi_mil.cli import main; main()"
    return run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of TRIDENT in `in`, and a sheet of two of the slides."""
    for name in ("a", "b", "c"):
        write_trident(tmp_path / f"in/{name}.h5", grid(5, 3, 512), numbers(15))
    (tmp_path / "cohort.csv").write_text("slide_id;label;mpp\na;what;0.26\nb;;\n")
    return tmp_path


def test_there_and_back_by_command(folder: Path) -> None:
    done = called("import-features", "in", "--encoder", "uni", "--slides", "cohort.csv", cwd=folder)
    assert done.returncode == 0 and done.stdout == "a: 15 tiles × 6 (trident)\nb: 15 tiles × 6 (trident)\n"
    assert "skipped: in/c.h5: no slide of the sheet" in done.stderr
    assert (
        "warning: b: the slide's resolution is unknown and was derived" in done.stderr
        and "warning: a: the slide's resolution is" not in done.stderr
    )
    assert read_receipt(folder / "results/tiles/uni/a.json")["mpp"] == [0.26, 0.26]
    assert called("import-features", "in", "--encoder", "uni", cwd=folder).returncode == 0, "without a sheet all of them"
    done = called("export-features", "results", "--encoder", "uni", "--layout", "pt", "--out", "out", "--slide", "b", cwd=folder)
    assert (
        done.returncode == 0
        and done.stdout == "b: 15 tiles: out/b.pt\n"
        and [p.name for p in (folder / "out").iterdir()] == ["b.pt"]
    )
    done = called("import-features", "out", "--encoder", "back", cwd=folder)
    assert done.returncode == 0 and "derived" not in done.stderr
    bags = [read_bag(folder / f"results/features/{entry}/b.json") for entry in ("uni", "back")]
    assert np.array_equal(bags[0].features, bags[1].features) and np.array_equal(bags[0].coords, bags[1].coords)


def test_exit_codes_tell(folder: Path) -> None:
    called("import-features", "in", "--encoder", "uni", cwd=folder)
    (folder / "results/features/uni/b.json").unlink()
    export = ["export-features", "results/features/uni", "--layout", "clam", "--out", "out"]
    done = called(*export, cwd=folder)
    assert done.returncode == 1 and "not exported: b: its store has no receipt" in done.stderr and "a: 15 tiles" in done.stdout
    assert called(*export, "--slide", "a", cwd=folder).returncode == 0
    assert called("export-features", "results", "--layout", "clam", "--out", "out", cwd=folder).stderr == (
        "error: results is a results folder: choose the encoder entry with --encoder (there are uni)\n"
    )
    done = called("import-features", "in", "--encoder", "Uni 1", "--layout", "tridant", cwd=folder)
    assert (
        done.returncode == 2 and "did you mean 'trident'?" in done.stderr and "'Uni 1' must be lower-case letters" in done.stderr
    )
    (folder / "cohort.csv").write_text("slide_id,label\nnobody,\n")
    done = called("import-features", "in", "--encoder", "uni", "--slides", "cohort.csv", cwd=folder)
    assert done.returncode == 2 and "no slide of the sheet has a file" in done.stderr


def test_hdf5_files_need_h5py_and_the_message_says_how_to_get_it(folder: Path) -> None:
    done = called("import-features", "in", "--encoder", "uni", cwd=folder, without="h5py")
    assert done.returncode == 2 and "pip install 'wsi_mil[interchange]'" in done.stderr and "Traceback" not in done.stderr
    content = {"features": torch.from_numpy(numbers(15)), "coords": torch.from_numpy(grid(5, 3, 512)), "patch_size_level0": 512}
    write_pt(folder / "pt/a.pt", content)
    options = ["--encoder", "uni", "--mpp", "0.5", "--tile-px", "256"]
    assert called("import-features", "pt", *options, cwd=folder, without="h5py").returncode == 0
    assert (
        called("export-features", "results/features/uni", "--layout", "pt", "--out", "o", cwd=folder, without="h5py").returncode
        == 0
    )


def test_hdf5_files_never_import_torch(folder: Path) -> None:
    assert is_light("import-features", "in", "--encoder", "uni", cwd=folder)
    assert is_light("export-features", "results/features/uni", "--layout", "stamp", "--out", "out", cwd=folder)
