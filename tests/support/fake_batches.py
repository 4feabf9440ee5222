"""A fake OpenAI-compatible batch server on the loopback, in a thread of its own.

A batch ends when it was looked at `looks` times. `lines` counts how often each custom id was
in a batch that the server took; `line_for(custom_id, body)` may replace a line of the output.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from tests.support.fakes import Fault, LoopbackServer

Line = dict[str, Any]


def answered(custom_id: str, body: Line) -> Line:
    """A whole reply that repeats the question."""
    said = f"echo {body['messages'][-1]['content']}"
    reply = {
        "id": "chatcmpl-1",
        "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": reply}, "error": None}


def refused(custom_id: str, status: int, message: str) -> Line:
    """A line that ended with a status of its own."""
    body = {"error": {"message": message}}
    return {"custom_id": custom_id, "response": {"status_code": status, "body": body}}


class FakeBatches(LoopbackServer):
    """Context manager; `endings` gives the status in which the next batches end."""

    def __init__(
        self,
        *,
        looks: int = 1,
        endings: Iterable[str] = (),
        line_for: Callable[[str, Line], Line | str | None] = answered,
        faults: Iterable[Fault] = (),
        lost_creates: int = 0,
        most_live: int = 100,
        page: int = 2,
    ) -> None:
        self.looks, self.endings, self.line_for = looks, deque(endings), line_for
        self.faults, self.lost_creates = deque(faults), lost_creates
        self.most_live, self.page = most_live, page
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Line] = {}
        self.lines: Counter[str] = Counter()
        self.requests: list[str] = []
        self._numbers = itertools.count(1)

    def routes(self) -> list[web.RouteDef]:
        """Files and batches."""
        return [
            web.post("/v1/files", self._upload),
            web.get("/v1/files/{id}/content", self._content),
            web.delete("/v1/files/{id}", self._delete),
            web.post("/v1/batches", self._create),
            web.get("/v1/batches", self._list),
            web.get("/v1/batches/{id}", self._retrieve),
            web.post("/v1/batches/{id}/cancel", self._cancel),
        ]

    def middlewares(self) -> list[Any]:
        """Faults, before anything else."""
        return [self._faulty]

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self.faults:
            fault = self.faults.popleft()
            if fault.status == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=fault.status or 500, text=fault.body, headers=fault.headers)
        response: web.StreamResponse = await handler(request)
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        field = form["file"]
        assert isinstance(field, web.FileField)
        return web.json_response(self._file(field.file.read(), field.filename))

    def _file(self, content: bytes, name: str) -> Line:
        file_id = f"file-{next(self._numbers)}"
        self.files[file_id] = content
        made = {"bytes": len(content), "created_at": int(time.time()), "filename": name}
        return {"id": file_id, "object": "file", "purpose": "batch", "status": "processed", **made}

    async def _content(self, request: web.Request) -> web.Response:
        content = self.files.get(request.match_info["id"])
        if content is None:
            return web.json_response({"error": {"message": "no such file"}}, status=404)
        return web.Response(body=content)

    async def _delete(self, request: web.Request) -> web.Response:
        file_id = request.match_info["id"]
        found = self.files.pop(file_id, None) is not None
        return web.json_response({"id": file_id, "object": "file", "deleted": found})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions"
        batch_id = f"batch_{next(self._numbers)}"
        live = sum(batch["status"] == "in_progress" for batch in self.batches.values())
        held = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        batch = {
            "id": batch_id,
            "object": "batch",
            "created_at": int(time.time()),
            **asked,
            "status": "in_progress",
            "request_counts": {"total": len(held), "completed": 0, "failed": 0},
        }
        if live >= self.most_live:
            error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
        elif self.endings and self.endings[0] == "failed":
            self.endings.popleft()
            error = {"code": "invalid_json_line", "message": "line 1 is no JSON", "line": 1}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
        else:
            self.lines.update(line["custom_id"] for line in held)
            batch |= {"ends": self.endings.popleft() if self.endings else "completed", "looks": 0}
        self.batches[batch_id] = batch
        if self.lost_creates:
            self.lost_creates -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(batch)

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(self.batches.values())[::-1]
        ids = [batch["id"] for batch in newest]
        after = request.query.get("after")
        start = ids.index(after) + 1 if after else 0
        part = newest[start : start + self.page]
        more = start + self.page < len(newest)
        return web.json_response({"object": "list", "data": part, "has_more": more})

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        if batch["status"] in ("in_progress", "cancelling"):
            batch["looks"] += 1
            if batch["looks"] > self.looks:
                self.end(batch["id"])
        return web.json_response(batch)

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch |= {"status": "cancelling", "ends": "cancelled"}
        return web.json_response(batch)

    def end(self, batch_id: str) -> None:
        """Finish a batch: lines of its output, half of them where it did not run to its end."""
        batch = self.batches[batch_id]
        held = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if batch["ends"] != "completed":
            held = held[: len(held) // 2]
        output: list[str] = []
        errors: list[str] = []
        for line in held[::-1]:  # in another order than they were sent
            made = self.line_for(line["custom_id"], line["body"])
            if isinstance(made, str):
                output.append(made)
            elif made is not None:
                whole = (made.get("response") or {}).get("status_code") == 200
                (output if whole else errors).append(json.dumps(made))
        batch["status"] = batch["ends"]
        if output:
            batch["output_file_id"] = self._file("\n".join(output).encode(), "output.jsonl")["id"]
        if errors:
            batch["error_file_id"] = self._file("\n".join(errors).encode(), "errors.jsonl")["id"]
