"""What the end-to-end tests share: the program, and small datasets made with it. A test is started as TEST.py PATH_OF_MOE."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile

MOE = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Under the address or thread sanitizer: more memory, and far more addresses, than the program itself.
SANITIZED = any(name in MOE.read_bytes() for name in (b"__asan_init", b"__tsan_init"))


def sanitizer_library():
    """The sanitizer's library, which must be the first that is loaded; none in an ordinary build."""
    loaded = subprocess.run(["ldd", MOE], capture_output=True, text=True).stdout
    return [line.split()[2] for line in loaded.splitlines() if re.search("lib[at]san", line)]


def moe(*arguments, check=True, input=None):
    """Runs the program; with `check` a failure raises, with what it printed."""
    given = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    result = subprocess.run([MOE, *map(str, arguments)], capture_output=True, text=True, **given)
    if check and result.returncode != 0:
        raise AssertionError(f"moe {arguments} ended with {result.returncode}:\n{result.stderr}")
    return result


def make_dataset(base, domains, vocab_size=400, tokenizer=()):
    """base/dataset from {domain: [text]}, with a tokenizer trained on them (base/tokenizer, with the further options
    `tokenizer`); returns the texts' files."""
    files = []
    for domain, texts in domains.items():
        files.append(base / f"{domain}.jsonl")
        files[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    moe("tokenizer", "train", "--vocab-size", vocab_size, *tokenizer, "--out", base / "tokenizer", *files)
    moe("data", "--tokenizer", base / "tokenizer", "--out", base / "dataset", *files)
    return files


SMALL_RUN = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 4
microbatch_rows = 2
[model]
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 6
num_experts_per_tok = 2
moe_intermediate_size = 16
max_position_embeddings = 64
[train]
steps = {steps}
[optimizer]
learning_rate = 3e-3
[eval]
every = {evaluate}
[checkpoint]
every = {save}
"""


def write_small_run(file, base, steps=30, evaluate=7, save=5):
    """A run file of a small model on base/dataset, into base/run."""
    file.write_text(SMALL_RUN.format(folder=base, steps=steps, evaluate=evaluate, save=save))


def with_library(name, settings):
    """The environment of a program that a test's library (lib`name`.so) is loaded into, with its `settings`."""
    libraries = [*sanitizer_library(), str(MOE.parent / "tests" / "e2e" / f"lib{name}.so")]
    return dict(os.environ, LD_PRELOAD=" ".join(libraries), **settings)


def signalled(number, arguments, file=None, line=0, said=None, part=None, ignored=()):
    """The program's result, where it gets signal `number` right after it has written line `line` (from 1, of this call) of
    the file whose path ends so, or has `part` in it, or a line with the text `said` to standard error. It starts with the
    signals `ignored`. The lines of a log.jsonl are its steps: the line about the run does not count."""
    line += str(file).endswith("log.jsonl")
    where = {"STOP_PART": part} if part else {"STOP_FILE": str(file)}
    stop = {"STOP_TEXT": said} if said else {**where, "STOP_LINE": str(line)}
    environment = with_library("stop_at_line", {"STOP_SIGNAL": str(int(number)), **stop})
    with tempfile.TemporaryFile("w+") as errors:
        result = subprocess.run([MOE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=errors, text=True,
                                env=environment, preexec_fn=lambda: [signal.signal(each, signal.SIG_IGN) for each in ignored])
        errors.seek(0)
        result.stderr = errors.read()
    return result


def log_without_times(path):
    """The steps of a log.jsonl, or the evaluations of an eval.jsonl, without what no two runs share."""
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if "run" not in line]
    for line in lines:
        for key in ("tokens_per_second", "time", "peak_bytes", "exchange_seconds"):
            line.pop(key, None)
    return lines


def gpus():
    """How many GPUs are visible here."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.count("GPU ")
    except OSError:
        return 0


def children_of(process):
    """The process ids of its children."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
