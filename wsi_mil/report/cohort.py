"""What the pages of all targets have in common: slides, statuses, tissue masks, features. Read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from wsi_mil.cohort import SlideStatus, read_status
from wsi_mil.cohort.status import duplicate_slides
from wsi_mil.config import Config
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.base_images import BaseImages
from wsi_mil.report.batch_effects import EncoderFeatures, read_features
from wsi_mil.report.contact_sheet import MaskPicture, contact_sheet
from wsi_mil.report.summary import Limitation, cohort_limitations
from wsi_mil.results import Results


@dataclass(frozen=True)
class Cohort:
    """The slides of a run, whatever is asked of them.

    Attributes:
        config: the whole configuration.
        rows: all rows of the sheet.
        statuses: status of each slide, by slide_id.
        duplicates: groups of slides with the same bytes.
        masks: tissue mask of each slide and tiling.
        features: features of each encoder entry.
        images: images of the usable slides.
    """

    config: Config
    rows: Sequence[SlideRow]
    statuses: Mapping[str, SlideStatus]
    duplicates: Sequence[Sequence[str]]
    masks: Sequence[MaskPicture]
    features: Sequence[EncoderFeatures]
    images: BaseImages

    @cached_property
    def status(self) -> dict[str, Status]:
        """Status by slide_id."""
        return {slide_id: entry.status for slide_id, entry in self.statuses.items()}

    @property
    def unused(self) -> list[SlideRow]:
        """Rows of the slides that could not be used."""
        return [row for row in self.rows if self.status[row.slide_id] is not Status.OK]

    @property
    def limitations(self) -> list[Limitation]:
        """What to know about the slides before relying on results."""
        made_here = [mask for mask in self.masks if not mask.is_imported]
        n_suspicious = sum(mask.is_suspicious for mask in made_here if self.status[mask.slide_id] is Status.OK)
        return cohort_limitations(self.rows, self.duplicates, n_unused=len(self.unused), n_suspicious=n_suspicious)


def read_cohort(rows: Sequence[SlideRow], config: Config) -> Cohort:
    """Read the cohort's part of the results.

    Args:
        rows: all rows of the sheet.
        config: the whole configuration.
    """
    statuses = {entry.slide_id: entry for entry in read_status(Results(config.results).cohort_status)}
    n_usable = sum(statuses[row.slide_id].status is Status.OK for row in rows)
    return Cohort(
        config=config,
        rows=rows,
        statuses=statuses,
        duplicates=duplicate_slides([row.slide_id for row in rows], config.results / "features", list(config.encoders)),
        masks=contact_sheet(rows, config),
        features=read_features(rows, config),
        images=BaseImages(config, n_usable),
    )
