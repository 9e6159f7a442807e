"""What all settings are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

ENTRY_PATTERN = "^[a-z0-9_-]+$"
EntryName = Annotated[str, StringConstraints(pattern=ENTRY_PATTERN)]


class Settings(BaseModel):
    """Base of all settings: frozen, and no key that nothing reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
