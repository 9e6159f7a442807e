"""The package as a wheel, in an environment of its own, used from Python as docs/python.md has it."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio
from tests.docs.pages import ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.system]

CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def done(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    ran = subprocess.run(command, cwd=cwd, env=CLEAN, text=True, capture_output=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, since building leaves folders behind."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "wsi_mil", folder / "wsi_mil", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    done(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", "wheels", ".", cwd=folder)
    (found,) = (folder / "wheels").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`bin` of an environment that holds the wheel, and sees the packages that this one has without looking for the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = {path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")}
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in sorted(others)))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check")
    done(*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    yield folder / "bin"


def test_the_wheel_holds_all_files_of_the_package_and_nothing_else(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (file for file in (ROOT / "wsi_mil").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    expected = {file.relative_to(ROOT).as_posix() for file in files}
    assert held == expected
    assert sum(not name.endswith(".py") for name in held) > 20, "templates, scripts, OpenSeadragon"


def test_the_wheel_is_found_as_an_installed_package(installed: Path, tmp_path: Path) -> None:
    where = done(installed / "python", "-c", "import wsi_mil; print(wsi_mil.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)
    version = done(installed / "python", "-c", "import wsi_mil; print(wsi_mil.__version__)", cwd=tmp_path)
    assert done(installed / "wsi-mil", "--version", cwd=tmp_path) == version


def test_ten_lines_of_python_go_from_slides_to_a_heatmap(installed: Path, tmp_path: Path) -> None:
    (text,) = [text for name, text in blocks(ROOT / "docs" / "python.md", "python") if name == "ten_lines.py"]
    assert sum(bool(line) for line in text.splitlines()) <= 10
    for number in range(10):
        label = ("normal", "tumour")[number % 2]
        lesion = (700, 150, 1000, 600) if number % 2 else None
        write_aperio(tmp_path / "slides" / f"{number}_{label}.svs", tissue_image(1240, 904, seed=number, lesion=lesion))
    (tmp_path / "ten_lines.py").write_text(text)
    said = done(installed / "python", "ten_lines.py", cwd=tmp_path)
    assert float(said.rsplit(": ", 1)[1]) > 0.5, "slide 9 has a lesion"
    with Image.open(tmp_path / "out" / "attention.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 1000, "tissue, and colours over it"


def test_fifteen_lines_of_python_go_from_follow_up_to_risks_and_what_raises_them(installed: Path, tmp_path: Path) -> None:
    (text,) = [text for name, text in blocks(ROOT / "docs" / "python.md", "python") if name == "survival.py"]
    assert sum(bool(line) for line in text.splitlines()) <= 15
    table = ["slide,months,died"]
    for number in range(16):
        lesion = (700, 150, 1000, 600) if number % 2 else None
        write_aperio(tmp_path / "slides" / f"{number:02}.svs", tissue_image(1240, 904, seed=number, lesion=lesion))
        table.append(f"slides/{number:02}.svs,{(8 if number % 2 else 40) + number / 4},{int(number % 5 > 0)}")
    (tmp_path / "follow_up.csv").write_text("\n".join(table))
    (tmp_path / "survival.py").write_text(text)
    said = done(installed / "python", "survival.py", cwd=tmp_path)
    found = re.findall(r"(\d+): log hazard ratio (\S+), cut-off (\S+), alive at \(12.0, 36.0\): \[(\S+), (\S+)\]", said)
    risk = {int(slide): float(value) for slide, value, *_ in found}
    assert set(risk) == {12, 13, 14, 15} and min(risk[13], risk[15]) > max(risk[12], risk[14])
    assert all(1 >= float(early) >= float(late) >= 0 for *_, early, late in found)
    with Image.open(tmp_path / "out" / "risk.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_the_readmes_lines_give_a_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    ((_, text),) = blocks(ROOT / "README.md", "python")
    write_aperio(tmp_path / "slide.svs", tissue_image(1240, 904))
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {})
    assert re.match(r"\(\d+, 1280\) \[\[\d+ +\d+\]", capsys.readouterr().out)
