"""The names of `wsi_mil` itself: they load lazily, are typed and documented, and build models from keywords."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_type_hints

import pytest
import torch

import wsi_mil
from tests.docs.pages import ROOT, blocks
from wsi_mil import config
from wsi_mil.config import parse_base, parse_model
from wsi_mil.errors import ConfigError
from wsi_mil.models import MHIM, MILModel, create_mhim, create_model, keywords

PACKAGE = Path(wsi_mil.__file__).parent
PAGE = ROOT / "docs" / "api.md"

every_name = pytest.mark.parametrize("name", wsi_mil.__all__)
MODELS: dict[str, Callable[..., MILModel]] = {
    entry: resolve_name(record.implementation) for entry, record in config.MODELS.items() if entry != "mhim"
}
every_model = pytest.mark.parametrize("entry", [entry for entry, model in MODELS.items() if model.__name__ in wsi_mil.__all__])

KEYWORDS: dict[str, dict[str, Any]] = {
    "instance_pool": {"pool": "mean", "embed_dim": 5},
    "embedding_pool": {"pool": "max", "embed_dim": None},
    "abmil": {"gated": False, "embed_dim": 4, "attention_bias": False},
    "transmil": {"embed_dim": 24, "heads": 3, "attention": "nystrom", "landmarks": 2, "position_start": "random"},
    "dsmil": {"recipe": "published"},
    "clam": {"branches": "multi", "embed_dim": 6, "attention_dim": 3},
    "dtfd": {"distil": "maxs", "pseudo_bags": 3, "embed_dim": 7, "attention_dim": 2},
    "mean_linear": {"statistics": "mean_std", "train": {"penalties": (0.5, 2.0)}},
    "kraus_pool": {"pool": "isr", "joint": False, "embed_dim": 5, "train": {"lr": 0.25}},
}
"""Of each model keywords that change its weights."""


def loaded_by(statement: str) -> set[str]:
    """Names of the top-level packages that a statement loads in a process of its own."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    return {name.split(".")[0] for name in ran.stdout.split()}


def test_importing_the_package_loads_the_standard_library_only() -> None:
    assert loaded_by("import wsi_mil") - sys.stdlib_module_names == {"wsi_mil"}


@pytest.mark.parametrize(
    "names", ["ConfigError, WsiMilError", "open_slide, read_tiles, Slide", "read_bag, read_scores, tile_slide"]
)
def test_slides_stores_and_errors_load_no_torch(names: str) -> None:
    found = loaded_by(f"from wsi_mil import {names}")
    assert "torch" not in found and ("numpy" in found) == ("Error" not in names)


@every_name
def test_a_public_name_is_the_object_of_its_module_and_has_a_docstring(name: str) -> None:
    found = getattr(wsi_mil, name)
    home = next(module for module, names in wsi_mil._HOMES.items() if name in names)
    assert found is getattr(import_module(f"wsi_mil.{home}"), name)
    assert len(vars(found)["__doc__"] if inspect.isclass(found) else found.__doc__) > 10
    assert name in dir(wsi_mil)


def test_each_name_has_one_module_and_no_module_hides_behind_a_name() -> None:
    names = [name for names in wsi_mil._HOMES.values() for name in names]
    assert sorted(names) == sorted(set(names)) == wsi_mil.__all__
    assert not set(names) & {path.stem for path in PACKAGE.iterdir()}


