"""``python -m sanawm_gym``: the command line, where scripts are not on the path."""

import sys

from sanawm_gym.cli import main

sys.exit(main())
