"""Separate a model's reasoning from its answer, and find control marks that are left in a text.

Models write their reasoning between marks of many kinds; servers pass them on, drop them, or
drop the opening one alone, since the prompt's template has written it.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect
from collections.abc import Iterator
from typing import NamedTuple

_NAMES = r"(?:\w{1,20}[:_])?think(?:ing)?|thoughts?|reasoning|scratchpad"
_OPEN = (
    rf"<(?:{_NAMES})(?:\s[^<>]{{0,80}})?>|\[(?:think(?:ing)?|thoughts?)\]|◁think▷"
    r"|<\|(?:begin_of_thought|start_thinking|think(?:ing)?)\|>"
)
_CLOSE = (
    rf"</\s?(?:{_NAMES})\s?>|\[/(?:think(?:ing)?|thoughts?)\]|◁/think▷"
    r"|<\|(?:end_of_thought|end_thinking|/think(?:ing)?)\|>"
)
_MARK = re.compile(rf"(?=[<\[◁])(?:(?P<open>{_OPEN})|(?P<close>{_CLOSE}))", re.IGNORECASE)
_OPENS_WITH = re.compile(rf"\s*(?:{_OPEN})", re.IGNORECASE)
_OPENED_AT_END = re.compile(rf"(?:{_OPEN})\s*\Z", re.IGNORECASE)
_SURE = re.compile(r"think", re.IGNORECASE)
"""In marks that stand for nothing else; `<reasoning>` may be an element of the answer's XML."""
_WRAPPED = re.compile(
    r"\s*<\|(?:begin_of_solution|start_response)\|>(.*?)"
    r"(?:<\|(?:end_of_solution|end_response)\|>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)

_HARMONY = re.compile(
    r"(?:<\|start\|>[^<]{0,80})?<\|channel\|>\s*(\w+)[^<]{0,200}(?:<\|constrain\|>[^<]{0,80})?"
    r"<\|message\|>(.*?)(?:<\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)|\Z)",
    re.DOTALL,
)
_HARMONY_BEGUN = re.compile(r"\s*(?:<\|start\|>[^<]{0,80})?<\|channel\|>")
_HARMONY_UNMARKED = re.compile(r"analysis(.+?)assistantfinal(.*)\Z", re.DOTALL)
"""What a server leaves of the channels that drops special tokens."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_TICKS_OR_LINE = re.compile(r"`+|\n")

_ROUNDS = 8
_SPACE = re.compile(r"\s*")
_BEFORE = re.compile(r"[^ \t](?=[ \t]*\Z)")
"""The last character before a place that is no blank."""
_MENTION_BEGINS = re.compile(r"[ \t\"'(“‘「]\Z")
_MENTION_ENDS = re.compile(r"[ \t]?[a-z\"',.;:)”’」]")

_CONTROL = re.compile(
    r"<[|｜][^\s<>|｜]{1,60}[|｜]>|</(?:\w{1,20}[:_])?think(?:ing)?>|\[/?think(?:ing)?\]|◁/?think▷"
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS|SYSTEM_PROMPT)\]"
    r"|</?(?:start|end)_of_(?:turn|utterance|image)>|<(?:bos|eos|pad|unk|sop|eop)>|\[gMASK\]"
    r"|</?tool_(?:call|response)s?>|<unused\d+>|<extra_id_\d+>|\A\s*<s>|</s>"
    r"|^[ \t]*<think(?:ing)?>[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


class _Mark(NamedTuple):
    start: int
    end: int
    opens: bool
    text: str


def split_reasoning(text: str, cut: bool = False) -> tuple[str, str | None]:
    """The answer and the reasoning of a reply; the text itself and None where it has none.

    Read are pairs of marks (`<think>`, `<thinking>`, `<thought>`, `<reasoning>`, `[THINK]`,
    `◁think▷`, `<|begin_of_thought|>`, in any letter case), a closing mark alone, an opening mark
    at the start alone, and the channels of the harmony format. Marks inside code, and those that
    a sentence mentions, are part of the answer.

    Args:
        text: A reply as the model wrote it.
        cut: Whether it reached a limit: an opening mark at the start of a line then begins
            reasoning that never ended.
    """
    if not _can_have_marks(text) and not text.startswith("analysis"):
        return text, None
    answer, thoughts = text, list[str]()
    for _ in range(_ROUNDS):  # what is left may begin with reasoning again
        before = answer
        answer, found = _split_once(before, cut)
        thoughts += found
        if answer == before or not _can_have_marks(answer):
            break
    return answer, "\n\n".join(thoughts) or None


def _split_once(text: str, cut: bool) -> tuple[str, list[str]]:
    channels = _split_harmony(text, cut)
    if channels is not None:
        return channels
    if _MARK.search(text) is None:
        return text, []
    thoughts: list[str] = []
    rest = text
    if (begin := _OPENS_WITH.match(text)) is not None:
        end = _end_of_reasoning(text, begin.end())
        if end is None:
            return "", _filled([text[begin.end() :]])
        thoughts.append(text[begin.end() : end.start])
        rest = text[_after(text, end.end) :]
    spans = _spans_of_reasoning(rest, cut) if _can_have_marks(rest) else []
    answer, at = "", 0
    for start, inner_start, inner_end, end_at in spans:
        answer += rest[at:start]
        thoughts.append(rest[inner_start:inner_end])
        at = end_at
    answer += rest[at:]
    if (wrapped := _WRAPPED.match(answer)) is not None:
        answer = wrapped[1].strip()
    return answer, _filled(thoughts)


def _filled(thoughts: list[str]) -> list[str]:
    return [text for thought in thoughts if (text := thought.strip())]


def opened_reasoning(prompt: str) -> str:
    """The opening mark with which a rendered prompt ends, or "": the reply starts as reasoning."""
    found = _OPENED_AT_END.search(prompt[-200:])
    return found[0] if found else ""


def find_control_mark(text: str) -> str | None:
    """The first control mark in a text, outside code: `<|im_end|>`, `</think>`, `[/INST]`, ..."""
    if not _can_have_marks(text):
        return None
    code: _Code | None = None
    struck = text.find("<s>", 1)
    for found in _CONTROL.finditer(text):
        if found[0] == "</s>" and 0 <= struck < found.start():
            continue  # struck-through text in HTML
        code = code or _Code(text)
        if not code.holds(found.start()):
            return found[0].strip()
    return None


def _can_have_marks(text: str) -> bool:
    return "<" in text or "[" in text or "◁" in text


def _split_harmony(text: str, cut: bool) -> tuple[str, list[str]] | None:
    """The final channel and the others, where the text is in OpenAI's harmony format."""
    if text.startswith("analysis"):
        if (unmarked := _HARMONY_UNMARKED.match(text)) is not None:
            return unmarked[2].lstrip(), _filled([unmarked[1]])
        if cut and text[8:9].isupper():
            return "", [text[8:].strip()]
    if "<|channel|>" not in text or (first := _HARMONY.search(text)) is None:
        return None
    before = text[: first.start()]
    if _HARMONY_BEGUN.match(text) is None and not before.rstrip().endswith("<|end|>"):
        return None
    finals: list[str] = []
    thoughts = [before.strip().removesuffix("<|end|>").strip()]
    for channel, content in _HARMONY.findall(text):
        (finals if channel == "final" else thoughts).append(content.strip())
    return "".join(finals), _filled(thoughts)


def _end_of_reasoning(text: str, start: int) -> _Mark | None:
    """The closing mark of reasoning that begins at `start`: the one that pairs with its opening
    mark, else the first outside code, else the first, since its code may be left open."""
    rest = text[start:]
    inner, depth = None, 1
    for mark in _marks(rest):
        depth += 1 if mark.opens else -1
        if not mark.opens:
            inner = mark if inner is None or depth == 0 else inner
        if depth == 0:
            break
    if inner is None:
        found = next((mark for mark in _MARK.finditer(rest) if mark["close"]), None)
        if found is None:
            return None
        inner = _Mark(found.start(), found.end(), False, found[0])
    return inner._replace(start=start + inner.start, end=start + inner.end)


def _spans_of_reasoning(text: str, cut: bool) -> list[tuple[int, int, int, int]]:
    """(start, start of its content, end of its content, end) of reasoning in a text that does not begin with it."""
    spans: list[tuple[int, int, int, int]] = []
    opened: _Mark | None = None
    mentioned = 0
    for mark in _marks(text):
        if mark.opens:
            if opened is None and _begins_block(text, mark):
                opened = mark
            elif opened is None:
                mentioned += 1
        elif opened is not None:
            spans.append((opened.start, opened.end, mark.start, _after(text, mark.end)))
            opened = None
        elif mentioned:
            mentioned -= 1
        elif _ends_block(text, mark):
            spans = [(0, 0, mark.start, _after(text, mark.end))]
    if opened is not None and cut:
        spans.append((opened.start, opened.end, len(text), len(text)))
    return spans


def _begins_block(text: str, mark: _Mark) -> bool:
    """Whether an opening mark begins reasoning: at the start of a line, or after a sentence."""
    if not _SURE.search(mark.text) and mark.text[:2] != "<|":
        return False
    before = _BEFORE.search(text[max(0, mark.start - 80) : mark.start])
    return before is None or before[0] in "\n.!?。！？"


def _ends_block(text: str, mark: _Mark) -> bool:
    """Whether a closing mark that nothing opened ends reasoning, or a sentence speaks of it."""
    before, after = text[max(0, mark.start - 80) : mark.start], text[mark.end : mark.end + 80]
    last = _BEFORE.search(before)
    if (last is not None and last[0] == "\n") or after.lstrip(" \t")[:1] in ("\n", "\r"):
        return True
    return not (_MENTION_BEGINS.search(before) and _MENTION_ENDS.match(after))


def _after(text: str, end: int) -> int:
    """Where what follows a closing mark begins."""
    space = _SPACE.match(text, end)
    return space.end() if space else end


def _marks(text: str) -> Iterator[_Mark]:
    """The marks of reasoning outside code, in order."""
    code = _Code(text)
    for found in _MARK.finditer(text):
        if not code.holds(found.start()):
            yield _Mark(found.start(), found.end(), found["open"] is not None, found[0])


class _Code:
    """Where code is in a text: fenced blocks, and what is between equal backticks in a line."""

    def __init__(self, text: str) -> None:
        self._spans: list[tuple[int, int]] = []
        if "`" in text or "~~~" in text:
            fenced = _fenced_spans(text)
            self._spans = sorted([*fenced, *_inline_spans(text, fenced)])

    def holds(self, start: int) -> bool:
        """Whether a position is in code."""
        number = bisect(self._spans, (start, sys.maxsize)) - 1
        return number >= 0 and start < self._spans[number][1]


def _fenced_spans(text: str) -> list[tuple[int, int]]:
    """Fenced blocks. One that is opened again before its end was never closed."""
    spans = []
    fence, start = "", 0
    for line in _FENCE.finditer(text):
        if fence and line[1].startswith(fence) and not line[2].strip():
            spans.append((start, line.end()))
            fence = ""
        elif not fence or (line[1][0] == fence[0] and line[2].strip()):
            fence, start = line[1], line.start()
    return spans


def _inline_spans(text: str, fenced: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    blocks = iter(fenced)
    block = next(blocks, None)
    runs: list[re.Match[str]] = []
    for found in _TICKS_OR_LINE.finditer(text):
        while block is not None and found.start() >= block[1]:
            block = next(blocks, None)
        if block is not None and found.start() >= block[0]:
            continue
        if found[0] != "\n":
            runs.append(found)
            continue
        yield from _pairs(runs)
        runs = []
    yield from _pairs(runs)


def _pairs(runs: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """Spans between runs of backticks of equal length, in one line."""
    if len(runs) < 2:
        return
    last = {len(run[0]): number for number, run in enumerate(runs)}
    number = 0
    while number < len(runs):
        size = len(runs[number][0])
        if last[size] == number:
            number += 1
            continue
        close = next(n for n in range(number + 1, len(runs)) if len(runs[n][0]) == size)
        yield runs[number].start(), runs[close].end()
        number = close + 1
