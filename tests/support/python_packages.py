"""Finds a Python with the packages that a script compares with. Scripts add this folder to their path."""

import importlib.util
import os
import sys

SKIP = 77  # CTest's status of a skipped test


def skip(reason):
    print(f"[  SKIPPED ] {reason}")
    sys.exit(SKIP)


def use_python_with(packages, venv, advice=""):
    """Starts the script again under the Python that has the packages: MOE_TEST_PYTHON, or that of the environment `venv`. A skip
    where there is none; `advice` says how to get them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    python = os.environ.get("MOE_TEST_PYTHON") or os.path.join(venv or "", "bin", "python")
    if not os.path.exists(python) or "MOE_COMPARE_CHILD" in os.environ:
        skip(f"not installed: the Python package {', '.join(missing)}" + (f" ({advice} does that)" if advice else ""))
    os.execve(python, [python, *sys.argv], {**os.environ, "MOE_COMPARE_CHILD": "1"})
