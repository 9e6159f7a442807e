"""Settings of Dask. `wsi_mil.runtime.parallel` gets them from the environment, since they change no result."""

from pydantic import Field

from wsi_mil.config.settings import Settings


class Dask(Settings):
    """Parallel computing of fine tissue masks, large pyramids and cohort statistics."""

    scheduler: str = Field(
        "threads",
        min_length=1,
        description="threads or local (processes) of the job, or the address or scheduler file of a Dask cluster",
    )
