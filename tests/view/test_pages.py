from dataclasses import replace

from tests.targets import NAME
from tests.view.made import Results
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.view.pages import slide_json
from wsi_mil.view.slide_images import SlideImage


def test_a_note_says_that_the_scale_bar_is_horizontal_if_pixels_are_not_square(made: Results) -> None:
    image = SlideImage(dimensions=(700, 300), version="v", max_level=9, mpp=Mpp(0.5, 0.503), note="")
    assert slide_json(made.catalogue(), "s1", image)["notes"] == []
    (note,) = slide_json(made.catalogue(), "s1", replace(image, mpp=Mpp(0.5, 0.25)))["notes"]
    assert "0.5 µm wide and 0.25 µm high" in note and "valid horizontally only" in note


def test_a_verdict_on_models_that_were_trained_again_is_no_note(made: Results) -> None:
    image = SlideImage(None, "", 0, None, "")
    verdict = {"figure": "AUROC", "value": 0.5, "ci95": [0.3, 0.7], "chance": 0.5, "on": "held-out", "n_slides": 9}
    content = {"model": {**verdict, "is_better": False}, "outputs": {}, "methods": {}, "models": "a"}
    write_receipt(made.results / "trust" / NAME / "enc" / "abmil.json", content)
    receipt = made.results / "scores" / NAME / "enc/abmil/s1.json"
    for models, n_notes in (("a", 1), ("b", 0)):
        write_receipt(receipt, {**read_receipt(receipt), "models": models})
        (entry,) = [
            e for e in slide_json(made.catalogue(), "s1", image)["entries"] if (e["encoder"], e["model"]) == ("enc", "abmil")
        ]
        assert sum(note.startswith("not to be interpreted") for note in entry["notes"]) == n_notes
