"""MHIM: a student that is trained without the instances that its teacher finds easy."""

import copy
import math
from typing import Unpack

import torch
from torch import Tensor

from wsi_mil import config
from wsi_mil.config import InstanceScoreKind, Schedule
from wsi_mil.covariates import Cells
from wsi_mil.models.base import MILModel, MILOutput
from wsi_mil.models.encode_classify import BagEncoding, EncodeClassifyModel
from wsi_mil.models.keywords import MHIMKeywords, model_settings
from wsi_mil.models.losses import BagLoss
from wsi_mil.models.masking import Masking, kept_instances
from wsi_mil.models.precision import widened


class MHIM(MILModel):
    """Masked hard instance mining over ABMIL, TransMIL or DSMIL.

    Source:
        Tang et al.: Multiple Instance Learning Framework with Masked Hard Instance Mining for Whole Slide Image
        Classification, ICCV 2023. https://arxiv.org/abs/2307.15254

    Symbols:
        the teacher T sees the whole bag without gradient: bag embedding B_T and scores (ABMIL attention, TransMIL
        first-layer class-token attention by head, DSMIL instance outputs); the student S sees what the mask leaves.
        L = CE(S) + α L_con, L_con = -Σ_k softmax(B_T / τ_t)_k log softmax(B_S / τ_s)_k over embedding channels;
        after each update T ← m T + (1 - m) S, parameters only.

    Differs:
        Student and teacher have the architecture and the initialisation of the base entry, not those of the authors' own
        variants. TransMIL squares its raster at its start (theirs squares inside the positional encoding).
        Rows of a bag embedding (DSMIL with more than two classes) are averaged in L_con. Kept instances keep their order.
        The second version's merging of masked instances (IJCV 2025) is not implemented.
    """

    def __init__(
        self,
        settings: config.MHIM | None = None,
        *,
        student: EncodeClassifyModel,
        teacher: EncodeClassifyModel,
        **keywords: Unpack[MHIMKeywords],
    ):
        super().__init__(student.outputs)
        self.student, self.teacher = student, teacher
        self.settings = model_settings(config.MHIM, settings, keywords)
        self.provides = student.provides
        self.teacher.requires_grad_(False)
        self.register_buffer("progress", torch.zeros(()))

    def embed(self, bags: Tensor) -> Tensor:
        return self.student.embed(bags)

    def pool(self, embedded: Tensor, bag_mask: Tensor | None = None) -> MILOutput:
        return self.student.pool(embedded, bag_mask)

    def linear_logits(self, embedded: Tensor) -> Tensor:
        return self.student.linear_logits(embedded)

    def combined(self, parts: Tensor) -> Tensor:
        return self.student.combined(parts)

    def single_logits(self, embedded: Tensor) -> Tensor:
        return self.student.single_logits(embedded)

    def streams(self, bag: Tensor, output: int) -> tuple[Tensor, Tensor] | None:
        return self.student.streams(bag, output)

    def at(self, cells: Cells | None) -> "MHIM":
        """Return the model with the covariates of a bag fixed, for student and teacher."""
        if self.student.coding is None:
            return self
        fixed = copy.copy(self)
        fixed._modules = {**self._modules, "student": self.student.at(cells), "teacher": self.teacher.at(cells)}
        return fixed

    @torch.no_grad()
    def instance_scores(self, bag: Tensor, output: int) -> dict[InstanceScoreKind, Tensor]:
        return self.student.instance_scores(bag, output)

    def training_loss(self, bags: Tensor, label: Tensor, loss: BagLoss) -> Tensor:
        """Loss of one bag `(1, n_instances, …)`."""
        taught, scores = self._teach(bags)
        kept = kept_instances(scores, self.masking())
        encoding = self.student.encode(self.student.embed(bags[:, kept]))
        of_student = self.student.encoding_loss(encoding, label, loss)
        return of_student + self.settings.consistency * self._consistency(taught.bag, encoding.bag)

    def masking(self) -> Masking:
        """The shares that are masked at this point of training."""
        s = self.settings
        high = s.high_ratio * self._falling(s.high_schedule)
        return Masking(s.random_ratio, s.low_ratio, high, s.high_share)

    def momentum(self) -> float:
        """The teacher's momentum at this point of training."""
        s = self.settings
        return 1 - (1 - s.momentum) * self._falling(s.momentum_schedule)

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        m = self.momentum()
        for mine, learned in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mine.lerp_(learned, 1 - m)
        self.progress.fill_(progress)  # type: ignore[operator]

    @property
    def deployed(self) -> MILModel:
        """The student: the teacher is needed in training only."""
        return self.student

    def train(self, mode: bool = True) -> "MHIM":
        super().train(mode)
        self.teacher.train(mode and self.settings.teacher_dropout)
        return self

    @torch.no_grad()
    def _teach(self, bags: Tensor) -> tuple[BagEncoding, Tensor]:
        return self.teacher.encode_scored(self.teacher.embed(bags))

    def _consistency(self, taught: Tensor, learned: Tensor) -> Tensor:
        target = torch.softmax(widened(taught) / self.settings.teacher_temperature, dim=-1)
        log_student = torch.log_softmax(widened(learned) / self.settings.student_temperature, dim=-1)
        return -(target * log_student).sum(dim=-1).mean()

    def _falling(self, schedule: Schedule) -> float:
        """1 (constant), or a cosine from 1 to 0 over the planned training."""
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * float(self.progress)))  # type: ignore[arg-type]
