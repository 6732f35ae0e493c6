"""Requests that nobody thought of, for every documented route: Schemathesis makes them from the server's own schema.

Run as a script, this is Schemathesis' own command with a hook: every second request names what is there, so that it
gets further than "no such study".
"""

import subprocess
import sys
import zlib

REAL = dict.fromkeys(("study_id", "image", "label", "id"), "study_00.nii.gz")
REAL |= {"strategy": "random", "tag": "saved-alice", "client_id": "alice"}


def attack(server, *, n_examples, seed=0, timeout_s=600):
    """Send borderline and random requests, good and bad ones; return what Schemathesis says and how it ended.

    It ends with 0 where no answer was a server error.
    """
    arguments = ["run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "not_a_server_error"]
    arguments += ["--phases", "coverage,fuzzing", "--max-examples", n_examples, "--seed", seed, "--continue-on-failure"]
    arguments += ["--generation-database", "none", "--request-timeout", 60, "--warnings", "off", "--no-color"]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        cwd=server.state.parent,  # where it leaves a folder of its own
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    return done.stdout, done.returncode


def before_call(context, case, kwargs):
    """Put real names in, by what was there: the same seed sends the same requests."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            for key in REAL.keys() & values.keys():
                if zlib.crc32(repr(values[key]).encode("utf-8", "replace")) % 2:
                    values[key] = REAL[key]


if __name__ == "__main__":
    import schemathesis
    from schemathesis.cli import schemathesis as command

    schemathesis.hook(before_call)
    command()
