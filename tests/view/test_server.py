import io
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.view.conftest import HTML, asking
from tests.view.made import BLUE, CORNER, GROUND, MARKER, TILE, Results
from wsi_mil.view import Catalogue

LAYER = "/slides/s1/layers/tumour/enc/abmil/attention/raw"


def about(client: TestClient, slide_id: str) -> dict:
    """What the slide page gives its script."""
    page = client.get(f"/slides/{slide_id}")
    assert page.status_code == 200
    return json.loads(re.search(r'id="slide-data">(.*?)</script>', page.text, re.DOTALL)[1])


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_slide_and_overlay_show_the_marked_tile_at_the_same_position(client: TestClient) -> None:
    image = about(client, "s1")["image"]
    level, column, row = image["max_level"], MARKER[0] // 256, MARKER[1] // 256
    slide = picture(client.get(f"/slides/s1/image/{image['version']}/{level}/{column}_{row}.jpg").content)
    heat = client.get(f"{LAYER}/viridis/500/{level}/{column}_{row}.png")
    alpha = np.asarray(Image.open(io.BytesIO(heat.content)))[..., 3]
    is_blue = np.abs(slide - BLUE).max(axis=2) < 60
    assert (is_blue == (alpha > 0)).mean() > 0.995 and (alpha > 0).sum() == TILE**2


def test_slide_overlay_strip_and_annotation_are_aligned_on_a_slide_with_bounds(tmp_path: Path) -> None:
    made = Results(tmp_path)
    made.add_bounded("b")
    (x, y), layer = (np.array(CORNER) + MARKER), "/slides/b/layers/tumour/enc/abmil/attention/raw"
    with asking(made.catalogue()) as client:
        image = about(client, "b")["image"]
        place = f"{image['max_level']}/{x // 256}_{y // 256}"
        slide = picture(client.get(f"/slides/b/image/{image['version']}/{place}.jpg").content)
        heat = client.get(f"{layer}/viridis/500/{place}.png")
        ring = client.get("/slides/b/outlines/truth/default.json").json()["rings"][0]
        best = client.get(f"{layer}/about.json").json()["top"][0]
        tile = picture(client.get(f"{layer}/tiles/{best['index']}.jpg").content)
    alpha = np.asarray(Image.open(io.BytesIO(heat.content)))[..., 3]
    is_blue = np.abs(slide - BLUE).max(axis=2) < 60
    assert image["dimensions"] == list(GROUND) and image["bounds"] == [*CORNER, 1600, 1120]
    assert (is_blue == (alpha > 0)).mean() > 0.995 and (alpha > 0).sum() > 1000
    assert (min(ring[::2]), max(ring[::2]), min(ring[1::2]), max(ring[1::2])) == (x, x + TILE, y, y + TILE)
    assert best["box"] == [x, y, x + TILE, y + TILE] and np.abs(tile - BLUE).max() < 30


def test_a_tile_of_the_strip_is_cut_from_the_slide(client: TestClient) -> None:
    best = client.get(f"{LAYER}/about.json?map=viridis").json()["top"][0]
    image = picture(client.get(f"{LAYER}/tiles/{best['index']}.jpg").content)
    assert image.shape == (TILE, TILE, 3) and np.abs(image - BLUE).max() < 30


def test_description_of_a_layer_and_score_at_a_position(client: TestClient) -> None:
    layer = client.get(f"{LAYER}/about.json").json()
    assert (layer["low"], layer["high"], layer["n"], layer["kind"]) == (0.0, 5.0, 425, "kind of attention")
    assert "log odds of tumour" in layer["label"]
    assert client.get(f"{LAYER}/at.json?x={MARKER[0] + 1}&y={MARKER[1] + 1}").json()["value"] == 5.0
    assert client.get(f"{LAYER}/at.json?x=1&y=1110").json() is None
    assert client.get(f"{LAYER}/at.json?x=1").status_code == 404


