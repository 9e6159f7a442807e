"""Settings for slides on servers. They change no result, so `wsi_mil.slides` gets them from the environment, like
credentials.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_mil.config.settings import Settings

REMOTE_VARIABLE = "WSI_MIL_REMOTE"
"""Environment variable with these settings as JSON; it overrides the configuration."""


class Remote(Settings):
    """Slides at s3:// and https:// URLs."""

    staging: Literal["none", "scratch"] = Field(
        "none", description="none: read in place with tiffslide; scratch: copy to the node first, so that any reader works"
    )
    scratch: Path | None = Field(None, description="folder for the copies, on a local disk; null: the system's temporary folder")
    scratch_gb: float = Field(100.0, gt=0, description="upper limit for the copies of all jobs on a node, GB")
    timeout_s: float = Field(60.0, gt=0, description="a server that sends nothing for this long counts as unreachable, s")
    attempts: int = Field(4, ge=1, le=20, description="attempts per request before the job fails (and is retried)")
