"""The layout of a results folder: where each stage writes, spelled once. The rules of the workflow say the same."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Results:
    """The files of a results folder. Stores (Zarr) stand beside their receipts, see `receipts.store_path`.

    Attributes:
        folder: the results folder.
    """

    folder: Path

    @property
    def cohort_status(self) -> Path:
        """Table of the status of every slide."""
        return self.folder / "cohort_status.csv"

    @property
    def report(self) -> Path:
        """The overview of all targets."""
        return self.folder / "report" / "index.html"

    @property
    def jobs(self) -> Path:
        """Folder with the records of jobs, `{stage}/…/{job}.json`."""
        return self.folder / "jobs"

    def usable_features(self, encoder: str) -> Path:
        """Hashes of the features of the usable slides."""
        return self.folder / "cohort_features" / encoder / "usable.json"

    def record(self, stage: str, *names: str) -> Path:
        """Record of a job of a stage; names of entries such as encoder and model, and of the job."""
        return self.jobs.joinpath(stage, *names[:-1], f"{names[-1]}.json")

    @property
    def division(self) -> Path:
        """Which job works on which slides."""
        return self.jobs / "slides.json"

    @property
    def tilings(self) -> list[str]:
        """Tilings of which there is anything, sorted."""
        return _folders(self.folder / "tiles")

    @property
    def encoders(self) -> list[str]:
        """Encoder entries of which there are features, sorted."""
        return _folders(self.folder / "features")

    @property
    def targets(self) -> list[str]:
        """Targets of which there are splits, models, predictions or scores, sorted."""
        found = {name for stage in ("models", "predictions", "scores") for name in _folders(self.folder / stage)}
        return sorted(found | {file.stem for file in (self.folder / "splits").glob("[!.]*.csv")})

    def target(self, name: str) -> "TargetResults":
        """Return the files of a target."""
        return TargetResults(self.folder, name)

    def tiles(self, tiling: str) -> Path:
        """Folder with the receipts of `tile`."""
        return self.folder / "tiles" / tiling

    def tiles_receipt(self, tiling: str, slide_id: str) -> Path:
        """Receipt of `tile`."""
        return self.tiles(tiling) / f"{slide_id}.json"

    def features(self, encoder: str) -> Path:
        """Folder with the receipts of `extract`."""
        return self.folder / "features" / encoder

    def features_receipt(self, encoder: str, slide_id: str) -> Path:
        """Receipt of `extract`."""
        return self.features(encoder) / f"{slide_id}.json"

    @property
    def fine(self) -> "Results":
        """Results of finer heatmaps: the scores that are means over shifted tilings."""
        return Results(self.folder / "fine")

    def shifted(self, shift: str) -> "Results":
        """Return the results of one shifted tiling, of which there are tiles and features; by the name of its shift."""
        return Results(self.fine.folder / shift)

    def slide_statistics(self, encoder: str) -> Path:
        """Folder with mean and variance of the features of each slide that a linear model was fitted on."""
        return self.folder / "slide_statistics" / encoder

    def statistics(self, encoder: str) -> Path:
        """Receipt of `statistics`."""
        return self.folder / "statistics" / f"{encoder}.json"


@dataclass(frozen=True)
class TargetResults:
    """The files of one target in a results folder.

    Attributes:
        folder: the results folder.
        name: name of the target.
    """

    folder: Path
    name: str

    @property
    def splits(self) -> Path:
        """Table of folds and roles."""
        return self.folder / "splits" / f"{self.name}.csv"

    @property
    def report(self) -> Path:
        """The page of the target."""
        return self.folder / "report" / f"{self.name}.html"

    @property
    def tiles_page(self) -> Path:
        """The page with the highest scoring tiles of all slides."""
        return self.folder / "report" / f"{self.name}.tiles.html"

    @property
    def entries(self) -> list[tuple[str, str]]:
        """Encoder and model entries of which there are scores or predictions, sorted."""
        scores = self._of("scores")
        found = {(encoder, model) for encoder in _folders(scores) for model in _folders(scores / encoder)}
        found |= {(file.parent.name, file.stem) for file in self._of("predictions").glob("*/*.csv")}
        return sorted(found)

    def labelled_features(self, encoder: str) -> Path:
        """Hashes of the features of the slides that have a label."""
        return self.folder / "cohort_features" / encoder / "labelled" / f"{self.name}.json"

    def model(self, encoder: str, model: str) -> Path:
        """Folder with a folder for each fold."""
        return self._of("models") / encoder / model

    def checkpoint(self, encoder: str, model: str, fold: int) -> Path:
        """Folder of a trained fold."""
        return self.model(encoder, model) / f"fold-{fold}"

    def predictions(self, encoder: str, model: str) -> Path:
        """Table of predictions."""
        return self._of("predictions") / encoder / f"{model}.csv"

    def metrics(self, encoder: str, model: str) -> Path:
        """Figures of predictions."""
        return self._of("metrics") / encoder / f"{model}.json"

    def scores(self, encoder: str, model: str) -> Path:
        """Folder with the receipts of `explain`."""
        return self._of("scores") / encoder / model

    def scores_receipt(self, encoder: str, model: str, slide_id: str) -> Path:
        """Receipt of `explain`."""
        return self.scores(encoder, model) / f"{slide_id}.json"

    def validation_scores(self, encoder: str, model: str, fold: int) -> Path:
        """Receipt of `explain-validation`."""
        return self.scores(encoder, model) / "validation" / f"fold-{fold}.json"

    def explanations(self, encoder: str, model: str) -> Path:
        """Figures of explanation methods."""
        return self._of("explanations") / encoder / f"{model}.json"

    def trust(self, encoder: str, model: str) -> Path:
        """What is known of a model and its methods, on which the trust lines of heatmaps depend."""
        return self._of("trust") / encoder / f"{model}.json"

    def cohort_scale(self, encoder: str, model: str) -> Path:
        """Colour ranges of the whole cohort, for `heatmap.scale: cohort`."""
        return self._of("heatmaps") / encoder / model / "cohort_scale.json"

    def extra_scores_receipt(self, encoder: str, model: str, method: str, slide_id: str) -> Path:
        """Receipt of `explain` of one slide by a method that is not in the configuration."""
        return self.scores(encoder, model) / method / f"{slide_id}.json"

    def cells_receipt(self, encoder: str, model: str, slide_id: str) -> Path:
        """Description of the finer grid of a slide, in the form of a receipt of `tile`."""
        return self._of("cells") / encoder / model / f"{slide_id}.json"

    def heatmaps(self, encoder: str, model: str) -> Path:
        """Folder with a folder of pictures for each slide."""
        return self._of("heatmaps") / encoder / model

    def heatmap(self, encoder: str, model: str, slide_id: str, method: str) -> Path:
        """Picture of one method on one slide; its receipt has the same name, with `.json`."""
        return self._of("heatmaps") / encoder / model / slide_id / f"{method}.png"

    def _of(self, stage: str) -> Path:
        return self.folder / stage / self.name


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".") if path.is_dir() else []
