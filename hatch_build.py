"""Hook of the build: packs the workflow into the wheel, from where `wsi-mil run` takes it (`wsi_mil.bundled`)."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLED = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


class WorkflowInWheel(BuildHookInterface):
    """An editable install gets none: it finds the files at the root of the clone, where they can be edited."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel, all at the same places relative to each other."""
        if version == "standard":
            build_data["force_include"].update({name: f"wsi_mil/_bundled/{name}" for name in BUNDLED})
