"""Check a configuration and its sheet, and report all faults before any job runs."""

from wsi_mil.check.plan import Plan as Plan
from wsi_mil.check.plan import check as check
from wsi_mil.check.rows import is_tiled as is_tiled
