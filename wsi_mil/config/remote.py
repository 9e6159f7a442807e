"""How slides are read that lie on a server. Nothing of it changes a result: where it is read by `wsi_mil.slides`, it comes
by the environment, as credentials do.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_mil.config.settings import Settings

REMOTE_VARIABLE = "WSI_MIL_REMOTE"
"""Of the environment: these settings as JSON. It goes before the configuration."""


class Remote(Settings):
    """Slides at s3:// and https:// addresses."""

    staging: Literal["none", "scratch"] = Field(
        "none", description="none: read in place by tiffslide; scratch: copied to the node first, so that any reader can read it"
    )
    scratch: Path | None = Field(
        None, description="folder for the copies, on the node's own disk; null: the one for temporary files"
    )
    scratch_gb: float = Field(100.0, gt=0, description="the copies of all jobs of a node take no more than this, GB")
    timeout_s: float = Field(60.0, gt=0, description="a server that is silent for so long counts as out of reach, s")
    attempts: int = Field(4, ge=1, le=20, description="how often a request is made before the job fails (and is then retried)")
