"""The text of a configuration: its encoding, and keys that stand twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_cohort
from wsi_mil.cli.options import config_values, require_unique_keys
from wsi_mil.cli.yaml_text import repeated_keys
from wsi_mil.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
TEXT = "cohort: ü.csv\ntargets:\n  t: {kind: classes, classes: [n, p]}\nmodels:\n  m: {model: abmil}\n"


def faults(folder: Path, text: str | bytes) -> list[str]:
    (folder / "c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        config_values(folder / "c.yaml")
    return caught.value.faults


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_configuration_is_read_the_same_in_every_encoding(encoding: str, newline: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(TEXT.replace("\n", newline).encode(encoding))
    assert config_values(tmp_path / "c.yaml") == {
        "cohort": "ü.csv",
        "targets": {"t": {"kind": "classes", "classes": ["n", "p"]}},
        "models": {"m": {"model": "abmil"}},
    }


def test_a_repeated_key_is_reported_with_its_lines(tmp_path: Path) -> None:
    text = TEXT + "models:\n  k: {model: clam}\ntilings:\n  a:\n    mpp: 1\n    'mpp': 2\n  b: {mpp: 1}\nlist: [{x: 1, x: 2}]\n"
    assert faults(tmp_path, text) == [
        f"{tmp_path}/c.yaml: tilings.a.mpp is set 2 times, in lines 10, 11: keep one of them, or merge them",
        f"{tmp_path}/c.yaml: list.0.x is set 2 times, in line 13: keep one of them, or merge them",
        f"{tmp_path}/c.yaml: models is set 2 times, in lines 4, 6: keep one of them, or merge them",
    ]


@pytest.mark.parametrize("file", [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))], ids=lambda file: file.name)
def test_no_key_of_the_templates_is_repeated(file: Path) -> None:
    assert config_values(file)


def test_two_targets_of_one_name_are_a_fault(tmp_path: Path) -> None:
    text = TEXT.replace("models", "  t: {kind: regression, column: age}\nmodels")
    (fault,) = faults(tmp_path, text)
    assert "targets.t is set 2 times, in lines 3, 4: keep one of them" in fault


def test_anchors_and_merges_are_no_repetition(tmp_path: Path) -> None:
    text = "models:\n  a: &a {model: abmil, gated: true}\n  b: &b {seed: 1}\n  c: {<<: *a, gated: false}\n  d: {<<: [*a, *b]}\n"
    (tmp_path / "c.yaml").write_text(text + "  e: *a\n  f: {<<: *a, <<: *b}\n")
    models = config_values(tmp_path / "c.yaml")["models"]
    assert models["c"] == {"model": "abmil", "gated": False} and models["e"] == models["a"]
    assert models["d"] == models["f"] == {"model": "abmil", "gated": True, "seed": 1}
    assert repeated_keys("a: &x {b: 1, b: 2}\nc: *x\n") == ["a.b is set 2 times, in line 1: keep one of them, or merge them"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.encode("latin-1"), "line 1: byte 0xFC is no UTF-8: save it as UTF-8"),
        (TEXT + "x: [", "line 6, column 5: "),
        (TEXT + "\tx: 1\n", "line 6, column 1: "),
        (TEXT + "x: 2024-13-40\n", "month must be in 1..12"),
        (TEXT + "x: \0\n", "line 6 holds a zero byte"),
        (TEXT + "x: \x07\n", "unacceptable character #x0007"),
        (TEXT + "[a]: 1\n", "line 6, column 1: "),
        ("a: " + "[" * 5000, "too deep"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: "),
        (TEXT + "---\n" + TEXT, "line 6, column 1: "),
        ("- a\n", "expected keys and values"),
        ("", "expected keys and values"),
    ],
)
def test_an_invalid_configuration_is_one_fault(text: str | bytes, said: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, text)
    assert "c.yaml: " in fault and said in fault and "\n" not in fault


def test_files_that_snakemake_merged_are_read_for_repeated_keys_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("models: {}\nmodels: {}\n")
    (tmp_path / "b.yaml").write_text("?{x}: [\n")
    (tmp_path / "c.yaml").write_text("a: 1\n")
    names = [tmp_path / f"{name}.yaml" for name in "abcd"]
    with pytest.raises(ConfigError, match=r"^\S+a\.yaml: models is set 2 times, in lines 1, 2: \D+$"):
        require_unique_keys(names)
    require_unique_keys(names[1:])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_standard_input_is_read_as_files_are(encoding: str, tmp_path: Path) -> None:
    for n in range(10):
        (tmp_path / f"{n}.svs").touch()
    sheet = write_cohort(tmp_path, [{"slide_id": f"s{n}", "path": f"{n}.svs", "label": "np"[n % 2]} for n in range(10)])
    sheet.rename(tmp_path / "ü.csv")
    command = [sys.executable, "-m", "wsi_mil", "check", "--merged=c.yaml"]
    (tmp_path / "c.yaml").write_bytes(TEXT.encode(encoding))
    done = subprocess.run(command, cwd=tmp_path, input=TEXT.encode(encoding), capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    if encoding == "latin-1":
        assert done.returncode == 2 and b"cannot read standard input: line 1: byte 0xFC" in done.stderr
    else:
        assert done.returncode == 0 and b'"n_folds": {"t": 5}' in done.stdout
