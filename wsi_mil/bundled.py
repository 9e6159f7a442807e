"""Where the files of the workflow are: in the wheel beside this module, in a clone at its root."""

from pathlib import Path

from wsi_mil.version import __version__

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "_bundled"
"""Written by the build (`hatch_build.py`); an editable install has none."""


def folder() -> Path:
    """Return the folder that holds Snakefile, config.yaml, workflow/, profiles/ and envs/."""
    return IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parent


def snakefile() -> Path:
    """Return the Snakefile of the workflow."""
    return folder() / "Snakefile"


def profile(name: str) -> Path:
    """Return the folder of a profile, which exists for `default` and `slurm`."""
    return folder() / "profiles" / name


def demo_config() -> Path:
    """Return the configuration of the demo, which is the template of all others."""
    return folder() / "config.yaml"


def requirement() -> str:
    """Return what pip installs to get this very package into another environment, as a line of a requirements file."""
    return f"wsi_mil=={__version__}" if IN_WHEEL.is_dir() else f'-e "{PACKAGE.parent}"'
