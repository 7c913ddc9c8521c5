"""A dashboard that listens and the Chromium that is installed: for tests, pictures and benchmarks."""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from semfreeze_dashboard.server.start import server_command, server_environment

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE_SECONDS = 60


@contextmanager
def served(folder: Path, password: str | None = None) -> Iterator[str]:
    """A fresh server on the folder of runs inside `folder`, from when it listens; its address."""
    (folder / "runs").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = server_environment(runs=folder / "runs", demo=False, password=password)
    environment |= {"SEMFREEZE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = server_command(port=port, host="127.0.0.1", browser=False)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    given_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < given_up:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if server.poll() is not None:
                raise SystemExit(log.read_text()) from None
            time.sleep(0.02)
    raise SystemExit(f"no answer from {url}")


@contextmanager
def chromium(flags: Sequence[str] = FLAGS) -> Iterator[Browser]:
    """The Chromium that is installed, headless; as the tests have it unless other flags are given."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit(f"needs one of {', '.join(BROWSERS)} on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(flags))
        try:
            yield browser
        finally:
            browser.close()
