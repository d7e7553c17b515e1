"""`python -m vqzip`."""

import sys

from vqzip.cli import main

sys.exit(main())
