"""Train the student to prefer the teacher's reply to the untuned student's, or to a rejected one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from distill.learning.objective import Objective, TrainingInputs, as_tested, rows_of, train_on_rows
from train.audit.audit import TOLERATED
from train.dataset import Encoded, TrainingRow, encode
from train.loop.callbacks import report_generated
from train.loop.checkpoints import Unfinished
from train.loop.sft import (
    TrainerInputs,
    TrainingHooks,
    TrainingResult,
    assemble_trainer,
)
from train.model.base_model import base_fingerprint
from train.model.inference import Generator
from train.model.student import load
from warehouse.catalog import ADDED_LATER
from warehouse.errors import AssetError, StillhouseError, TrainingError
from warehouse.records import Message, Sample, make_id
from warehouse.wording import format_count

if TYPE_CHECKING:
    from train.loop.callbacks import Step

REPLIES = ".replies.json"
"""Suffix of the file that saves the rejected replies until the student is complete."""


class Pair(TrainingRow):
    """A row with the reply that is not preferred."""

    rejected: list[Message]


@dataclass(frozen=True)
class Preference(Objective):
    """Make the teacher's answer more likely than a rejected one, relative to the base.

    Direct preference optimisation (Rafailov et al. 2023, section 4): chosen is the
    teacher's completion, rejected the untuned student's greedy reply to the same messages,
    generated once, or the reply that a recipe rejected, such as the draft of `critique`. Pairs of
    equal replies are dropped and counted. The reference is the base itself, whatever the tuner
    starts from: it scores all pairs before training, then is freed.

    Both texts of a pair go through the student, so a batch takes the memory of twice its rows,
    each as long as the longest rejected reply makes it.
    """

    source: ClassVar[str] = "Rafailov et al. 2023, section 4"
    packing_fault: ClassVar[str] = "a pair cannot be packed; set packing = false"

    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the pull to the base; a smaller value allows larger changes."""
    sft: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the cross-entropy on the chosen text (Pang et al. 2024, section 2): it keeps its
    likelihood from falling together with the rejected one's."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest rejected reply in tokens, where the untuned student gives it."""
    rejected: Literal["untuned", "recipe"] = field(default="untuned", metadata=ADDED_LATER)
    """Where rejected replies come from: the untuned student, or the samples' own (`critique` gives
    its drafts); samples without one are then left out and counted."""

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Generate the rejected replies or take those of the samples, and train on the pairs.

        Raises:
            ModelError: a prompt and a reply do not fit the student's context.
            NothingToDoError: there are no samples.
            TrainingError: some are refusals, no sample has a rejected reply where the recipe is to
                give it, or all of them equal the teacher's.
            Unfinished: many of its replies would be truncated; they are saved.
        """
        figures: dict[str, float] = {}
        replies_file = inputs.out.with_name(inputs.out.name + REPLIES)
        training_rows = rows_of(inputs.samples, without_tools="preference")
        if self.rejected == "recipe":
            training_rows = _pairs_of_recipe(inputs.samples, training_rows)
            figures["without_rejected"] = len(inputs.samples) - len(training_rows)

        def generate(model: Any, tokenizer: Any, rows: list[TrainingRow]) -> list[Pair]:
            generator = Generator(inputs.base, loaded=(model, tokenizer))
            fingerprint = make_id(
                base_fingerprint(inputs.base),
                [row["prompt"] for row in rows],
                self.max_new_tokens,
            )
            started = time.perf_counter()
            replies = _load_or_generate_replies(
                replies_file, fingerprint, generator, rows, self.max_new_tokens, callbacks
            )
            figures["seconds"] = time.perf_counter() - started
            figures["cut_off_replies"] = sum(reason == "length" for _, reason in replies)
            return [_pair(row, reply) for row, (reply, _) in zip(rows, replies, strict=True)]

        def pair(model: Any, tokenizer: Any, rows: list[TrainingRow]) -> list[TrainingRow]:
            if self.rejected == "recipe":
                candidates = cast("list[Pair]", rows)
            else:
                candidates = generate(model, tokenizer, rows)
            pairs: list[TrainingRow] = [
                row
                for row in candidates
                if row["rejected"][0]["content"].strip() != row["completion"][0]["content"].strip()
            ]
            figures["pairs"] = len(pairs)
            figures["equal_replies"] = len(rows) - len(pairs)
            rejected = (_encode_pair(row, tokenizer)[1] for row in pairs)
            truncated = sum(len(reply.input_ids) > inputs.config.max_length for reply in rejected)
            figures["truncated_rejected"] = truncated
            if "truncated" not in inputs.config.allow and truncated > TOLERATED * len(pairs):
                raise Unfinished(
                    f"{truncated} of {len(pairs)} rejected replies are longer than train.max_length = "
                    f"{inputs.config.max_length} and would be truncated ({TOLERATED:.0%} is "
                    "tolerated); raise it, lower max_new_tokens of the objective, or set "
                    "train.allow = ['truncated']"
                )
            if not pairs:
                whose = "untuned student's" if self.rejected == "untuned" else "rejected"
                raise TrainingError(
                    f"the {whose} reply equals the teacher's in all of "
                    f"{format_count(len(rows), 'row')}, so there is nothing to prefer; use harder "
                    "prompts, or the objective 'sequence'"
                )
            return pairs

        try:
            result = train_on_rows(
                inputs,
                training_rows,
                callbacks,
                TrainingHooks(
                    build_trainer=lambda job: self._trainer(job, inputs.base),
                    prepare_rows=pair,
                    fingerprint=self.fingerprint,
                    encode_row=_encode_pair,
                    audit_extra={"preference": figures},
                ),
            )
        except (Unfinished, AssetError):  # the same call goes on from these replies
            raise
        except StillhouseError:
            replies_file.unlink(missing_ok=True)
            raise
        replies_file.unlink(missing_ok=True)
        return result

    def _trainer(self, job: TrainerInputs, base: str) -> Any:
        with as_tested("DPOTrainer"):
            import torch
            from torch.utils.data import DataLoader, SequentialSampler
            from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

            from train.loop.trainer import IDLE, TunedTrainer, output_at
            from train.model.fast_matmul import fast_products

        class PreferenceTrainer(TunedTrainer, DPOTrainer):  # type: ignore[misc]
            """TRL's loss, from the output layer at the completions alone: on a CPU TRL applies it
            at every position and keeps several times as much. A batch that accumulation or
            processes divide gives what it gives whole."""

            loss_is_scaled_for_ga = True

            def lengths(self, dataset: Any) -> list[int]:
                answers = zip(dataset["chosen_ids"], dataset["rejected_ids"], strict=True)
                longest = [max(map(len, both)) for both in answers]
                return [len(ids) + n for ids, n in zip(dataset["prompt_ids"], longest, strict=True)]

            def _get_eval_sampler(self, eval_dataset: Any) -> Any:
                return SequentialSampler(eval_dataset)

            def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
                """TRL's own saves them in a file that other processes do not find."""
                loader = DataLoader(dataset, batch_size, collate_fn=self.data_collator)
                with torch.no_grad(), self.accelerator.autocast(), fast_products(self.args.device):
                    batches = [
                        self.accelerator.gather_for_metrics(
                            self.likelihoods(self.ref_model, batch).chunk(2)
                        )
                        for batch in self.accelerator.prepare(loader)
                    ]
                for side, logps in zip(
                    ("chosen", "rejected"), zip(*batches, strict=True), strict=True
                ):
                    dataset = dataset.add_column(f"ref_{side}_logps", torch.cat(logps).tolist())
                return dataset

            def likelihoods(self, model: Any, inputs: Any) -> Any:
                """Log-probabilities of the completions, shape (2 x pairs,), the chosen ones first."""
                predicted = torch.nn.functional.pad(inputs["completion_mask"][:, 1:], (0, 1)).bool()
                targets = torch.nn.functional.pad(inputs["input_ids"][:, 1:], (0, 1))[predicted]
                model_inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
                with output_at(self.accelerator.unwrap_model(model), predicted):
                    logits = model(**model_inputs, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
                rows = predicted.nonzero()[:, 0]
                return loss.new_zeros(len(predicted)).index_add(0, rows, -loss)

            def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
                """Pairs, and tokens of their chosen texts, in the batch of all processes."""
                counts = [counted(batch) for batch in batch_samples if IDLE not in batch]
                own = torch.stack([*counts, torch.zeros(2, dtype=torch.long)]).sum(0)
                return self.accelerator.gather(own[None].to(device)).sum(0)

            def compute_loss(
                self,
                model: Any,
                inputs: Any,
                return_outputs: bool = False,
                num_items_in_batch: Any = None,
            ) -> Any:
                chosen, rejected = self.likelihoods(model, inputs).chunk(2)
                gains = [
                    self.beta * (ours - inputs[f"ref_{side}_logps"])
                    for side, ours in (("chosen", chosen), ("rejected", rejected))
                ]
                own = counted(inputs)
                pairs, tokens = own if num_items_in_batch is None else num_items_in_batch
                total = -torch.nn.functional.logsigmoid(gains[0] - gains[1]).sum()
                total = total - weight * chosen.sum() * pairs / tokens
                figures = self._metrics["train" if self.model.training else "eval"]
                for name, rewards in zip(("chosen", "rejected"), gains, strict=True):
                    figures[f"rewards/{name}"].append(rewards.mean().item())
                figures["rewards/margins"].append((gains[0] - gains[1]).mean().item())
                figures["rewards/accuracies"].append((gains[0] > gains[1]).float().mean().item())
                in_batch = None if num_items_in_batch is None else pairs
                return self.averaged(total, own[0], in_batch, model.training)

        def counted(batch: Any) -> Any:
            chosen, _ = batch["completion_mask"].chunk(2)
            return torch.stack([torch.tensor(len(chosen)), chosen[:, 1:].sum().cpu()])

        weight = self.sft
        settings = {
            **job.settings,
            "max_length": job.config.max_length,
            "beta": self.beta,
            "loss_type": ["sigmoid", "sft"] if weight else ["sigmoid"],
            "loss_weights": [1.0, weight] if weight else [1.0],
            "precompute_ref_log_probs": True,
        }
        with as_tested("DPOTrainer"):
            trainer = assemble_trainer(
                job,
                PreferenceTrainer,
                DPOConfig(**settings),
                _preference_columns(job.rows),
                _preference_columns(job.eval_rows),
                ref_model=load(base, tuner=job.tuner)[0],
            )
        trainer.accelerator._models.remove(trainer.ref_model)  # the last reference: it is freed
        trainer.ref_model = None
        return trainer


def _pair(row: TrainingRow, rejected: str) -> Pair:
    return Pair(**row, rejected=[{"role": "assistant", "content": rejected}])


def _pairs_of_recipe(samples: Sequence[Sample], rows: Sequence[TrainingRow]) -> list[TrainingRow]:
    """The rows of samples that have a rejected reply, with it.

    Raises:
        TrainingError: none of them has one.
    """
    replies = [(sample.facts or {}).get("rejected") for sample in samples]
    pairs: list[TrainingRow] = [
        _pair(row, reply)
        for row, reply in zip(rows, replies, strict=True)
        if isinstance(reply, str) and reply.strip()
    ]
    if not pairs:
        raise TrainingError(
            f"none of {format_count(len(samples), 'sample')} has a rejected reply of its recipe, so "
            "there are no pairs; use a recipe that gives them, such as 'critique', or set "
            "rejected = 'untuned' of the objective"
        )
    return pairs


def _encode_pair(row: TrainingRow, tokenizer: Any) -> list[Encoded]:
    """The two sequences of a pair."""
    pair = cast("Pair", row)
    return [
        encode({"prompt": pair["prompt"], "completion": completion}, tokenizer)
        for completion in (pair["completion"], pair["rejected"])
    ]


def _preference_columns(rows: Sequence[TrainingRow]) -> list[dict[str, list[Message]]]:
    """The columns that TRL's preference trainers take."""
    return [
        {"prompt": pair["prompt"], "chosen": pair["completion"], "rejected": pair["rejected"]}
        for pair in cast("Sequence[Pair]", rows)
    ]


def _load_or_generate_replies(
    file: Path,
    fingerprint: str,
    generator: Generator,
    rows: Sequence[TrainingRow],
    max_new_tokens: int,
    callbacks: Callable[[Step], None],
) -> list[tuple[str, str]]:
    """The generator's greedy reply to each row and its finish reason, saved over restarts.

    Each of several processes generates its share.
    """
    if file.is_file():
        saved = json.loads(file.read_text())
        if saved["made_of"] == fingerprint:
            return [(text, reason) for text, reason in saved["replies"]]
    first, step = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    share = range(first, len(rows), step)
    generated = []
    for reply in generator.answer([rows[n]["prompt"] for n in share], max_new_tokens):
        generated.append((share[reply.index], reply.text, reply.finish_reason))
        report_generated(callbacks, len(generated), len(share))
    if step > 1:
        generated = _gather(generated)
    replies = [(text, reason) for _, text, reason in sorted(generated)]
    if first == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(file.name + ".new")
        part.write_text(json.dumps({"made_of": fingerprint, "replies": replies}))
        os.replace(part, file)
    return replies


def _gather(own: list[Any]) -> list[Any]:
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    PartialState(cpu=not torch.cuda.is_available())
    gathered: list[Any] = gather_object(own)
    return gathered
