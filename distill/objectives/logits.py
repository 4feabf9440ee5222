"""Train on the teacher's next-token distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distill.learning.objective import Objective, TrainingInputs, as_tested, rows_of, train_on_rows
from distill.learning.stored_logprobs import Aligned, Aligner, figures_of, refuse_misaligned
from distill.learning.vocabulary import require_same_vocabulary
from train.dataset import TrainingRow
from train.loop.sft import TrainerInputs, TrainingHooks, TrainingResult, sft_trainer
from train.model.base_model import base_fingerprint
from train.model.student import load

if TYPE_CHECKING:
    from train.loop.callbacks import Step

CHUNK = 1024
"""Positions whose divergence is computed at once; the rest is recomputed going backwards."""


class _Numbered(TrainingRow):
    row: int


@dataclass(frozen=True)
class Logits(Objective):
    """Learn the teacher's probabilities of each next token, not only the token that it chose.

    (Hinton et al. 2015, section 2, at every position of the completion.) Without `teacher`, the
    targets are the log-probabilities stored with the teacher's replies, from its own context.
    A local `teacher` gives whole distributions, but sees only what the student sees.

    Stored ones are the top k only. All other tokens together count as one more outcome,
    whose probability is what is left to 1 (see `distill.learning.divergence.over_known`). Where the
    teacher's tokens are not the student's, and at the end of the answer where a server gives
    none, the student learns from the text (cross-entropy).
    """

    source: ClassVar[str] = (
        "Hinton et al. 2015, section 2; Gu et al. 2023, section 2.1 (reverse KL); "
        "Agarwal et al. 2023, section 2 (JSD)"
    )
    packing_fault: ClassVar[str] = (
        "packing moves rows away from the teacher's distributions; set packing = false"
    )

    teacher: str | None = None
    """A local teacher with the base's vocabulary: an asset, a folder or a hub id."""
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    """How the distance of two distributions is measured; `reverse_kl` suits a much smaller student."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softens both distributions; only with a local teacher, which gives the tail that it needs."""
    cross_entropy: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weight of the plain cross-entropy on the text; the divergence has the rest."""

    def __post_init__(self) -> None:
        if self.teacher is None and self.temperature != 1:
            raise ValueError(
                "a temperature other than 1 needs every token's probability, and stored "
                "log-probabilities are the top k only; give a local `teacher`, or leave it out"
            )

    @property
    def needs_logprobs(self) -> bool:
        """Whether there is no local teacher."""
        return self.teacher is None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Also the content of a local teacher."""
        if self.teacher is None:
            return super().fingerprint
        return {**super().fingerprint, "teacher": base_fingerprint(self.teacher)}

    def ready(self, base: str) -> None:
        """Check that a local teacher is available and has the base's vocabulary."""
        if self.teacher is not None:
            require_same_vocabulary(self.teacher, base)

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Fine-tune on the distributions at the samples' completions.

        Raises:
            AssetError: the local teacher could not be downloaded.
            ModelError: the vocabularies differ.
            NothingToDoError: there are no samples.
            TrainingError: some are refusals, or more than 5 % were stored without log-probabilities.
        """
        self.ready(inputs.base)
        rows: list[TrainingRow] = [
            _Numbered(**row, row=number) for number, row in enumerate(rows_of(inputs.samples))
        ]
        if self.teacher is not None:
            return train_on_rows(
                inputs,
                rows,
                callbacks,
                TrainingHooks(
                    build_trainer=self._teacher_trainer,
                    fingerprint=self.fingerprint,
                    teacher_model=self.teacher,
                ),
            )
        known_by_row: dict[int, tuple[Any, Any]] = {}
        figures: dict[str, Any] = {}

        def align(model: Any, tokenizer: Any, rows: list[TrainingRow]) -> list[TrainingRow]:
            aligner = Aligner(tokenizer, model.generation_config.eos_token_id)

            def each() -> Iterator[Aligned]:
                for row in rows:
                    stored = inputs.logprobs.get(inputs.samples[_number(row)].sample_id)
                    aligned = aligner.align(row, stored, inputs.config.max_length)
                    known_by_row[_number(row)] = _as_tensors(aligned)
                    yield aligned

            figures.update(figures_of(each()))
            refuse_misaligned(figures)
            return rows

        result = train_on_rows(
            inputs,
            rows,
            callbacks,
            TrainingHooks(
                build_trainer=lambda job: self._stored_trainer(job, known_by_row),
                prepare_rows=align,
                fingerprint=self.fingerprint,
            ),
        )
        return replace(result, audit={**result.audit, "stored_logprobs": figures})

    def _stored_trainer(self, job: TrainerInputs, known_by_row: dict[int, tuple[Any, Any]]) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        from distill.learning.divergence import over_known

        def loss(logits: Any, labels: Any, ids: Any, logprobs: Any) -> Any:
            text = cross_entropy(logits.float(), labels, reduction="none")
            distance = over_known(self.divergence, ids, logprobs, logits)
            distance = torch.where(ids[:, 0] >= 0, distance, text)
            return torch.lerp(distance, text, self.cross_entropy)

        def losses(inputs: Any, rows: list[int], logits: Any, labels: Any) -> Any:
            ids = _stacked([known_by_row[row][0] for row in rows], filler=-1)
            logprobs = _stacked([known_by_row[row][1] for row in rows], filler=0)
            return in_chunks(loss, logits, labels, ids.long().to(logits.device),
                             logprobs.to(logits.device))  # fmt: skip

        return matching_trainer(job, losses)

    def _teacher_trainer(self, job: TrainerInputs) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        from distill.learning.divergence import over_vocabulary

        assert self.teacher is not None
        teacher, _ = load(self.teacher)
        teacher.requires_grad_(False)

        def loss(logits: Any, labels: Any, teacher_logits: Any) -> Any:
            text = cross_entropy(logits.float(), labels, reduction="none")
            distance = over_vocabulary(self.divergence, teacher_logits, logits, self.temperature)
            return torch.lerp(distance, text, self.cross_entropy)

        def losses(inputs: Any, rows: list[int], logits: Any, labels: Any) -> Any:
            with torch.no_grad():
                teacher_logits, _ = trainer.completion(teacher, inputs)
            return in_chunks(loss, logits, labels, teacher_logits)

        trainer = matching_trainer(job, losses)
        return trainer


def _number(row: Any) -> int:
    """A row's number among the samples."""
    return int(row["row"])