def test_the_slide_page_has_label_prediction_and_methods(client: TestClient) -> None:
    found = about(client, "s2")
    entry = found["entries"][0]
    assert (found["previous"], found["next"], found["position"]) == ("s1", "s10", [2, 4])
    assert found["targets"] == [{"name": "tumour", "truth": "label", "label": "tumour"}]
    assert [method["name"] for method in entry["methods"]] == ["attention", "evidence"]
    shown = {"predicted": "tumour", "is_wrong": False, "name": "P(tumour)", "number": "0.700 (threshold 0.500)", "fold": "1"}
    assert entry["prediction"] == shown and entry["tiling"] == "default"
    assert found["image"]["mpp"] == [0.5, 0.5] and found["image"]["dimensions"] == [1600, 1120]


def test_the_cohort_json_has_the_values_that_the_page_filters_by(client: TestClient) -> None:
    lines = {line["slide"]: line for line in client.get("/cohort.json?entry=enc/abmil").json()}
    wrong = {"label": "normal", "predicted": "tumour", "prob": "0.8", "fold": "2", "wrong": "1", "page": "1", "tiles": "425"}
    assert wrong.items() <= lines["s10"].items() and lines["bad"]["reason"] == HTML and lines["bad"]["prob"] == ""
    assert client.get("/cohort.json?entry=enc/none").status_code == 404


def test_outlines_are_those_of_annotation_and_tissue(client: TestClient) -> None:
    ring = client.get("/slides/s1/outlines/truth/default.json").json()["rings"][0]
    assert (min(ring[::2]), max(ring[::2])) == (MARKER[0], MARKER[0] + TILE)
    assert (min(ring[1::2]), max(ring[1::2])) == (MARKER[1], MARKER[1] + TILE)
    assert client.get("/slides/s1/outlines/tissue/default.json").json()["note"]  # no outline was written: said


NOT_THERE = [
    "/slides/none",
    "/slides/..",
    "/slides/../../etc/passwd",
    "/slides/..%2f..%2fetc%2fpasswd",
    "/slides/%2e%2e%2fs1",
    "/slides/%252e%252e%252fs1",
    "/slides//etc/passwd",
    "/slides/%2Fetc%2Fpasswd",
    "/slides/s1.json",
    "/slides/s1%00",
    "/slides/S1",
    "/slides/s1%2f..%2fs2",
    "/slides/..%5c..%5cs1",
    "/slides/s1/image/none/0/0_0.jpg",
    "/slides/s1/image/thumbnail/0/0_0.jpg",
    "/slides/s1/image/../0/0_0.jpg",
    "/slides/s1/label.jpg",
    "/slides/s1/macro.jpg",
    "/slides/s1/outlines/truth/..%2fdefault.json",
    "/slides/s1/outlines/../default.json",
    "/slides/s1/layers/tumour/enc/..%2fabmil/attention/raw/about.json",
    "/slides/s1/layers/tumour/../abmil/attention/raw/about.json",
    "/slides/s1/layers/tumour/%2e%2e/abmil/attention/raw/about.json",
    "/slides/s1/layers/tumour/enc/abmil/coords/raw/about.json",
    "/slides/s1/layers/tumour/enc/abmil/..%2fs2/raw/about.json",
    "/slides/s1/layers/tumour/enc/abmil/attention/none/about.json",
    f"{LAYER}/none/0/11/0_0.png",
    f"{LAYER}/viridis/0/99/0_0.png",
    f"{LAYER}/viridis/0/11/7_0.png",
    f"{LAYER}/viridis/-1/11/0_0.png",
    f"{LAYER}/viridis/0/11/-1_0.png",
    f"{LAYER}/tiles/425.jpg",
    f"{LAYER}/tiles/99999999999999999999.jpg",
    f"{LAYER}/tiles/{'9' * 5000}.jpg",
    f"{LAYER}/viridis/{'9' * 400}/11/0_0.png",
    f"/slides/s1/image/thumbnail/{'9' * 5000}/0_0.jpg",
    "/colours/none.png",
    "/?entry=enc/..",
    "/?entry=../..",
    "/?target=none",
    "/?target=../tumour",
    "/slides/s1/layers/none/enc/abmil/attention/raw/about.json",
    "/slides/s1/layers/../enc/abmil/attention/raw/about.json",
    "/slides/s1/layers/%2e%2e/enc/abmil/attention/raw/about.json",
    "/static/../server.py",
    "/static/%2e%2e/server.py",
    "/static/..%2fserver.py",
    "/static//etc/passwd",
    "/results/cohort_status.csv",
]


