"""``python -m firstpick.cli`` is ``firstpick``."""

import sys

from firstpick.cli import main

sys.exit(main())
