"""Run the private Prefect server of `distill serve`; started by `flows.runtime.prefect_server`.

It serves the listening socket that it inherits until its standard input closes, which the kernel
does when the parent ends, however it ends.
"""

from __future__ import annotations

import socket
import sys

from warehouse.parent_process import end_with_parent


def main() -> None:
    """Serve Prefect behind a `LoopbackGuard`; the argument is the socket's descriptor."""
    end_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    from flows.runtime.loopback import LoopbackGuard

    listening = socket.socket(fileno=int(sys.argv[1]))
    app = LoopbackGuard(create_app(), listening.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    main()
