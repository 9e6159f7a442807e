"""Imports run one way, and each heavy third party has one importing place."""

import ast
from pathlib import Path

import wsi_mil

ROOT = Path(wsi_mil.__file__).parent

LAYERS = [
    {"addresses", "errors", "geometry", "records", "metrics", "rasterise", "results", "units", "version", "wording"},
    {"bundled", "files", "runtime", "shifts", "survival"},
    {"config", "receipts", "decoding", "workflow"},
    {"jobs", "tissue", "tasks", "covariates"},
    {"slides", "store", "annotations", "label_images", "score_scaling", "devices", "encoders", "cohort", "models"},
    {"extract", "bags", "checkpoints", "figures", "recalibration", "verify", "tile"},
    {"ensemble", "extractor", "inspection", "trust"},
    {"train", "predict", "explain", "evaluate", "heatmaps", "interchange", "statistics"},
    {"report", "check", "demo", "view", "notebook"},
    {"doctor", "init"},
    {"cli"},
    {"__main__"},
]
"""From the lowest; a module may import from lower rows only."""

ONLY_IN = {
    "zarr": {"store"},
    "openslide": {"slides"},
    "tiffslide": {"slides"},
    "timm": {"encoders"},
    "huggingface_hub": {"encoders"},
    "matplotlib": {"heatmaps"},
    "tifffile": {"slides", "heatmaps", "demo", "label_images"},
    "imagecodecs": {"slides"},
    "fsspec": {"slides"},
    "aiohttp": {"slides"},
    "safetensors": {"checkpoints", "train", "encoders"},
    "defusedxml": {"annotations", "slides"},
    "h5py": {"interchange"},
    "openpyxl": {"init"},
    "shapely": {"annotations", "tissue", "tile", "heatmaps", "interchange", "demo"},
    "typer": {"cli"},
    "pydantic": {"config"},
    "jinja2": {"report", "view"},
    "starlette": {"view"},
    "uvicorn": {"view"},
    "dask": {"runtime"},
    "distributed": {"runtime"},
    "lifelines": {"survival"},
    "pandas": {"survival", "interchange"},
    "anndata": {"interchange"},
    "spatialdata": {"interchange"},
    "geopandas": {"interchange"},
    "tensorboard": {"train"},
}
"""Where a third party may be imported."""

TORCH_FREE = {
    "addresses",
    "annotations",
    "bundled",
    "check",
    "cli",
    "cohort",
    "config",
    "covariates",
    "decoding",
    "demo",
    "doctor",
    "errors",
    "evaluate",
    "extract",
    "extractor",
    "figures",
    "files",
    "geometry",
    "heatmaps",
    "init",
    "inspection",
    "jobs",
    "label_images",
    "metrics",
    "rasterise",
    "recalibration",
    "receipts",
    "records",
    "report",
    "results",
    "runtime",
    "score_scaling",
    "shifts",
    "slides",
    "statistics",
    "store",
    "survival",
    "tasks",
    "tile",
    "tissue",
    "trust",
    "units",
    "verify",
    "view",
    "wording",
    "workflow",
}


def _imports() -> list[tuple[str, str, str]]:
    """(importing unit, first part of what it imports, unit of ours or "") of every import in the package.

    The package's own `__init__` imports for type checkers only, and loads its public names lazily (`test_public_api`).
    """
    found = []
    for file in sorted(set(ROOT.rglob("*.py")) - {ROOT / "__init__.py"}):
        unit = file.relative_to(ROOT).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "wsi_mil" else [node.module]
            for name in names:
                first, _, rest = name.partition(".")
                found.append((unit, first, rest.split(".")[0] if first == "wsi_mil" else ""))
    return found


IMPORTS = _imports()


def test_every_module_has_a_layer() -> None:
    units = {file.relative_to(ROOT).with_suffix("").parts[0] for file in ROOT.rglob("*.py")} - {"__init__"}
    assert units == set.union(*LAYERS)


def test_imports_run_from_higher_layers_to_lower_ones() -> None:
    level = {unit: number for number, row in enumerate(LAYERS) for unit in row}
    ours = [(unit, to) for unit, _, to in IMPORTS if to in level and to != unit]
    upward = [f"{unit} imports {to}" for unit, to in ours if level[to] >= level[unit]]
    assert len(ours) > 50 and not upward


def test_each_heavy_third_party_has_its_place() -> None:
    stray = {f"{unit} imports {package}" for unit, package, _ in IMPORTS if unit not in ONLY_IN.get(package, {unit})}
    assert not stray


def test_torch_is_imported_where_it_is_needed_only() -> None:
    """Imports for type checkers alone do not count: they never run."""
    files = [(file.relative_to(ROOT).with_suffix("").parts[0], file) for file in sorted(ROOT.rglob("*.py"))]
    importing = {unit for unit, file in files if "torch" in _run_imports(ast.parse(file.read_text(encoding="utf-8")))}
    assert "models" in importing and not importing & TORCH_FREE


def _run_imports(tree: ast.AST) -> set[str]:
    """First parts of what is imported when the code runs."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return set()
    own = {alias.name.partition(".")[0] for alias in tree.names} if isinstance(tree, ast.Import) else set()
    if isinstance(tree, ast.ImportFrom) and tree.module:
        own.add(tree.module.partition(".")[0])
    return own.union(*(_run_imports(child) for child in ast.iter_child_nodes(tree)))


def test_snakemake_is_never_imported() -> None:
    assert "snakemake" not in {package for _, package, _ in IMPORTS}


KNOWS_CLASSES = {
    "__init__.py",
    "check/labels.py",
    "cohort/labels.py",
    "models/__init__.py",
    "models/losses.py",
    "models/outputs.py",
    "notebook.py",
    "report/classes.py",
    "tasks/__init__.py",
    "tasks/explained.py",
    "tasks/registry.py",
    "tasks/shown.py",
}
"""Modules that use `Classes`, its loss, or the classes of a target (docs/architecture.md); all others ask a `Task`."""


def _knows_classes(tree: ast.AST) -> bool:
    nodes = list(ast.walk(tree))
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    of_config = {ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute) and n.attr == "classes"} - {"self.classes"}
    return bool(imported & {"Classes", "ClassLoss"} or names & {"Classes", "ClassLoss"} or of_config)


def test_few_modules_know_that_classes_are_learned() -> None:
    files = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in ROOT.rglob("*.py")}
    assert {name for name, tree in files.items() if _knows_classes(tree)} == KNOWS_CLASSES