@pytest.mark.parametrize("path", NOT_THERE, ids=lambda path: path[:60])
def test_unknown_paths_are_not_found(served: str, path: str) -> None:
    """Sent as it stands: most clients would tidy `..` away by themselves."""
    connection = HTTPConnection(served.removeprefix("http://"), timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404 and b"root:" not in answer.read()
    connection.close()


def test_only_get_requests_are_allowed(client: TestClient) -> None:
    assert [client.request(method, "/").status_code for method in ("POST", "PUT", "DELETE")] == [405] * 3


def test_every_response_has_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/slides/s1", "/static/slide.js", "/slides/none", f"{LAYER}/about.json"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_html_in_names_labels_and_reasons_is_text(made: Results) -> None:
    made.rows[0]["label"] = "<b>bold</b>"
    made.rows[1]["patient_id"] = '"><script>alert(1)</script>'
    made.write_status(
        {"s1": ("ok", ""), "<i>odd</i>": ("failed", HTML), "../up": ("ok", ""), "bad": ("failed", "</script>" + HTML)}
    )
    with asking(made.catalogue(notes=(HTML,))) as client:
        cohort, slide = client.get("/").text, client.get("/slides/bad").text
        assert client.get("/slides/%3Ci%3Eodd%3C%2Fi%3E").status_code == 404
    for page in (cohort, slide):
        assert "<img src=x" not in page and "<i>odd" not in page and "<b>bold" not in page and "<script>alert" not in page
    assert "&lt;i&gt;odd&lt;/i&gt;" in cohort and "&lt;b&gt;bold" in cohort
    assert 'href="/slides/..' not in cohort and slide.count("</script>") == 3


def test_a_moved_slide_is_shown_as_its_thumbnail_with_a_note(made: Results) -> None:
    (made.folder / "s1.svs").rename(made.folder / "elsewhere.svs")
    with asking(made.catalogue()) as client:
        found = about(client, "s1")
        assert "the slide file is gone" in found["notes"][0] and found["image"]["version"] == "thumbnail"
        level = found["image"]["max_level"]
        image = picture(client.get(f"/slides/s1/image/thumbnail/{level}/0_0.jpg").content)
        assert client.get(f"/slides/s1/image/thumbnail/{level + 1}/0_0.jpg").status_code == 404
        x, y = (side // 2 ** (found["image"]["full_level"] - level) for side in (MARKER[0] + 32, MARKER[1] + 32))
        heat = client.get(f"{LAYER}/about.json")
    assert np.abs(image[y % 256, x % 256] - BLUE).max() < 60 if x < 256 else image.size
    assert heat.status_code == 200


def test_another_file_in_place_of_the_slide_is_not_shown(made: Results) -> None:
    content = (made.folder / "s1.svs").read_bytes()
    (made.folder / "s1.svs").write_bytes(content + b"x")
    with asking(made.catalogue()) as client:
        assert "is not the file that was tiled" in about(client, "s1")["notes"][0]


def test_without_a_sheet_heatmaps_are_shown_over_the_thumbnails(made: Results) -> None:
    with asking(Catalogue(made.results)) as client:
        found = about(client, "s1")
        assert "--configfile" in found["notes"][0] and found["entries"][0]["methods"]
        assert client.get("/slides/s1/thumbnail.jpg").status_code == 200
        assert "tumour" in client.get("/").text


def test_a_slide_whose_row_has_a_fault_is_shown_as_its_thumbnail_with_a_note(made: Results) -> None:
    made.rows.pop(2)
    with asking(made.catalogue()) as client:
        note = about(client, "s10")["notes"][0]
        assert "cohort sheet has no valid row" in note and "thumbnail made by `tile`" in note
        assert about(client, "s1")["notes"] == []


def test_imported_features_without_a_slide_are_shown_on_a_plain_background(tmp_path: Path) -> None:
    made = Results(tmp_path)
    slide = made.add_marked("s1", scored=False)
    made.rows[0]["path"] = ""
    slide.tiles |= {"reader": "imported", "slide_hash": "", "imported": {"extent": [70.5, 60.0], "stride": [80.0, 64.0]}}
    slide.slide_hash = ""
    made.write_tiles(slide)
    made.write_scores(slide, {})
    with asking(made.catalogue()) as client:
        note = about(client, "s1")["notes"][0]
        assert note == "tiles are drawn in grey instead of the slide: there is no slide file, the features were imported"
        assert client.get(f"{LAYER}/about.json").json()["n"] == 425


def test_a_half_written_store_is_reported_and_the_rest_shown(made: Results) -> None:
    (made.results / "scores/tumour/enc/abmil/s1.zarr/attention/c/0").unlink()
    with asking(made.catalogue()) as client:
        answer = client.get(f"{LAYER}/about.json")
        assert answer.status_code == 409 and "is missing" in answer.json()["reason"]
        assert client.get(LAYER.replace("attention", "evidence") + "/about.json").status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        *("null", "3", "[]", '{"dimensions": null}', '{"status": 5, "dimensions": [1], "bounds": 3}'),
        *(
            '{"dimensions": [1600, "x"], "bounds": null}',
            '{"dimensions": [1600, 1120], "bounds": [1, 2], "mpp": 0.5}',
            '{"dimensions": [0, 0]}',
        ),
    ],
)
def test_an_invalid_receipt_of_tile_does_not_affect_the_rest(made: Results, text: str) -> None:
    (made.results / "tiles/default/s1.json").write_text(text)
    with asking(made.catalogue()) as client:
        found = [client.get(f"/slides/s1{path}") for path in ("", "/thumbnail.jpg", "/outlines/truth/default.json")]
        assert [answer.status_code for answer in found] == [200] * 3 and found[2].json()["note"]
        assert client.get(f"{LAYER}/about.json").status_code == 409 and client.get("/").status_code == 200


