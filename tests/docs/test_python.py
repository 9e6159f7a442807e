"""The package as a wheel, in an environment of its own, used from Python as docs/python.md has it."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio
from tests.docs.pages import ROOT, blocks
from tests.wheels import done

pytestmark = [pytest.mark.slow, pytest.mark.system]


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
