"""Train the student to prefer the teacher's reply to the untuned student's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import Field

from distill.learning.objective import Objective, TrainingInputs, as_tested, rows_of, train_on_rows
from train.audit.audit import TOLERATED
from train.config import SftConfig
from train.dataset import Encoded, TrainingRow, encode
from train.loop.callbacks import tell_drawn
from train.loop.sft import TrainerInputs, TrainingHooks, TrainingResult, Unfinished
from train.methods.tuner import Tuner
from train.model.base_model import base_fingerprint
from train.model.inference import Generator
from train.model.student import load
from warehouse.errors import AssetError, StillhouseError, TrainingError
from warehouse.records import Message, make_id
from warehouse.wording import format_count

if TYPE_CHECKING:
    from train.loop.callbacks import Step

REPLIES = ".replies.json"
"""Ending of the file beside a student that keeps the rejected replies until it is whole."""


class Pair(TrainingRow):
    """A row and what the untuned student replied to it."""

    rejected: list[Message]


@dataclass(frozen=True)
class Preference(Objective):
    """Make the teacher's answer more likely than the untuned student's, relative to the base.

    Direct preference optimisation (Rafailov et al. 2023, section 4): chosen is the
    teacher's completion, rejected the untuned student's greedy reply to the same messages,
    drawn once. Pairs in which both say the same are dropped and counted. The reference is
    the base itself, whatever the tuner starts from: it scores all pairs before training,
    and is let go.

    Both texts of a pair go through the student, so a batch takes the memory of twice its rows,
    each as long as the longest rejected reply makes it.
    """

    source: ClassVar[str] = "Rafailov et al. 2023, section 4"

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How dear it is to move away from the base; less moves further."""
    sft: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the cross-entropy on the chosen text (Pang et al. 2024, section 2): it keeps its
    likelihood from falling beside the rejected one's."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest rejected reply in tokens."""

    def faults(self, tuner: Tuner, config: SftConfig) -> list[str]:
        """A pair is no row that could be packed."""
        if not config.packing:
            return []
        return ["a pair cannot be packed; set packing = false"]

    def train(
        self, inputs: TrainingInputs, callbacks: Callable[[Step], None] = lambda step: None
    ) -> TrainingResult:
        """Draw the rejected replies, and train on the pairs.

        Raises:
            ModelError: a prompt and a reply do not fit the student's context.
            NothingToDoError: there are no samples.
            TrainingError: some are refusals, or the untuned student says the same as the teacher in
                all of them.
            Unfinished: many of its replies would be truncated; they are kept.
        """
        figures: dict[str, float] = {}
        kept = inputs.out.with_name(inputs.out.name + REPLIES)

        def pair(model: Any, tokenizer: Any, rows: list[TrainingRow]) -> list[TrainingRow]:
            reader = Generator(inputs.base, loaded=(model, tokenizer))
            made_of = make_id(
                base_fingerprint(inputs.base),
                [row["prompt"] for row in rows],
                self.max_new_tokens,
            )
            started = time.perf_counter()
            replies = _kept_or_drawn(kept, made_of, reader, rows, self.max_new_tokens, callbacks)
            figures["seconds"] = time.perf_counter() - started
            pairs: list[TrainingRow] = [
                Pair(**row, rejected=[{"role": "assistant", "content": reply}])
                for row, (reply, _) in zip(rows, replies, strict=True)
                if reply.strip() != row["completion"][0]["content"].strip()
            ]
            figures["pairs"] = len(pairs)
            figures["equal_replies"] = len(rows) - len(pairs)
            figures["cut_off_replies"] = sum(reason == "length" for _, reason in replies)
            others = (_both(one, tokenizer)[1] for one in pairs)
            cut = sum(len(one.input_ids) > inputs.config.max_length for one in others)
            figures["truncated_rejected"] = cut
            if "truncated" not in inputs.config.allow and cut > TOLERATED * len(pairs):
                raise Unfinished(
                    f"{cut} of {len(pairs)} rejected replies are longer than train.max_length = "
                    f"{inputs.config.max_length} and would be truncated ({TOLERATED:.0%} is "
                    "tolerated); raise it, lower max_new_tokens of the objective, or set "
                    "train.allow = ['truncated']"
                )
            if not pairs:
                raise TrainingError(
                    f"the untuned student says what the teacher says in all of {format_count(len(rows), 'row')}, so "
                    "there is nothing to prefer; take harder prompts, or the objective 'sequence'"
                )
            return pairs

        try:
            result = train_on_rows(
                inputs,
                rows_of(inputs.samples),
                callbacks,
                TrainingHooks(
                    build_trainer=lambda job: self._trainer(job, inputs.base),
                    prepare_rows=pair,
                    fingerprint=self.fingerprint,
                    encode_row=_both,
                    audit_extra={"preference": figures},
                ),
            )
        except (Unfinished, AssetError):  # the same call goes on from these replies
            raise
        except StillhouseError:
            kept.unlink(missing_ok=True)
            raise
        kept.unlink(missing_ok=True)
        return result

    def _trainer(self, job: TrainerInputs, base: str) -> Any:
        from datasets import Dataset

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
                """TRL's own keeps them in a file that other processes do not find."""
                loader = DataLoader(dataset, batch_size, collate_fn=self.data_collator)
                with torch.no_grad(), self.accelerator.autocast(), fast_products(self.args.device):
                    scored = [
                        self.accelerator.gather_for_metrics(
                            self.likelihoods(self.ref_model, batch).chunk(2)
                        )
                        for batch in self.accelerator.prepare(loader)
                    ]
                for side, found in zip(
                    ("chosen", "rejected"), zip(*scored, strict=True), strict=True
                ):
                    dataset = dataset.add_column(f"ref_{side}_logps", torch.cat(found).tolist())
                return dataset

            def likelihoods(self, model: Any, inputs: Any) -> Any:
                """Log-probabilities of the completions, shape (2 x pairs,), the chosen ones first."""
                said = torch.nn.functional.pad(inputs["completion_mask"][:, 1:], (0, 1)).bool()
                wanted = torch.nn.functional.pad(inputs["input_ids"][:, 1:], (0, 1))[said]
                asked = {name: inputs[name] for name in ("input_ids", "attention_mask")}
                with output_at(self.accelerator.unwrap_model(model), said):
                    logits = model(**asked, use_cache=False).logits
                found = -torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
                return found.new_zeros(len(said)).index_add(0, said.nonzero()[:, 0], found)

            def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
                """Pairs, and tokens of their chosen texts, in the batch of all processes."""
                counts = [counted(batch) for batch in batch_samples if IDLE not in batch]
                mine = torch.stack([*counts, torch.zeros(2, dtype=torch.long)]).sum(0)
                return self.accelerator.gather(mine[None].to(device)).sum(0)

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
            trainer = PreferenceTrainer(
                tuner=job.tuner,
                model=job.model,
                ref_model=load(base, tuner=job.tuner)[0],
                args=DPOConfig(**settings),
                train_dataset=_triples(Dataset, job.rows),
                eval_dataset=_triples(Dataset, job.held) if job.held else None,
                processing_class=job.tokenizer,
                callbacks=job.callbacks,
            )
        trainer.accelerator._models.remove(trainer.ref_model)  # nothing else holds it: it is freed
        trainer.ref_model = None
        return trainer