def in_chunks(loss: Callable[..., Any], *tensors: Any) -> Any:
    """Compute a loss per position in the memory of `CHUNK` positions.

    Args:
        loss: Takes some rows of each tensor, gives a tensor of shape (rows,).
        tensors: Of equal length, the first dimension.

    Returns:
        Shape (positions,).
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    parts = zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True)
    return torch.cat([checkpoint(loss, *part, use_reentrant=False) for part in parts])


def matching_trainer(job: TrainerInputs, losses: Callable[..., Any]) -> Any:
    """Build a trainer whose loss is the mean of `losses` over all supervised positions.

    Args:
        job: The trainer's inputs.
        losses: Takes a batch, the numbers of its rows, the student's logits at its supervised
            positions (positions, vocabulary) and their labels (positions,); gives a loss for
            each position.
    """
    with as_tested("SFTTrainer"):
        from train.loop.trainer import CompletionTrainer

    class MatchingTrainer(CompletionTrainer):
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            batch = {name: value for name, value in inputs.items() if name != "row"}
            logits, labels = self.completion(model, batch)
            total = losses(batch, inputs["row"].tolist(), logits, labels).sum()
            return self.averaged(total, len(labels), num_items_in_batch, model.training)

    with as_tested("SFTTrainer"):  # a row's number is a column that TRL does not use
        trainer = sft_trainer(job, MatchingTrainer, remove_unused_columns=False)
    collate = trainer.data_collator

    def collate_numbered(examples: Sequence[Any]) -> dict[str, Any]:
        import torch

        numbers = torch.tensor([_number(example) for example in examples])
        return {**collate(examples), "row": numbers}

    trainer.data_collator = collate_numbered
    return trainer


def _as_tensors(aligned: Aligned) -> tuple[Any, Any]:
    """Known token ids of shape (positions, k), -1 where there are fewer, and log-probabilities."""
    import torch

    distributions = [position or {} for position in aligned.at]
    width = max((len(distribution) for distribution in distributions), default=0)
    ids = torch.full((len(distributions), width), -1, dtype=torch.int32)
    logprobs = torch.zeros((len(distributions), width))
    for position, distribution in enumerate(distributions):
        ids[position, : len(distribution)] = torch.tensor(list(distribution), dtype=torch.int32)
        logprobs[position, : len(distribution)] = torch.tensor(list(distribution.values()))
    return ids, logprobs


def _stacked(rows: Sequence[Any], filler: int) -> Any:
    """Concatenate rows of shape (positions, k), padded to one width of at least 1."""
    import torch

    width = max(1, *(row.shape[1] for row in rows))
    pad = torch.nn.functional.pad
    return torch.cat([pad(row, (0, width - row.shape[1]), value=filler) for row in rows])
