"""`python -m prefect_intelligent` is the command `prefect-intelligent`."""

import sys

from prefect_intelligent.cli import main

sys.exit(main())
