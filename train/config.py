"""Define the trainer's options in a plan. Importing this loads no torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Allowed = Literal["truncated", "missing_end", "merged_boundaries"]


class _Options(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class EarlyStopping(_Options):
    """Stop where the loss on rows that are not trained on falls no more; keep the best."""

    share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows that is held out of training for this."""
    patience: int = Field(default=3, ge=1)
    """Looks without a lower loss before training stops."""
    steps: int = Field(default=10, ge=1)
    """Optimiser steps between two looks."""


class SftConfig(_Options):
    """How a student is trained."""

    epochs: int = Field(default=2, ge=1)
    """Passes over the rows."""
    batch_size: int = Field(default=8, ge=1)
    """Rows per forward pass, over all processes together."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes per step; batch 1 x 8 gives what batch 8 gives, in less memory."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; left out, the tuner's own."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=1024, ge=2)
    """Longest row in tokens, prompt and completion; more than 5 % longer ones are refused."""
    allow: list[Allowed] = []
    """Faults of the rows that are counted but do not stop the run."""
    packing: bool = False
    """Several rows in one sequence; needs a GPU with FlashAttention, which keeps them apart."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory, at a third more time."""
    early_stopping: EarlyStopping | None = None
    """Left out, every epoch is trained."""
    processes: int = Field(default=1, ge=1)
    """Processes that train together on each node, one per GPU where there are any; they share a
    batch."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together; on each of the others runs `distill join HOST:PORT`."""
    rendezvous: str | None = None
    """HOST:PORT where the first node, which runs the plan, waits for the others: an address of
    this machine by which they reach it, in a network that you trust."""
    seed: int = Field(default=0, ge=0)
    """Of the adapter's start, of dropout and of the order of rows."""
    save_steps: int = Field(default=25, ge=0)
    """Steps between two checkpoints, from which a killed run goes on; 0 keeps none."""
    track: Literal["none", "tensorboard", "trackio"] = "none"
    """Where the curves are also written, beside the warehouse: runs/<tracker>."""

    @model_validator(mode="after")
    def _processes_share_a_batch(self) -> SftConfig:
        if self.packing and self.world_size > 1:
            raise ValueError(
                "packed rows cannot be shared by processes; set packing = false, or processes = 1 and "
                "nodes = 1"
            )
        if self.batch_size % self.world_size:
            number = f"{self.processes}" if self.nodes == 1 else f"{self.processes} x {self.nodes}"
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be shared by processes = "
                f"{number}{'' if self.nodes == 1 else ' nodes'}; use a multiple of it"
            )
        if self.rendezvous is not None:
            parse_rendezvous(self.rendezvous)
        elif self.nodes > 1:
            raise ValueError(
                f"nodes = {self.nodes} need a rendezvous: an address of this machine and a free "
                'port, such as rendezvous = "10.0.0.1:29500"'
            )
        return self

    @property
    def world_size(self) -> int:
        """Processes that train together, on all nodes."""
        return self.processes * self.nodes

    def fingerprint(self, learning_rate: float) -> dict[str, object]:
        """The options that decide what a student becomes; how it is watched does not, nor do the
        processes that share a batch, nor what of its rows is let pass.

        `learning_rate` is the tuner's own, which holds where none is set.
        """
        options = self.model_dump(
            mode="json",
            exclude={"save_steps", "track", "processes", "nodes", "rendezvous", "allow"},
        )
        return {**options, "learning_rate": self.learning_rate or learning_rate}


def parse_rendezvous(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is not of this form.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or "/" in host or not port.isascii() or not port.isdigit():
        raise ValueError(f"rendezvous '{text}' is not HOST:PORT, such as 10.0.0.1:29500")
    if not 0 < int(port) < 65536:
        raise ValueError(f"rendezvous '{text}': allowed ports are 1 to 65535")
    return host, int(port)


def steps_of(rows: int, config: SftConfig) -> int:
    """Optimiser steps that training on so many rows takes."""
    batches = math.ceil(rows / config.batch_size)
    return config.epochs * math.ceil(batches / config.gradient_accumulation)
