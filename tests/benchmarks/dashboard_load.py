"""The dashboard under ten people: whether every page still answers, what a session keeps, what a killed browser leaves.

`python -m tests.benchmarks.dashboard_load [--sessions 10] [--reruns 200] [--out FILE]` starts a server of its own on
loopback with one job running and one queued, and tells

    answered              each page opened by all sessions at the same moment: until it says its conclusion
    moved                 the slider moved in all sessions at the same moment: until the conclusion says so
    memory                of the server after so many slider moves in one session, MiB
    connections left      that the server holds 10 s after the browser was killed
    processes left        of the server's own, jobs aside

Windows fetch no Plotly, whose drawing by ten windows on these cores would be all that is measured. One JSON document
goes to FILE, a table to stdout.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from playwright.sync_api import Page

from semfreeze_core.runs.jobs import cancel, list_jobs
from semfreeze_core.storage import write_atomically
from tests.browser.served import chromium, served
from tests.core.runs.held_job import STAND_STILL, HeldCommand

RESULTS = Path(__file__).parent / "results" / "dashboard_load.json"
PAGES = ("", "analyze", "gains", "decide?depth=12", "prove", "library", "present")
SAID = "document.querySelector('h4, h2')?.textContent"
MOST_SECONDS = 120_000  # a page that has not answered by then never will


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--reruns", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder, served(Path(folder)) as address:
        measured = measure(address, Path(folder), asked.sessions, asked.reruns)
    measured = {"machine": {"cores": os.cpu_count(), "load_before": load}, "sessions": asked.sessions, **measured}
    write_atomically(asked.out, json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


def measure(address: str, folder: Path, n_sessions: int, n_reruns: int) -> dict[str, object]:
    """Everything, on a server that listens there on the runs in `folder`."""
    runs = folder / "runs"
    os.environ["PYTHONPATH"] = STAND_STILL
    held = [HeldCommand(folder / f"held-{i}") for i in range(2)]
    for command in held:
        command.submit(runs)
    held[0].wait_until_it_works()
    server = next(
        process
        for process in psutil.Process().children(recursive=True)
        if "semfreeze_dashboard.server.start" in " ".join(process.cmdline())
    )
    with chromium() as browser:
        profile = browser.new_context()  # one, so that scripts are fetched once: the server's work is what is asked
        windows = [profile.new_page() for _ in range(n_sessions)]
        for window in windows:
            window.set_default_timeout(MOST_SECONDS)
            window.route("**/*lotly*", lambda route: route.abort())
        answered = {page or "home": _together(windows, _goto(f"{address}/{page}"), SAID) for page in PAGES}
        _together(windows, _goto(f"{address}/decide?depth=12"), f"{SAID}?.includes('Freezing 12')")
        moved = _together(windows, _press("ArrowLeft"), f"{SAID}?.includes('Freezing 11')")
        memory = _memory(windows[0], server, n_reruns)
        jobs = [job.state for job in list_jobs(runs)]
        for process in psutil.Process().children(recursive=True):
            if "chrom" in process.name():
                process.kill()
    time.sleep(10)
    connections = sum(c.status == psutil.CONN_ESTABLISHED for c in server.net_connections())
    for job in list_jobs(runs):
        cancel(runs, job.name)
    for command in held:
        command.close()
    return {
        "answered, seconds": answered,
        "moved, seconds": moved,
        "memory, MiB": memory,
        "jobs meanwhile": jobs,
        "connections left": connections,
        "processes left": len(server.children(recursive=True)),
    }


def _goto(url: str) -> Callable[[Page], None]:
    return lambda window: window.goto(url, wait_until="commit") and None


def _press(key: str) -> Callable[[Page], None]:
    return lambda window: window.get_by_role("slider", name="Freeze depth k").press(key)


def _together(windows: list[Page], act: Callable[[Page], None], said: str) -> dict[str, float]:
    """Seconds from the first window's act until each window says it: median and slowest."""
    begun = time.perf_counter()
    for window in windows:
        act(window)
    seconds = []
    for window in windows:
        window.wait_for_function(said)
        seconds.append(time.perf_counter() - begun)
    return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def _memory(window: Page, server: psutil.Process, n_reruns: int) -> dict[str, float]:
    """The server's resident size by number of slider moves."""
    slider, memory = window.get_by_role("slider", name="Freeze depth k"), {}
    for n in range(n_reruns + 1):
        if n % (n_reruns // 4) == 0:
            memory[str(n)] = round(server.memory_info().rss / 2**20, 1)
        depth = 10 if n % 2 == 0 else 11
        slider.press("ArrowLeft" if n % 2 == 0 else "ArrowRight")
        window.wait_for_function(f"{SAID}?.includes('Freezing {depth} ')")
    return memory


if __name__ == "__main__":
    main()
