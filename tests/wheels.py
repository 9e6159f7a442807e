"""The package as a wheel, in an environment of its own that borrows the other packages of this one."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")
"""What of the root goes into the wheel."""

SOURCES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "wsi_mil", *BUNDLED)
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def done(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints; it must succeed."""
    env = {**CLEAN, **variables}
    ran = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, timeout=3600)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    return ran.stdout


def copy_sources(folder: Path) -> None:
    """Copy what the wheel is built from, without what was made by running it."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (ROOT / name for name in SOURCES):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources below a folder."""
    copy_sources(folder / "sources")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    done(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", "wheels", "./sources", cwd=folder)
    (found,) = (folder / "wheels").glob("*.whl")
    return found


def create_environment(folder: Path) -> Path:
    """Create an environment that sees the packages that this one has, without looking for the checkout; return its `bin`."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = {path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")}
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in sorted(others)))
    return folder / "bin"


def install(wheel: Path, bin_folder: Path) -> None:
    """Install the wheel, and nothing else, into an environment."""
    pip = (sys.executable, "-m", "pip", "--python", bin_folder / "python", "--disable-pip-version-check")
    done(*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=bin_folder)
