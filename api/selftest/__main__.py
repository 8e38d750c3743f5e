"""`python -m api.selftest FOLDER`: the drawn pictures of the demo, to try training with."""

import sys
from pathlib import Path

from api.selftest.dataset import make_dataset

if __name__ == "__main__":
    written = make_dataset(Path(sys.argv[1]))
    sys.stdout.write(f"{len(written)} files in {Path(sys.argv[1]).absolute()}\n")
