"""Whether the hub answers, told at once: its libraries would try for half a minute or more."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

_PATIENCE_S = 5


def knock() -> None:
    """Opens a connection to the hub, and closes it; where there is a proxy, nothing is tried.

    Raises:
        OSError: if there is no answer within five seconds.
    """
    if getproxies():
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE_S).close()
    except UnicodeError as error:
        raise OSError(f"{constants.ENDPOINT} is no possible address") from error
