"""These tests have an environment of their own (slicer_extension/README.md); elsewhere there is nothing to collect."""

import importlib.util

if importlib.util.find_spec("slicer") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from stage import another_reader, reader, settings  # noqa: F401 - fixtures
