"""`u2a app`: this process becomes the workbench's server, reachable from this machine only."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from u2a_core.errors import ConfigError

_PORTS = range(8501, 8521)


@dataclass(frozen=True)
class Place:
    """Options of the workbench."""

    runs: Path = Path("runs")
    """The folder of runs."""
    port: int = 0
    """Where it listens, on this machine only; 0: 8501, or the next port that is free."""


def serve(place: Place) -> NoReturn:
    """Replaces this process by Streamlit's server; Ctrl-C ends it, jobs go on.

    Raises:
        ConfigError: if the port is taken, or the folder of runs cannot be.
    """
    try:
        place.runs.stat()
    except FileNotFoundError:  # it will be made
        pass
    except OSError as error:
        raise ConfigError(
            f"--runs must be a folder, or one that can be made; got {error.strerror}: {place.runs}."
        ) from error
    port = free_port(place.port)
    main = Path(__file__).resolve().parents[1] / "app" / "main.py"
    options = {
        "server.port": port,
        "server.address": "localhost",
        "server.allowedHosts": "localhost",
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": 200,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "theme.metricValueFontSize": "1.7rem",
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#1778B8",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    os.environ["U2A_RUNS"] = str(place.runs.resolve())
    sys.stderr.write(f"The workbench: http://localhost:{port} (Ctrl-C ends it, jobs go on)\n")
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(main), *words])


def free_port(wanted: int) -> int:
    """The wanted port, or for 0 the first free one of ours.

    Raises:
        ConfigError: if it is taken, or no port.
    """
    for port in (wanted,) if wanted else _PORTS:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("localhost", port))
            except (OSError, OverflowError):
                continue
            return port
    raise ConfigError(
        f"--port must be free on this machine; got {wanted or 'none from 8501 to 8520'}. "
        "Is the workbench open already? Name another port."
    )