def test_scores_are_shown_even_if_their_receipt_lacks_keys(made: Results) -> None:
    path = made.results / "scores/tumour/enc/abmil/s1.json"
    receipt = json.loads(path.read_text())
    for name in ("kind", "reason"):
        del receipt["methods"]["attention"][name]
    path.write_text(json.dumps(receipt))
    with asking(made.catalogue()) as client:
        found = client.get(f"{LAYER}/about.json").json()
    assert (found["n"], found["kind"], found["reason"]) == (425, "", "")


def test_slides_used_in_training_and_optimistic_metrics_are_marked(made: Results) -> None:
    """With a fixed split and `include_train`; of s1 there are no scores yet."""
    path = made.results / "predictions/tumour/enc/abmil.csv"
    roles = dict(
        zip(
            ("slide_id", "s1", "s2", "s10"),
            ("role,protocol", "train,as_published", "test,as_published", "val,as_published"),
            strict=True,
        )
    )
    with asking(made.catalogue()) as client:
        assert "Marked" not in client.get("/").text
    path.write_text("".join(f"{line},{roles[line.partition(',')[0]]}\n" for line in path.read_text().splitlines()))
    (made.results / "scores/tumour/enc/abmil/s1.json").unlink()
    with asking(made.catalogue()) as client:
        page, notes = client.get("/").text, about(client, "s1")["entries"][0]["notes"]
    marks = [re.search(f'data-slide="{name}".*?</tr>', page, re.DOTALL)[0] for name in ("s1", "s2", "s10")]
    assert [re.findall("(?:training|validation) slide", row) for row in marks] == [["training slide"], [], ["validation slide"]]
    assert "Marked as training slide: the model was trained on it." in page and "metrics are optimistic." in page
    assert "the model was trained on it" in notes[0] and "metrics are optimistic" in notes[1]


