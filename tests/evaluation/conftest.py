import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # doubles.py is no test module