def _both(row: TrainingRow, tokenizer: Any) -> list[Encoded]:
    """The two sequences of a pair."""
    pair = cast("Pair", row)
    return [
        encode({"prompt": pair["prompt"], "completion": completion}, tokenizer)
        for completion in (pair["completion"], pair["rejected"])
    ]


def _triples(dataset: Any, rows: Sequence[TrainingRow]) -> Any:
    pairs = cast("Sequence[Pair]", rows)
    return dataset.from_list(
        [
            {"prompt": pair["prompt"], "chosen": pair["completion"], "rejected": pair["rejected"]}
            for pair in pairs
        ]
    )


def _kept_or_drawn(
    file: Path,
    made_of: str,
    reader: Generator,
    rows: Sequence[TrainingRow],
    max_new_tokens: int,
    callbacks: Callable[[Step], None],
) -> list[tuple[str, str]]:
    """The reader's greedy reply to each row and why it ended, drawn once also over restarts.

    Several processes each draw their share.
    """
    if file.is_file():
        saved = json.loads(file.read_text())
        if saved["made_of"] == made_of:
            return [(text, reason) for text, reason in saved["replies"]]
    first, step = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    share = range(first, len(rows), step)
    drawn = []
    for said in reader.answer([rows[n]["prompt"] for n in share], max_new_tokens):
        drawn.append((share[said.index], said.text, said.finish_reason))
        tell_drawn(callbacks, len(drawn), len(share))
    if step > 1:
        drawn = _from_all(drawn)
    replies = [(text, reason) for _, text, reason in sorted(drawn)]
    if first == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        new.write_text(json.dumps({"made_of": made_of, "replies": replies}))
        os.replace(new, file)
    return replies


def _from_all(mine: list[Any]) -> list[Any]:
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    PartialState(cpu=not torch.cuda.is_available())
    gathered: list[Any] = gather_object(mine)
    return gathered
