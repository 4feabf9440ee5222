"""Choose the device for models, a GPU where there is one, and report what it supports.

Importing this loads no torch.
"""

from __future__ import annotations

import os

from warehouse.errors import TrainingError


def device() -> str:
    """This process's device, as torch names it."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def has_bfloat16() -> bool:
    """Whether there is a GPU that computes in bfloat16 itself: older ones only imitate it."""
    import torch

    gpu = torch.cuda.is_available()
    return gpu and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def has_flash_attention() -> bool:
    """Whether there is the package, and a GPU that it runs on."""
    from transformers.utils import is_flash_attn_2_available

    return has_bfloat16() and bool(is_flash_attn_2_available())


def require_a_gpu_each(processes: int) -> None:
    """See that each of the processes that train together has a GPU, where there are any.

    Raises:
        TrainingError: there are fewer GPUs.
    """
    if processes == 1:
        return
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise TrainingError(
            f"train.processes = {processes}, but this machine has {gpus} GPU"
            f"{'' if gpus == 1 else 's'}, and each process takes one; allowed: 1 to {gpus}"
        )