def test_type_checkers_are_shown_the_names_that_are_exported() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    shown = [(node.module, alias.name, alias.asname) for node in block.body for alias in node.names]  # type: ignore[attr-defined]
    assert sorted(shown) == sorted((f"wsi_mil.{m}", name, name) for m, names in wsi_mil._HOMES.items() for name in names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'wsi_mil' has no attribute 'ABMILL'"):
        wsi_mil.ABMILL  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'ABMILL'"):
        exec("from wsi_mil import ABMILL")


def test_the_package_itself_never_imports_its_public_names_from_the_top() -> None:
    """They would be imported upwards, past the order of the layers."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")}
    froms = [(file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    top = [(file, alias.name) for file, node in froms if node.module == "wsi_mil" for alias in node.names]
    assert len(top) > 5 and not [(file, name) for file, name in top if name in wsi_mil.__all__]


def test_the_page_lists_the_public_names_and_no_others() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Python names")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    named = {word.rstrip("s") for line in table for word in line.split("`")[1::2]} - {"fault"}
    assert named == {name.rstrip("s") for name in wsi_mil.__all__}


@every_model
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("own", [False, True], ids=["defaults", "keywords"])
def test_keywords_build_the_model_of_the_entry_with_the_same_weights(entry: str, n_classes: int, own: bool) -> None:
    given = KEYWORDS[entry] if own else {}
    torch.manual_seed(3)
    by_entry = create_model(parse_base({"model": entry, **given}), feature_dim=9, n_classes=n_classes)
    torch.manual_seed(3)
    by_keywords = MODELS[entry](feature_dim=9, n_classes=n_classes, **given)
    assert by_keywords.settings == by_entry.settings == parse_base({"model": entry, **given})
    expected, found = by_entry.state_dict(), by_keywords.state_dict()
    assert list(found) == list(expected) and all(torch.equal(found[key], value) for key, value in expected.items())
    bag = torch.rand(1, 7, 9)
    assert torch.equal(by_keywords.eval()(bag).logits, by_entry.eval()(bag).logits)


@every_model
def test_the_keywords_of_a_model_change_its_weights(entry: str) -> None:
    """Or the test above would pass if they were never read."""
    shapes = []
    for given in ({}, KEYWORDS[entry]):
        torch.manual_seed(3)
        model = MODELS[entry](feature_dim=9, n_classes=2, **given)
        shapes.append([(name, tuple(value.shape)) for name, value in model.state_dict().items()])
    assert shapes[0] != shapes[1]


def a_base(seed: int = 0) -> MILModel:
    torch.manual_seed(seed)
    return wsi_mil.ABMIL(feature_dim=6, n_classes=2, embed_dim=8)


def test_mhim_by_keywords_is_mhim_of_the_entry() -> None:
    given = {"random_ratio": 0.25, "student_start": "base", "train": {"lr": 0.125}}
    settings = parse_model({"model": "mhim", "base": "base", **given})
    assert isinstance(settings, config.MHIM)
    by_entry = create_mhim(settings, base=a_base(), student=a_base(1))
    by_keywords = create_mhim(base=a_base(), student=a_base(1), **given)
    assert by_keywords.settings == by_entry.settings == settings and by_keywords.settings.train.lr == 0.125
    expected = by_entry.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in by_keywords.state_dict().items())
    assert MHIM(student=a_base(), teacher=a_base(), momentum=0.5).momentum() == 0.5


FAULTS: list[tuple[Callable[..., MILModel], dict[str, Any], list[str]]] = [
    (wsi_mil.ABMIL, {"embed_dm": 8}, ["ABMIL: embed_dm: unknown keyword; did you mean 'embed_dim'?"]),
    (wsi_mil.ABMIL, {"instance_encodr": None}, ["ABMIL: instance_encodr: unknown keyword; did you mean 'instance_encoder'?"]),
    (wsi_mil.CLAM, {"branchs": "multi"}, ["CLAM: branchs: unknown keyword; did you mean 'branches'?"]),
    (
        wsi_mil.EmbeddingPool,
        {"model": "abmil"},
        ["EmbeddingPool: model: unknown keyword; known: pool, embed_dim, dropout, covariates, train"],
    ),
    (
        wsi_mil.ABMIL,
        {"dropout": 1.5, "gate": True, "embed_dim": 0, "activation": "tahn"},
        [
            "ABMIL: gate: unknown keyword; did you mean 'gated'?",
            "ABMIL: embed_dim: Input should be greater than or equal to 1, got 0",
            "ABMIL: activation: Input should be 'tanh' or 'relu', got 'tahn'; did you mean 'tanh'?",
            "ABMIL: dropout: Input should be less than 1, got 1.5",
        ],
    ),
    (wsi_mil.DSMIL, {"train": {"lrr": 1}}, ["DSMIL: train.lrr: unknown key; did you mean 'lr'?"]),
    (wsi_mil.DTFD, {"total": 2}, ["DTFD: total must be pseudo_bags or more, got 2 and 4"]),
    (wsi_mil.KrausPool, {"slope": 0.0}, ["KrausPool: slope: Input should be greater than 0, got 0.0"]),
    (wsi_mil.TransMIL, {"n_classes": 1, "heads": 0}, ["TransMIL: n_classes: expected 2 or more, got 1", "TransMIL: heads: "]),
    (wsi_mil.InstancePool, {"feature_dim": 0}, ["InstancePool: feature_dim: expected 1 or more, got 0"]),
    (
        wsi_mil.ABMIL,
        {"settings": config.ABMIL(model="abmil"), "gated": True},
        ["ABMIL: expected settings or keywords, got settings and gated"],
    ),
    (wsi_mil.ABMIL, {"settings": {"gated": True}}, ["ABMIL: settings: expected ABMIL of wsi_mil.config, or keywords, got dict"]),
    (
        wsi_mil.CLAM,
        {"settings": config.DTFD(model="dtfd")},
        ["CLAM: settings: expected CLAM of wsi_mil.config, or keywords, got DTFD"],
    ),
]


@pytest.mark.parametrize(("model", "given", "faults"), FAULTS)
def test_faults_of_keywords_are_refused_all_at_once_by_their_names(model: Callable, given: dict, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        model(**{"feature_dim": 6, "n_classes": 2, **given})
    assert len(error.value.faults) == len(faults)
    assert all(found.startswith(expected) for expected, found in zip(faults, error.value.faults, strict=True))


def test_faults_of_mhims_keywords_are_refused_before_the_base_becomes_a_teacher() -> None:
    base = a_base()
    with pytest.raises(ConfigError) as error:
        create_mhim(base=base, student=a_base(), random_ration=0.5, momentum=2)
    unknown, momentum = error.value.faults
    assert unknown == "MHIM: random_ration: unknown keyword; did you mean 'random_ratio'?"
    assert momentum == "MHIM: momentum: Input should be less than or equal to 1, got 2"
    assert all(parameter.requires_grad for parameter in base.parameters())


TYPED = {kind: f"{kind}Keywords" for kind in ("ABMIL", "TransMIL", "DSMIL", "CLAM", "DTFD", "KrausPool", "MeanLinear", "MHIM")}
TYPED |= {"InstancePool": "PoolKeywords", "EmbeddingPool": "EmbeddingPoolKeywords"}


def test_every_public_model_has_typed_keywords() -> None:
    public = {name for name in wsi_mil.__all__ if inspect.isclass(kind := getattr(wsi_mil, name)) and issubclass(kind, MILModel)}
    assert public - {"MILModel"} == set(TYPED)


@pytest.mark.parametrize("kind", TYPED)
def test_typed_keywords_are_the_keys_of_the_settings_with_their_types(kind: str) -> None:
    fields = getattr(config, kind).model_fields
    hints = get_type_hints(getattr(keywords, TYPED[kind]))
    assert set(hints) == set(fields) - {"model", "base"}
    assert hints.pop("train") == Mapping[str, object]
    assert hints == {key: fields[key].annotation for key in hints}
    assert getattr(wsi_mil, kind).__init__.__annotations__["keywords"].__args__ == (getattr(keywords, TYPED[kind]),)


def test_the_pages_models_give_logits_and_scores(capsys: pytest.CaptureFixture) -> None:
    texts = dict(blocks(PAGE, "python"))
    exec(compile(texts["models.py"], "models.py", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines] == [f"torch.Size([1, {n}" for n in (2, 2, 3, 2)]
    assert [line.endswith("attention") for line in lines] == [False, False, False, True]


def test_the_pages_training_tells_the_classes_apart(random_bags: Callable) -> None:
    space: dict[str, Any] = {"bags": random_bags(60)}
    texts = dict(blocks(PAGE, "python"))
    exec(compile(texts["training.py"], "training.py", "exec"), space)
    assert type(space["model"]) is wsi_mil.ABMIL and space["model"] is space["student"] and not space["model"].training
    for model in (space["mhim"], space["model"]):
        predicted = wsi_mil.predict_outputs(model, space["test"], space["task"])[:, 1] > 0.5
        assert (predicted == [bag.label for bag in space["test"]]).mean() > 0.9


USER = """
from wsi_mil import ABMIL, BagSet, Classes, create_mhim, open_slide
import wsi_mil
model = ABMIL(feature_dim=1024, n_classes=2, embed_dim=None, gated=False, train={"lr": 1e-3})
reveal_type(model)
reveal_type(wsi_mil.read_bag)
reveal_type(wsi_mil.fit(model, BagSet.of([]), BagSet.of([]), model.settings.train, task=Classes(("a", "b")))[1])
ABMIL(feature_dim=1024, n_classes=2, gatd=True)
ABMIL(feature_dim=1024, n_classes=2, gated="no")
create_mhim(base=model, student=model, random_ratio="half")
wsi_mil.open_slides
"""


@pytest.mark.slow
def test_a_users_type_checker_sees_names_keywords_and_types(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nfollow_imports = silent\nmypy_path = {ROOT}\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "user"), "user.py"]
    said = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=900).stdout
    lines = {int(line.split(":")[1]): line for line in reversed(said.splitlines()) if line.startswith("user.py:")}
    assert set(lines) == {5, 6, 7, 8, 9, 10, 11}, said
    assert 'Revealed type is "wsi_mil.models.abmil.ABMIL"' in lines[5] and "wsi_mil.records.Bag" in lines[6]
    assert lines[7].endswith('int"') and 'Unexpected keyword argument "gatd"' in lines[8]
    assert all("incompatible type" in lines[number] for number in (9, 10)) and "attr-defined" in lines[11]
