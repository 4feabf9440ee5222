"""Describe a mistyped command line in one line, with the nearest allowed name."""

from __future__ import annotations

import re
from typing import Any

from warehouse.wording import did_you_mean

_UNKNOWN_COMMAND = re.compile(r"No such command '(?P<name>.*?)'")


def describe_usage_error(error: Any) -> str:
    """What is wrong with a command line, from typer's usage error.

    Args:
        error: A usage error: `ctx` is the command that was read, `format_message()` says what is
            wrong; `option_name` and `possibilities` where an option is unknown.
    """
    message: str = error.format_message()
    context = error.ctx
    if context is None or not message:  # a command without its arguments has printed its help
        return message
    if hasattr(error, "possibilities"):
        options = [
            name for param in context.command.params for name in param.opts if name[0] == "-"
        ]
        name = error.option_name
        return (
            f"unknown option '{name}' of `{context.command_path}` ({did_you_mean(name, options)})"
        )
    if match := _UNKNOWN_COMMAND.match(message):
        hint = did_you_mean(match["name"], list(context.command.commands))
        return f"unknown command '{match['name']}' of `{context.command_path}` ({hint})"
    return f"{message.rstrip('.')}; see `{context.command_path} --help`"
