"""The block `targets` of configurations with one target, as most tests have it."""

import json

from wsi_mil.config import ClassesTarget

NAME = "tumour"
"""Name of the target, a folder of results."""


def block_of(*classes: str, column: str = "label") -> dict[str, dict[str, object]]:
    """The block as it is written."""
    return {NAME: {"kind": "classes", "column": column, "classes": list(classes)}}


def targets_of(*classes: str, column: str = "label") -> dict[str, ClassesTarget]:
    """The block as it is read."""
    return {NAME: ClassesTarget(kind="classes", column=column, classes=classes)}


def option_of(*classes: str) -> str:
    """The option of commands that work for a target."""
    return f"--target={json.dumps({'kind': 'classes', 'classes': list(classes)})}"
