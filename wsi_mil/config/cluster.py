"""Where Dask does its work. `wsi_mil.runtime.parallel` reads it from the environment: it changes no result."""

from pydantic import Field

from wsi_mil.config.settings import Settings


class Dask(Settings):
    """What works on fine tissue masks, large pyramids and the statistics of the cohort."""

    scheduler: str = Field(
        "threads", min_length=1, description="threads: of the job; local: processes of the job; or an address or scheduler file"
    )
