"""Save and load weights by name as safetensors, for checkpoints and students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.methods.tuner import Tuner
from warehouse.errors import ModelError

FILE = "trained.safetensors"
"""What was trained, by parameter name; beside it stand neither code nor pickles."""


def trained_of(model: Any) -> dict[str, Any]:
    """The trainable parameters of a model by name, each tied one once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_trained(model: Any, folder: Path) -> None:
    """Write the trainable parameters of a model."""
    save_tensors(trained_of(model), folder / FILE)


def save_tensors(named: dict[str, Any], file: Path) -> None:
    """Write tensors by name."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    save_file(tensors, str(file), metadata={"format": "pt"})


def load_trained(model: Any, folder: Path) -> None:
    """Read what `save_trained` wrote into a model of the same make.

    Raises:
        ModelError: the file holds parameters that the model lacks or has in another shape.
    """
    import torch
    from safetensors.torch import load_file

    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(str(folder / FILE)).items():
            parameter = own.get(name)
            if parameter is None or parameter.shape != tensor.shape:
                raise ModelError(f"{folder / FILE} does not fit this base: it holds '{name}'")
            parameter.copy_(tensor)


class OwnWeights(Tuner):
    """A tuner whose students are the trained weights by name.

    `attach` makes the parameters and `restore` puts the trained ones in their place, so
    nothing about a student's form is guessed from its file.
    """

    def save(self, model: Any, folder: Path, base: str) -> None:
        """Write the trained weights."""
        save_trained(model, folder)

    def restore(self, model: Any, folder: Path) -> Any:
        """Rebuild and fill in."""
        rebuilt = self.rebuild(model)
        load_trained(rebuilt, folder)
        return rebuilt

    def rebuild(self, model: Any) -> Any:
        """The model in the form it was trained in, before the trained weights are read."""
        return model
