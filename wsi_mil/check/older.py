"""Results folders of older versions, which had no folder for each target: their figures would be taken for those of a target."""

from pathlib import Path

from wsi_mil.config import Config

FORMER = ("models/*/*/fold-*/config.json", "predictions/*/*.csv", "metrics/*/*.json")
"""Files of an encoder entry and a model; since there are targets, all of these are one folder deeper."""


def older_faults(config: Config) -> list[str]:
    """Return what to do about folders that an older version has made."""
    faults = []
    if found := _former(config.results):
        faults.append(
            f"results: {config.results} is of an older version, which knew no targets ({found}): set results to a new folder,"
            " or delete everything in this one except tiles and features, which are used again"
        )
    if config.trained is not None and (found := _former(config.trained)):
        faults.append(
            f"trained: {config.trained} is of an older version, which knew no targets ({found}): train again with this version"
        )
    return faults


def _former(folder: Path) -> str:
    """One of the files that tell an older version, relative to the folder; "" if there is none."""
    found = (file.relative_to(folder).as_posix() for pattern in FORMER for file in folder.glob(pattern))
    return next(found, "")
