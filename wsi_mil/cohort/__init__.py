"""The cohort sheet, and the status of its slides."""

from wsi_mil.cohort.columns import SheetColumns as SheetColumns
from wsi_mil.cohort.rows import row_from_json as row_from_json
from wsi_mil.cohort.rows import row_json as row_json
from wsi_mil.cohort.rows import with_overrides as with_overrides
from wsi_mil.cohort.sheet import Sheet as Sheet
from wsi_mil.cohort.sheet import read_sheet as read_sheet
from wsi_mil.cohort.status import SlideStatus as SlideStatus
from wsi_mil.cohort.status import ok_ids as ok_ids
from wsi_mil.cohort.status import read_status as read_status
from wsi_mil.cohort.status import write_status as write_status
from wsi_mil.cohort.values import SLIDE_ID as SLIDE_ID
