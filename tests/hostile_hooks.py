"""For Schemathesis: every second request names what is there, so that it gets further than "no such study"."""

import zlib

import schemathesis

REAL = dict.fromkeys(("study_id", "image", "label", "id"), "study_00.nii.gz")
REAL |= {"strategy": "random", "tag": "saved-alice", "client_id": "alice"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Put real names in, by what was there: the same seed sends the same requests."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            for key in REAL.keys() & values.keys():
                if zlib.crc32(repr(values[key]).encode("utf-8", "replace")) % 2:
                    values[key] = REAL[key]
