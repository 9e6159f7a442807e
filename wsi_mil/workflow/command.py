"""Snakemake's command and environment for a configuration."""

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from wsi_mil import bundled
from wsi_mil.errors import ConfigError

PROGRAM = "wsi-mil"
OWN_OUTPUT = ("--verbose", "--printshellcmds", "-p", "--quiet", "-q")
"""Options of Snakemake with which its messages are shown as they are."""
MADE_BY_STAGE = {
    "tile": "tiles",
    "extract": "features",
    "train": "models",
    "predict": "predictions",
    "explain": "scores",
    "trust": "verdicts",
    "evaluate": "explanations",
    "heatmap": "heatmaps",
}
"""The target that a stage makes, by the name of its rule, which Snakemake cannot take for a target itself."""


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        config: the configuration, absolute.
        folder: where Snakemake works; relative paths start there. Absolute.
        targets: stages, targets or files to make; none: everything.
        profile: folder of a profile in addition to the default one, absolute.
        cores: as Snakemake's `--cores`; None: by the profile.
        dry_run: whether the jobs are only counted.
        options: further options of Snakemake, as they are.
    """

    config: Path
    folder: Path
    targets: tuple[str, ...] = ()
    profile: Path | None = None
    cores: str | None = None
    dry_run: bool = False
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command. Options with one argument stand last, so that `options` may begin with a target."""
        own = ["--profile", str(self.profile)] if self.profile else []
        cores = ["--cores", self.cores] if self.cores else []
        counted = ["--dry-run", "--quiet", "rules"] if self.dry_run else []
        files = ["--configfile", os.path.relpath(self.config, self.folder), *counted, "--snakefile", str(bundled.snakefile())]
        profiles = [*own, "--workflow-profile", str(self._default_profile)]
        targets = [MADE_BY_STAGE.get(target, target) for target in self.targets]
        return [sys.executable, "-m", "snakemake", *targets, *files, *cores, *profiles, *self.options]

    @property
    def _default_profile(self) -> Path:
        """The profile `default` in the folder of the run, as for Snakemake itself; else the packaged one."""
        own = self.folder / "profiles" / "default"
        return own if own.is_dir() else bundled.profile("default")

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which the rules find the `wsi-mil` that is running."""
        return {**os.environ, "PATH": os.pathsep.join([str(_scripts()), os.environ.get("PATH", os.defpath)])}

    @property
    def is_verbose(self) -> bool:
        """Whether all that Snakemake prints is to be shown."""
        return self.dry_run or any(option in OWN_OUTPUT for option in self.options)

    @property
    def makes_the_report(self) -> bool:
        """Whether the report of the configuration is among what is made, as far as the command tells."""
        changes_config = any(option.startswith(("--config", "-C")) for option in self.options)
        return not (self.targets or self.dry_run or changes_config)


def _scripts() -> Path:
    """The folder with this installation's `wsi-mil`: of the running program, else of its Python."""
    places = [Path(sys.argv[0]).absolute().parent, Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    return next((place for place in places if (place / PROGRAM).is_file()), places[1])


def require_snakemake() -> None:
    """Raise ConfigError if Snakemake is not installed."""
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError(["this command needs Snakemake, which is not installed; pip install 'wsi_mil[workflow]'"])
