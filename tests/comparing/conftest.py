"""Makes ``folders`` importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # folders.py is no test module
