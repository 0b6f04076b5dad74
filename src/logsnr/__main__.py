"""`python -m logsnr`."""

import sys

from logsnr.cli import main

sys.exit(main())
