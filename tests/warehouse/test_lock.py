"""The run lock: the second waits and says so; a killed holder gives it back."""

import subprocess
import sys
import threading

from warehouse.db.lock import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from warehouse.db.lock import exclusive
with exclusive(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_waits_and_says_so_until_the_first_is_killed(tmp_path):
    warehouse = tmp_path / "w.duckdb"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(warehouse)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    told = []
    waiting = threading.Event()

    def on_wait(text):
        told.append(text)
        waiting.set()

    def second():
        with exclusive(warehouse, on_wait):
            told.append("in")

    thread = threading.Thread(target=second)
    thread.start()
    assert waiting.wait(30)
    assert str(holder.pid) in told[0]
    assert len(told) == 1
    holder.kill()
    holder.wait()
    holder.stdout.close()
    thread.join(30)
    assert told[1:] == ["in"]
