"""What a proxy must pass on: a connection counts whose origin is the name that was asked for, and no other."""

import base64
import os
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

NAME = "semfreeze.example.org"


def handshake(address, *, host, origin):
    """The status that a page's WebSocket gets."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
    headers = {
        "Host": host,
        "Origin": origin,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    try:
        connection.request("GET", "/_stcore/stream", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (NAME, f"https://{NAME}", 101),  # as the configurations in docs/dashboard-for-teams.md pass it on
        ("127.0.0.1:8501", f"https://{NAME}", 403),  # a proxy that does not pass on the name
        (NAME, "https://elsewhere.example.org", 403),  # another site's page
    ],
)
def test_a_connection_needs_the_name_that_was_asked_for(address, host, origin, status):
    assert handshake(address, host=host, origin=origin) == status
