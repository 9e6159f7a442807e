import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import tissue_image, write_aperio, write_cohort
from tests.evaluate.test_stage import Cohort, evidence
from tests.targets import block_of, option_of
from tests.test_heatmaps import write_scored
from wsi_mil.cohort import SlideStatus, write_status
from wsi_mil.records import Status

RULES = Path(__file__).resolve().parents[1] / "workflow" / "rules"
LIGHT = """
import sys
from wsi_mil.cli import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print("torch" if "torch" in sys.modules else "light", file=sys.stderr)
"""


def run(*args: str, cwd: Path, text: str = "", **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wsi_mil", *args]
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, env={**os.environ, **env})


def is_light(*args: str, cwd: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", LIGHT, *args], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip().endswith("light")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = write_aperio(tmp_path / "a.svs", tissue_image(640, 448)).read_bytes()
    rows = [{"slide_id": f"s{i}", "path": f"{i}.svs", "label": "np"[i % 2]} for i in range(10)]
    for row in rows:
        (tmp_path / row["path"]).write_bytes(content)
    write_cohort(tmp_path, rows)
    (tmp_path / "c.yaml").write_text(
        f"cohort: cohort.csv\ntargets: {json.dumps(block_of('n', 'p'))}\nmodels: {{m: {{model: abmil}}}}\n"
    )
    return tmp_path


def test_help_check_inspect_tile_and_heatmap_never_import_torch(folder: Path) -> None:
    assert is_light("--help", cwd=folder)
    assert is_light("check", "c.yaml", cwd=folder)
    assert is_light("inspect", "a.svs", cwd=folder)
    tiling = json.dumps({"tiling": {"tile_px": 64}, "tissue": {}})
    assert is_light("tile", '--row={"slide_id": "a", "path": "a.svs"}', f"--settings={tiling}", "--tiles=t", cwd=folder)
    scores, tiles = write_scored(folder)
    about = ["--method=attention", "--settings={}", "--heatmaps=h", f"--scores={scores.parent}", f"--tiles={tiles.parent}"]
    assert is_light("heatmap", '--row={"slide_id": "s"}', *about, cwd=folder)
    assert (folder / "h" / "s" / "attention.png").stat().st_size > 1000


def test_evaluate_never_imports_torch(folder: Path) -> None:
    Cohort(folder).add("s1", "p", evidence=evidence(t5=2))
    write_status(folder / "status.csv", [SlideStatus("s1", Status.OK, "", "", {"e": 12})])
    about = ["--sheet=cohort.csv", option_of("n", "p"), "--status=status.csv", "--scores=scores", "--tiles=tiles"]
    assert is_light("evaluate", *about, "--truth={}", '--settings={"bootstrap": 100}', "--figures=e.json", cwd=folder)
    assert json.loads((folder / "e.json").read_text())["n_slides"] == 1 and (folder / "e.csv").is_file()


def test_check_reads_a_file_or_standard_input(folder: Path) -> None:
    done = run("check", "c.yaml", cwd=folder)
    said = ["c.yaml: 10 slides: no faults", "target tumour: 10 slides labelled, 5 folds"]
    assert done.returncode == 0 and done.stdout.splitlines() == said
    done = run("check", cwd=folder, text=(folder / "c.yaml").read_text())
    assert done.returncode == 0 and len(json.loads(done.stdout)["slides"]) == 10


def test_check_lists_unused_columns_in_one_line(folder: Path) -> None:
    sheet = folder / "cohort.csv"
    lines = sheet.read_text().splitlines()
    wide = [f"note {n}" for n in range(30)]
    sheet.write_text("\n".join([",".join([lines[0], *wide]), *(line + "," * 30 for line in lines[1:])]))
    done = run("check", "c.yaml", cwd=folder)
    assert done.returncode == 0 and "no faults" in done.stdout
    (note,) = done.stderr.splitlines()
    assert note.startswith("note: cohort.csv: these columns are not used: note 0, note 1, ") and note.endswith("and 10 more")


def test_faults_are_lines_and_exit_code_2(folder: Path) -> None:
    (folder / "c.yaml").write_text(f"cohort: cohort.csv\ntargets: {json.dumps(block_of('n', 'q'))}\nmodel: {{}}\n")
    done = run("check", "c.yaml", cwd=folder)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and not done.stdout
    assert "error: model: unknown key; did you mean 'models'?" in lines
    (fault,) = (line for line in lines if "cohort.csv" in line)
    assert "column label: 'p' in rows 3, 5, 7, 9, 11 (5 slides): not in targets.tumour.classes" in fault
    assert all(line.startswith("error: ") for line in lines)


def test_an_invalid_configuration_is_reported_in_one_line(folder: Path) -> None:
    for text in ("just words", "a: [", ""):
        (folder / "c.yaml").write_text(text)
        done = run("check", "c.yaml", cwd=folder)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_missing_store_is_reported_in_one_line(folder: Path) -> None:
    about = ["--method=attention", "--settings={}", "--heatmaps=h"]
    done = run("heatmap", "--scores=no", "--tiles=no", '--row={"slide_id": "s"}', *about, cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith("error: no/s.json: is no readable receipt")


def test_the_version_is_printed(folder: Path) -> None:
    from wsi_mil import __version__

    assert run("--version", cwd=folder).stdout.strip() == __version__


def test_help_has_the_stages_under_one_heading_and_other_commands_under_others() -> None:
    import typer

    from wsi_mil.cli import PANELS, STAGES, app

    shown = {name: found for name, found in typer.main.get_command(app).commands.items() if not found.hidden}
    of_rules = re.findall(r'"wsi-mil ([a-z-]+) ', "".join(file.read_text() for file in RULES.glob("*.smk")))
    assert {name for name, found in shown.items() if found.rich_help_panel == STAGES} == set(of_rules)
    assert {name for names in PANELS.values() for name in names} == set(shown) - set(of_rules)


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "utf-16"])
def test_a_terminal_of_another_encoding_gets_other_letters_and_the_same_exit_code(folder: Path, encoding: str) -> None:
    """A file name, too, that is no text at all."""
    shutil.copy(folder / "a.svs", folder / "ü\udcff×.svs")
    command = [sys.executable, "-m", "wsi_mil", "inspect", "ü\udcff×.svs"]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=folder, capture_output=True, env=env)
    said = done.stdout.decode(encoding)
    assert (done.returncode, done.stderr) == (0, b"") and "0.5 " in said and "?m" in said.replace("µ", "?"), done.stderr
    missing = subprocess.run([*command[:-1], "µ×ü"], cwd=folder, capture_output=True, env=env)
    assert missing.returncode == 2 and "no such file" in missing.stderr.decode(encoding)
    assert run("--help", cwd=folder, PYTHONIOENCODING="ascii").stdout.isascii()


