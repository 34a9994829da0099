"""Finds a Python with the packages llama-cpp-python, gguf and numpy, for the scripts that compare with llama.cpp."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from python_packages import use_python_with  # noqa: E402

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
    use_python_with(["llama_cpp", "gguf", "numpy"], known.venv)
    return [sys.argv[0], *rest]
