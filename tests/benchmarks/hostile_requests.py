"""Whether any documented route answers with a server error, whatever is asked of it.

Run by hand: ``python tests/benchmarks/hostile_requests.py [--examples 300]``, for about 10 minutes. A real server over
a few small studies; Schemathesis sends it borderline and random requests for every route in its own schema, good ones
and bad ones. Ends with 1 if there is one answer of 500 or more.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hostile import attack
from server_process import Server, write_studies


def main() -> int:
    """Start a server, attack it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=300, help="random requests for each route (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        studies = write_studies(Path(folder, "studies"), 6)
        with Server(studies, Path(folder, "state"), "batch_size", "4") as server:
            server.wait_until_ready()
            said, status = attack(server, n_examples=options.examples, seed=options.seed, timeout_s=3600)
            print(said)
            print(f"{server.log.read_text().count('Traceback')} tracebacks in the server's log.")
    return min(status, 1)


if __name__ == "__main__":
    sys.exit(main())
