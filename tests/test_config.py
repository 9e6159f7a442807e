import json
from pathlib import Path

import pytest
import yaml

from tests.targets import NAME, block_of
from wsi_mil.config import MODELS, Config, Training, parse_keep_gb, parse_model, parse_settings
from wsi_mil.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
LEAST = {"cohort": "c.csv", "targets": block_of("a", "b"), "models": {"m": {"model": "abmil"}}}


def faults(**changes: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(Config, {**LEAST, **changes})
    return caught.value.faults


def test_the_template_shows_every_default_as_it_is() -> None:
    template = yaml.safe_load((ROOT / "config.yaml").read_text())
    shown = Config.model_validate(template)
    models = {name: {key: entry[key] for key in ("model", "base") if key in entry} for name, entry in template["models"].items()}
    models["transmil"] |= {"embed_dim": 128, "heads": 4}  # the demo's: a smaller one takes less time
    least = Config.model_validate({"cohort": template["cohort"], "targets": template["targets"], "models": models})
    assert list(models) == ["abmil", "transmil", "mhim"] and shown == least


def test_the_template_shows_every_key() -> None:
    template = yaml.safe_load((ROOT / "config.yaml").read_text())
    text = (ROOT / "config.yaml").read_text()
    dumped = Config.model_validate(template).model_dump(mode="json")

    def keys(value: object) -> set[str]:
        if not isinstance(value, dict):
            return set()
        return set(value).union(*(keys(v) for v in value.values()))

    assert not [key for key in keys(dumped) if f"{key}:" not in text]


def test_the_template_shows_the_other_models_with_their_defaults() -> None:
    text = (ROOT / "config.yaml").read_text()
    block = text[text.index("# ---- other models") :]
    lines = [line.removeprefix("# ") for line in block.splitlines()[1:] if line.startswith("# ")]
    shown = yaml.safe_load("\n".join(lines))
    above = yaml.safe_load(text)["models"]
    assert {entry["model"] for entry in shown.values()} == set(MODELS) - set(above)
    for entry in (*shown.values(), above["mhim"]):
        kind, least = MODELS[entry["model"]], {key: entry[key] for key in ("model", "base") if key in entry}
        assert parse_model(entry) == parse_model(least)
        assert set(entry) | {"train"} == set(kind.model_fields), "every key is shown"
        published = parse_model(least).train.model_dump()
        usual = Training().model_dump()
        changed = {key for key, value in published.items() if key not in usual or usual[key] != value}
        assert set(entry.get("train", {})) == changed, "only what differs is shown"
    assert set(above["transmil"]) | {"train"} == set(MODELS["transmil"].model_fields)


def test_the_schema_for_editors_is_that_of_the_settings() -> None:
    assert json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()) == Config.model_json_schema()


def test_unknown_keys_suggest_the_nearest_known_one() -> None:
    assert faults(tragets={}) == ["tragets: unknown key; did you mean 'targets'?"]
    assert faults(encoders={"e": {"batchsize": 3}}) == ["encoders.e.batchsize: unknown key; did you mean 'batch_size'?"]
    assert faults(models={"m": {"model": "abmil", "train": {"epoch": 3}}}) == [
        "models.m.train.epoch: unknown key; did you mean 'epochs'?"
    ]


def test_all_faults_are_reported_together() -> None:
    found = faults(cohort=None, tissue={"method": "otsu"}, explain={"methods": ["atention"]}, models={"M": {"model": "abmil"}})
    assert len(found) == 4
    assert any("tissue.method" in f and "known: saturation_otsu, glass_distance" in f for f in found)
    assert any("explain.methods.0" in f and "did you mean 'attention'?" in f for f in found)


def test_an_unknown_model_is_reported_with_the_known_ones() -> None:
    assert "did you mean 'abmil'?" in faults(models={"m": {"model": "abmill"}})[0]


def test_yaml_truth_values_are_no_class_names() -> None:
    assert "put values like these in quotes" in faults(targets=block_of(*yaml.safe_load("[no, yes]")))[0]


def test_numbers_may_name_classes_but_must_differ() -> None:
    assert parse_settings(Config, {**LEAST, "targets": block_of(0, 1)}).targets[NAME].classes == ("0", "1")
    assert "targets.tumour: classes must differ" in faults(targets=block_of("a", "a"))[0]


def test_overlap_must_be_smaller_than_a_tile() -> None:
    assert "overlap must be smaller" in faults(tilings={"default": {"overlap": 224}})[0]


@pytest.mark.parametrize(("given", "read"), [("auto", "auto"), (0, 0.0), (1.5, 1.5), ("64", 64.0)])
def test_features_are_kept_by_free_memory_or_up_to_a_number(given: object, read: object) -> None:
    assert parse_settings(Config, {**LEAST, "train": {"keep_gb": given}}).train.keep_gb == read
    assert parse_keep_gb(str(given)) == read


@pytest.mark.parametrize("given", [-1, True, None, "4 GB", float("nan"), float("inf"), [4]])
def test_a_bound_on_kept_features_that_is_no_number_is_one_fault(given: object) -> None:
    (found,) = faults(train={"keep_gb": given})
    assert found.startswith("train.keep_gb: expected auto or a number of GB, 0 or more")


def test_contradictory_settings_are_a_fault() -> None:
    assert "methods must differ" in faults(explain={"methods": ["attention", "attention"]})[0]
    assert "_2 cannot be in both include and exclude" in faults(truth={"include": ["_2"]})[0]


