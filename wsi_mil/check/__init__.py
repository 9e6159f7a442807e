"""Everything that can be wrong with a configuration and its sheet, found before any job runs."""

from wsi_mil.check.plan import Plan as Plan
from wsi_mil.check.plan import check as check
from wsi_mil.check.rows import is_tiled as is_tiled
