"""Import anndata and spatialdata, which takes seconds. The only importer of both."""

import warnings
from typing import Any

from wsi_mil.errors import ConfigError
from wsi_mil.runtime.extras import missing_package

EXTRA = "spatial"


def require(*packages: str, needed_by: str) -> None:
    """Raise ConfigError if a package is missing."""
    faults = [missing_package(package, extra=EXTRA, needed_by=needed_by) for package in packages]
    if any(faults):
        raise ConfigError(list(filter(None, faults))[:1])


def anndata() -> Any:
    """Return the package anndata."""
    import anndata

    return anndata


def spatialdata() -> Any:
    """Return the package spatialdata; its dependencies' warnings about their own dependencies are hidden."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # xarray_schema
        warnings.filterwarnings("ignore", "Call to deprecated class Scaler", DeprecationWarning)  # ome_zarr
        import spatialdata

    return spatialdata
