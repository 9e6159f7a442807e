"""The real DAG on slides that lie on a server: which jobs run after which change."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image, write_aperio
from tests.dag import ODD_NAME, Run, make_cohort
from tests.servers import Files, file_server
from wsi_mil.receipts import read_receipt

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def served(run: Run) -> Iterator[Files]:
    """The cohort's slides on a web server, and only there as far as the sheet says."""
    with file_server(run.sheet.parent) as files:
        run.write_rows([{**row, "path": f"{files.url}/{quote(row['path'])}"} for row in run.rows()])
        yield files


@pytest.fixture
def run(command: Path, tmp_path: Path) -> Run:
    """A cohort in files, of which nothing is made yet."""
    (tmp_path / "co hort").mkdir()
    make_cohort(tmp_path / "co hort")
    found = Run(tmp_path, command)
    found.config()
    return found


def test_slides_that_move_to_a_server_are_copied_once_and_nothing_is_encoded_anew(
    run: Run, request: pytest.FixtureRequest
) -> None:
    scratch = run.folder / "scratch"
    assert run.snakemake("features") == {"tile": 10, "extract": 10}
    before = {path.name: path.read_bytes() for path in run.results("features/tiny").glob("*.json")}
    served: Files = request.getfixturevalue("served")
    run.config(remote={"staging": "scratch", "scratch": str(scratch), "scratch_gb": 0.1})
    assert run.snakemake("features") == {"tile": 10, "extract": 10, "unstage": 1}
    assert "encoded already" in (run.folder / "logs/extract/tiny/s0.log").read_text()
    after = {path.name: path.read_bytes() for path in run.results("features/tiny").glob("*.json")}
    assert {name for name in after if after[name] != before[name]} == {"text.json"}, "the reason names the address"
    assert [path for path in scratch.rglob("*") if path.is_file() and path.name != ".lock"] == [], "no copy stays behind"
    assert served.sent["s2.svs"] == (run.sheet.parent / "s2.svs").stat().st_size
    assert run.snakemake("features") == {}
    run.config()
    assert run.snakemake("features") == {}, "where slides are read from changes nothing"
    served.sent.clear()
    counts = run.snakemake("results/heatmaps/tumour/tiny/abmil/s1/attention.png")
    assert (counts["train"], counts["explain"], counts["heatmap"]) == (2, 1, 1)
    with Image.open(run.results("heatmaps/tumour/tiny/abmil/s1/attention.tiles.png")) as gallery:
        assert np.asarray(gallery.convert("RGB"))[60:200, 60:200].std() > 20, "tiles of the slide"
    assert list(served.sent) == [ODD_NAME]


def test_the_version_on_the_server_decides_what_runs_again(run: Run, served: Files) -> None:
    assert run.snakemake("features") == {"tile": 10, "extract": 10}
    assert read_receipt(run.results("tiles/default/s2.json"))["reader"] == "tiffslide"
    assert run.snakemake("features") == {}
    write_aperio(run.sheet.parent / "s2.svs", tissue_image(640, 448, seed=70))
    assert run.snakemake("features") == {"tile": 1, "extract": 1}
    assert all("s2" in call for call in run.calls)
    served.answers["s3.svs"] = [404]
    assert run.snakemake("features") == {} and "its existing results are used" in run.output
    served.answers["s3.svs"] = [500]
    run.config(remote={"attempts": 1})
    assert run.snakemake("features") == {} and "answers 500" in run.output
    served.answers.clear()
    assert run.snakemake("features") == {}


def test_what_the_server_does_not_have_is_a_status_and_what_it_cannot_send_now_is_tried_again(run: Run, served: Files) -> None:
    for number, name in enumerate(("late", "moment", "down")):
        write_aperio(run.sheet.parent / f"{name}.svs", tissue_image(640, 448, seed=80 + number))
    rows = [{"slide_id": n, "path": f"{served.url}/{n}.svs", "label": ""} for n in ("late", "moment", "down")]
    run.write_rows([*run.rows(), *({**dict.fromkeys(run.rows()[0], ""), **row} for row in rows)])
    run.config(remote={"attempts": 1})
    served.answers |= {"late.svs": [404], "moment.svs": [200, 503, 503, 200], "down.svs": [500]}
    counts = run.snakemake("features", expected=1)
    assert counts["tile"] == 10 + 1 + 2 + 2, "one attempt more for the moment, and one for what is down"
    late, moment = (run.results(f"tiles/default/{name}.json") for name in ("late", "moment"))
    assert read_receipt(late)["status"] == "failed" and "(404)" in read_receipt(late)["reason"]
    assert read_receipt(moment)["status"] == "ok" and not run.results("tiles/default/down.json").exists()
    assert "answers 500" in (run.folder / "logs/tile/default/down.log").read_text()
    served.answers.clear()
    counts = run.snakemake("features")
    assert (counts["tile"], counts["extract"]) == (2, 2), "what is there now has its features"
    assert run.snakemake("features") == {}
    before = np.asarray(read_receipt(run.results("features/tiny/moment.json"))["n_tiles"])
    assert before > 0 and read_receipt(run.results("features/tiny/down.json"))["status"] == "ok"


def test_an_address_with_a_password_stops_the_run_and_is_not_repeated(run: Run, served: Files) -> None:
    rows = run.rows()
    rows[0]["path"] = served.url.replace("://", "://anna:geheim@") + "/s0.svs"
    rows[1]["path"] = f"{served.url}/s2.svs?sig=geheim"
    run.write_rows(rows)
    assert run.snakemake(expected=2) == {}
    assert "row 2" in run.output and "row 3" in run.output and "geheim" not in run.output
    said = [p for p in run.folder.rglob("*") if p.is_file() and p != run.sheet and b"geheim" in p.read_bytes()]
    assert not said
