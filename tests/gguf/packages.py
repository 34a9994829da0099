"""Finds a Python with the packages llama-cpp-python, gguf and numpy, for the scripts that compare with llama.cpp."""

import argparse
import importlib.util
import os
import sys

SKIP = 77  # CTest's status of a skipped test
MOE = None  # the program, after start()


def start(description):
    """Reads --moe and --venv. What is left of the command line is unittest's. Starts the script again in a Python that has the
    packages (MOE_TEST_PYTHON, or that of --venv); ends with the status of a skip where there is none."""
    global MOE
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--venv")
    known, rest = parser.parse_known_args()
    MOE = os.path.abspath(known.moe)
    use_python_with_packages(known.venv)
    return [sys.argv[0], *rest]


def use_python_with_packages(venv):
    needed = ("llama_cpp", "gguf", "numpy")
    python = os.environ.get("MOE_TEST_PYTHON") or os.path.join(venv or "", "bin", "python")
    if all(importlib.util.find_spec(name) for name in needed):
        return
    if not os.path.exists(python) or "MOE_COMPARE_CHILD" in os.environ:
        print("[  SKIPPED ] the Python package llama-cpp-python, gguf or numpy is not installed")
        sys.exit(SKIP)
    os.execve(python, [python, *sys.argv], {**os.environ, "MOE_COMPARE_CHILD": "1"})
