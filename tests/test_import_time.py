"""`import bnjax` brings in what it computes with, and nothing else."""

import subprocess
import sys
from pathlib import Path

HEAVY = [
    "matplotlib",
    "sklearn",
    "scipy.special",
    "tyro",
    "rich",
    "jinja2",
    "torch",
    "flax",
    "optax",
    "orbax",
    "tensorflow",
    "IPython",
]


def test_importing_the_library_imports_nothing_heavy():
    code = f"import sys, bnjax; print(*[name for name in {HEAVY} if name in sys.modules])"
    root = Path(__file__).parents[1]
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert finished.stdout.split() == []