@pytest.mark.parametrize("written", ["nan", "1e999", "high"])
def test_an_invalid_probability_does_not_break_the_pages(made: Results, written: str) -> None:
    path = made.results / "predictions/tumour/enc/abmil.csv"
    path.write_text(path.read_text().replace("0.900000", written))
    with asking(made.catalogue()) as client:
        found, lines = about(client, "s1"), client.get("/cohort.json").json()
    assert found["entries"][0]["prediction"]["number"] == "" and lines[0]["prob"] == "" and lines[1]["prob"] == "0.7"


def test_a_method_without_scores_has_a_reason(made: Results) -> None:
    slide = made.add_marked("s1", scored=False, prob=0.2)
    made.rows.pop()
    slide.values[:] = np.nan
    slide.reason = "predicted negative: sparse inversion finds no key instances"
    made.write_scores(slide, {})
    with asking(made.catalogue()) as client:
        method = about(client, "s1")["entries"][0]["methods"][0]
        layer = client.get(f"{LAYER}/about.json").json()
        assert layer["n"] == 0 and layer["top"] == [] and method["reason"] == slide.reason == layer["reason"]
        empty = client.get(f"{LAYER}/viridis/0/11/0_0.png")
    assert np.asarray(Image.open(io.BytesIO(empty.content)))[..., 3].max() == 0


def test_the_note_about_missing_scores_depends_on_the_status(made: Results) -> None:
    (made.results / "scores/tumour/enc/abmil/s2.json").unlink()
    made.rows.append({**made.rows[-1], "slide_id": "later"})
    with asking(made.catalogue()) as client:
        assert "`explain` has not finished" in about(client, "s2")["entries"][0]["notes"][0]
        assert about(client, "bad")["entries"][0]["notes"] == [
            "no scores of this slide for this model: the slide was excluded (failed)"
        ]
        assert "1 slide is not fully processed" in client.get("/").text


def test_the_count_of_one_slide_is_singular(tmp_path: Path) -> None:
    made = Results(tmp_path)
    made.add_marked("s1")
    with asking(made.catalogue()) as client:
        assert "1 slide ·" in client.get("/").text


@pytest.fixture
def unfinished(made: Results) -> Iterator[TestClient]:
    """A run that has tiled, and no more."""
    for name in ("cohort_status.csv",):
        (made.results / name).unlink()
    for folder in ("scores", "predictions"):
        (made.results / folder).rename(made.folder / folder)
    (made.results / "tiles/default/.s7.json.part").write_text("{")
    (made.results / "tiles/default/cut.json").write_text('{"status": "ok", "dim')
    with asking(made.catalogue()) as client:
        yield client


def test_an_unfinished_run_shows_its_results_so_far(unfinished: TestClient) -> None:
    page = unfinished.get("/").text
    assert "The run is not finished" in page and "cut" in page and "s7" not in page
    assert about(unfinished, "s1")["entries"] == [] and about(unfinished, "s1")["image"]["version"] != "thumbnail"
    assert about(unfinished, "bad")["image"] is None and about(unfinished, "bad")["status"] == "failed"
    assert about(unfinished, "cut")["image"] is None
    assert unfinished.get("/slides/cut/thumbnail.jpg").status_code == 200


def test_an_empty_results_folder_is_an_empty_page(tmp_path: Path) -> None:
    with asking(Catalogue(tmp_path)) as client:
        page = client.get("/")
    assert page.status_code == 200 and "0 slides" in page.text
