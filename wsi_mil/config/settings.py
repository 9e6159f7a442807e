"""Base class and types of all settings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

ENTRY_PATTERN = "^[a-z0-9_-]+$"
EntryName = Annotated[str, StringConstraints(pattern=ENTRY_PATTERN)]


class Settings(BaseModel):
    """Base class of all settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
