"""Several command lines, one after the other, in each of the processes that a launcher starts."""

import json
import sys

from logsnr.cli import main

for words in json.loads(sys.argv[1]):
    if status := main(words):
        sys.exit(status)