def test_an_imported_entry_has_no_other_keys() -> None:
    config = parse_settings(Config, {**LEAST, "encoders": {"uni": {"features": "imported"}, "own": {}}})
    assert config.imported == ("uni",) and list(config.extracted) == ["own"]
    assert config.encoders["uni"].tiling == "uni" and config.encoders["own"].tiling == "default"
    assert parse_settings(Config, config.model_dump(mode="json")) == config
    (found,) = faults(encoders={"uni": {"features": "imported", "weights": "random", "batch_size": 3}})
    assert found.startswith(
        "encoders.uni: an entry with features: imported takes no other key but of; remove weights, batch_size"
    )
    (found,) = faults(encoders={"uni": {"features": "imported", "tiling": "far"}}, tilings={"far": {}})
    assert "takes no other key but of; remove tiling (entry uni)" in found


def test_classes_cut_out_of_the_tissue_are_excluded_from_the_truth() -> None:
    config = parse_settings(Config, {**LEAST, "tissue": {"exclude_classes": ["Fold", "_2"]}})
    assert config.truth.exclude == ("_2", "Fold")
    again = parse_settings(Config, config.model_dump(mode="json"))
    assert again.truth.exclude == ("_2", "Fold")
    assert "tissue.exclude_classes" in faults(tissue={"exclude_classes": ["Fold"]}, truth={"include": ["Fold"]})[0]


def test_a_class_cannot_be_tissue_and_excluded_from_it() -> None:
    said = faults(tissue={"exclude_classes": ["Fold"], "annotation_classes": ["Tumour", "Fold"]})[0]
    assert "Fold cannot be in both annotation_classes and exclude_classes" in said


@pytest.mark.parametrize(("given", "read"), [("1|2", (1, 2)), (1, (1,)), ([1, 255], (1, 255)), (None, None)])
def test_values_of_a_mask_are_whole_numbers_in_a_list_or_a_cell(given: object, read: object) -> None:
    assert parse_settings(Config, {**LEAST, "tissue": {"mask_values": given}}).tissue.mask_values == read


def test_values_of_a_mask_that_are_no_numbers_are_a_fault() -> None:
    assert "tissue.mask_values" in faults(tissue={"mask_values": "tissue"})[0]


PUBLISHED = ("transmil", "dsmil", "mhim")


def entry(model: str, **settings: object) -> dict:
    return {"model": model, **({"base": "b"} if model == "mhim" else {}), **settings}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_recipe_is_the_papers_and_survives_being_written_down(model: str) -> None:
    published = parse_model(entry(model, recipe="published"))
    constants = {
        "transmil": (200, 10, "radam_lookahead", 2e-4, (0.9, 0.999), 1e-5, False, 2, "constant"),
        "dsmil": (50, 10, "adam", 1e-4, (0.5, 0.9), 1e-3, True, 1, "cosine"),
        "mhim": (200, 30, "adam", 2e-4, (0.9, 0.999), 1e-5, True, 1, "cosine"),
    }[model]
    t = published.train
    assert constants == (
        *(t.epochs, t.patience, t.optimizer, t.lr, t.betas, t.weight_decay, t.decay_vectors, t.accumulate, t.schedule),
    )
    assert t.updates is None and t.instance_dropout == 0 and not t.class_weights and t.min_val_bags == 1
    assert published != parse_model(entry(model))
    assert parse_model(json.loads(published.model_dump_json())) == published
    assert parse_model(published.model_dump()) == published


def test_the_published_architectures_are_the_papers() -> None:
    transmil, dsmil = (parse_model({"model": name, "recipe": "published"}) for name in ("transmil", "dsmil"))
    assert (transmil.attention, transmil.position_start, transmil.settled(1).attention) == ("nystrom", "random", "nystrom")
    assert (dsmil.embed_dim, dsmil.value_layer, dsmil.average) == (None, False, False)


def test_what_a_recipe_leaves_open_may_be_said_with_it() -> None:
    found = parse_model({"model": "transmil", "recipe": "published", "landmarks": 64, "train": {"seed": 3, "lr": 2e-4}})
    assert (found.landmarks, found.train.seed, found.train.epochs) == (64, 3, 200)


def test_a_recipe_and_keys_that_it_fixes_are_named_together() -> None:
    train = {"lr": 0.01, "epochs": 30, "seed": 1}
    assert faults(models={"t": {"model": "transmil", "recipe": "published", "position_start": "zero", "train": train}}) == [
        "models.t: recipe 'published' fixes position_start (random), train.lr (0.0002), train.epochs (200); leave out the recipe,"
        " or these keys"
    ]
    (found,) = faults(models={"d": {"model": "dsmil", "recipe": "published", "average": True}})
    assert "models.d: recipe 'published' fixes average (False)" in found


def test_a_training_has_one_length() -> None:
    assert Training().updates == 640 and Training(epochs=5).updates is None
    (found,) = faults(models={"m": {"model": "abmil", "train": {"epochs": 5, "updates": 100}}})
    assert found.startswith("models.m.train: give updates or epochs and not both, got 100 and 5")
    (found,) = faults(models={"m": {"model": "abmil", "train": {"updates": None}}})
    assert "got None and None" in found


def test_exact_attention_that_would_not_come_to_an_end_says_what_it_would_take_and_what_to_set() -> None:
    assert parse_model({"model": "transmil", "exact_up_to": 20_000}).exact_up_to == 20_000
    (found,) = faults(models={"t": {"model": "transmil", "exact_up_to": 100_000}})
    assert found.startswith("models.t: exact_up_to must be 20,000 or less, got 100,000") and "about 25 minutes" in found
