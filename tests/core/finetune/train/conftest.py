import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Caches of a training are below the test's own folder."""
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
