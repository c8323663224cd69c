"""`python -m prompt_tuning <command>`."""

import sys

from prompt_tuning.cli.main import main

sys.exit(main())
