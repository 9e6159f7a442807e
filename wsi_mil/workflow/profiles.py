"""Profiles of Snakemake: the machines that a run uses."""

import importlib.util
import re
import shutil
from pathlib import Path

from wsi_mil import bundled
from wsi_mil.errors import ConfigError

DEFAULT = "default"
FILE = "profile.yaml"
TO_EDIT = {"slurm": "partitions.yaml"}
"""Packaged profiles that no two users share, and the file that has to be edited first."""


def profile_folder(name: str, folder: Path) -> Path | None:
    """Find a profile; one that has to be edited is copied into the user's folder first.

    Args:
        name: `default`, the name of a folder of `profiles/` beside the configuration, a packaged profile, or a folder.
        folder: folder of the run.

    Returns:
        The profile's folder, absolute; None for `default`, which is always read.

    Raises:
        ConfigError: there is no such profile; it was copied and has to be edited; its executor is not installed.
    """
    if name == DEFAULT:
        return None
    own = folder / "profiles" / name
    found = next((place for place in (own, Path(name)) if _has_profile(place)), None)
    if found is None and name in TO_EDIT and not own.exists():
        shutil.copytree(bundled.profile(name), own)
        raise ConfigError([f"{own}: this profile was copied for you; edit its {TO_EDIT[name]}, and run the command again"])
    if found is None:
        raise ConfigError([f"--profile {name}: no such profile; expected default, slurm, or a folder with a {FILE}"])
    _require_executor(found)
    return found.absolute()


def _has_profile(place: Path) -> bool:
    """Whether a folder is a profile by Snakemake's rules, which accept versions in the name: profile.v9+.yaml."""
    return any(place.glob("profile*.yaml")) or (place / "config.yaml").is_file()


def _require_executor(profile: Path) -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(profile.glob("*.yaml")))
    executor = re.search(r"^executor: *[\"']?([a-z0-9-]+)", text, re.MULTILINE)
    module = f"snakemake_executor_plugin_{executor[1].replace('-', '_')}" if executor else "sys"
    if executor and importlib.util.find_spec(module) is None:
        extra = "'wsi_mil[slurm]'" if executor[1] == "slurm" else module.replace("_", "-")
        raise ConfigError([f"{profile}: the executor {executor[1]} is not installed; pip install {extra}"])
