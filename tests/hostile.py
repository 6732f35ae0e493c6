"""Requests that nobody thought of, for every documented route: Schemathesis makes them from the server's own schema."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def attack(server, folder, *, n_examples, seed=0, timeout_s=600):
    """Send borderline and random requests, good and bad ones; return what Schemathesis says and how it ended.

    It ends with 0 where no answer was a server error.
    """
    arguments = [f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "not_a_server_error"]
    arguments += ["--phases", "coverage,fuzzing", "--max-examples", n_examples, "--seed", seed, "--continue-on-failure"]
    arguments += ["--generation-database", "none", "--request-timeout", 60, "--warnings", "off", "--no-color"]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hostile_hooks", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    return done.stdout, done.returncode