def test_json_does_not_depend_on_the_terminals_encoding(folder: Path) -> None:
    shutil.copy(folder / "a.svs", folder / "ü×.svs")
    (folder / "c.yaml").write_text((folder / "c.yaml").read_text().replace("cohort.csv", "./ü.csv"), encoding="utf-8")
    shutil.copy(folder / "cohort.csv", folder / "ü.csv")
    config = json.dumps({"cohort": "ü.csv", "targets": block_of("n", "p"), "models": {"m": {"model": "abmil"}}})
    for args, key, value in ((("inspect", "ü×.svs", "--json"), "path", "ü×.svs"), (("check",), "cohort", "ü.csv")):
        ascii_only, plain = (run(*args, cwd=folder, text=config, PYTHONIOENCODING=e) for e in ("ascii", "utf-8"))
        assert ascii_only.stdout == plain.stdout and plain.stdout.isascii() and plain.returncode == 0, plain.stderr
        found = json.loads(plain.stdout)
        assert (found if key == "path" else found["config"])[key] == value


@pytest.mark.parametrize("args", [("schema",), ("--version",), ("encoders",)])
def test_a_closed_pipe_ends_a_command_silently(folder: Path, args: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "wsi_mil", *args], cwd=folder, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_behind_standard_output_is_reported_in_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wsi_mil", "--version"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.startswith("error: the disk is full"), done.stderr
