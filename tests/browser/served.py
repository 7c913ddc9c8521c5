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
# Without a graphics card, WebGL alone goes through SwiftShader: put together there, every frame of a page costs more
# than what is drawn in it.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]
ATTEMPTS, PATIENCE_SECONDS = 3, 120


@contextmanager
def served(folder: Path, password: str | None = None) -> Iterator[str]:
    """A fresh server on the folder of runs inside `folder`, from when it listens; its address."""
    (folder / "runs").mkdir(exist_ok=True)
    environment = server_environment(runs=folder / "runs", demo=False, password=password)
    environment |= {"SEMFREEZE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    for _ in range(ATTEMPTS):  # another process may take the free port before the server does
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = server_command(port=port, host="127.0.0.1", browser=False)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            try:
                if not _answers(f"http://127.0.0.1:{port}/_stcore/health", server):
                    continue
                yield f"http://127.0.0.1:{port}"
                return
            finally:
                server.terminate()
                server.wait(PATIENCE_SECONDS)
    raise SystemExit(f"no server after {ATTEMPTS} attempts: {(folder / 'log').read_text()}")


def _answers(url: str, server: subprocess.Popen) -> bool:
    """Wait for the server's first answer; False once it has ended without one, or has not come up in time."""
    given_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < given_up and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return server.poll() is None  # else another server's
        except OSError:
            time.sleep(0.02)
    return False


@contextmanager
def chromium(flags: Sequence[str] = FLAGS) -> Iterator[Browser]:
    """The Chromium that is installed, headless; as the tests have it unless other flags are given."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        raise SystemExit(f"needs one of {', '.join(BROWSERS)} on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(flags))
        try:
            yield browser
        finally:
            browser.close()
