"""Every command of the program with arguments that make it do a little work, on a small run made here.

A new command without a line in `command_lines` fails `test_every_command_is_known` of output_test.py.
"""

import base64
import functools
import itertools
import json
import re
import threading

from support import ROOT, make_dataset, moe

RUN_FILE = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/dataset"
valid = "{folder}/dataset"
sequence_length = 32
rows_per_step = 2
microbatch_rows = 1
[model]
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 8
max_position_embeddings = 64
[train]
steps = 2
[sample]
every = 2
prompts = ["#include"]
max_new_tokens = 40
"""
STUDY = """
[study]
dir = "{folder}/study"
systems = ["one: model.method=deepseekmoe"]
mask_sixteenths = [0]
"""


@functools.cache
def help_of(*command):
    return moe(*command, "--help").stdout


def subcommands(*command):
    lines = help_of(*command).partition("Subcommands:\n")[2].splitlines()
    return list(itertools.takewhile(bool, (re.match(r"  ([\w-]*)", line + "  ")[1] for line in lines if line[2:3] != " ")))


def all_commands(*command):
    """Every command below `command`, groups such as `moe eval` too."""
    for name in subcommands(*command):
        yield (*command, name)
        yield from all_commands(*command, name)


class SmallRun:
    """A dataset, a trained model and a study below `base`. `tokenizer`: further options of `moe tokenizer train`."""

    def __init__(self, base, tokenizer=()):
        self.base = base
        texts = [path.read_text()[:3000] for path in sorted((ROOT / "src/base").glob("*.h"))]
        (self.text,) = make_dataset(base, {"headers": texts}, vocab_size=300, tokenizer=tokenizer)
        self.run_file, self.study_file = base / "run.toml", base / "study.toml"
        self.run_file.write_text(RUN_FILE.format(folder=base))
        self.study_file.write_text(RUN_FILE.format(folder=base) + STUDY.format(folder=base))
        self.variables = base / "variables.json"
        self.variables.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello"}]}))
        self.ranks = base / "bytes.tiktoken"
        self.ranks.write_text("".join(f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256)))
        self.trained = moe("train", self.run_file)
        moe("study", "run", self.study_file)
        self.run, self.model = base / "run", base / "run" / "latest"
        self.outputs = itertools.count()
        self.making = threading.Lock()

    @property
    def adapter(self):
        """The folder of a run that trains adapters on the model; made at the first use, by one thread."""
        folder = self.base / "adapter"
        with self.making:
            if not folder.exists():
                moe("train", self.run_file, "--set", f"run.dir={folder}", "--set", f"model.from={self.run}",
                    "--set", "train.parameters=lora", "--set", "lora.rank=2")
        return folder

    def new(self, suffix=""):
        """A path that does not exist yet."""
        return self.base / f"out-{next(self.outputs)}{suffix}"

    def command_lines(self):
        """{command: arguments after it}; new output paths every time."""
        size = ["--hidden", 16, "--width", 8, "--experts", 4, "--top-k", 2, "--product", 0]
        model = [*size, "--heads", 2, "--layers", 1, "--vocabulary", 50]
        step = [*model, "--rows", 1, "--length", 8, "--steps", 1, "--warm-up", 0]
        return {
            ("tokenizer", "train"): ["--vocab-size", 290, "--out", self.new(), self.text],
            ("tokenizer", "compare"): [self.model, self.text],
            ("tokenizer", "import"): [self.ranks, "--words", "gpt-2", "--special", "<|end|>=256", "--out", self.new()],
            ("tokenizer", "encode"): ["--tokenizer", self.model],
            ("tokenizer", "apply-template"): ["--tokenizer", self.model, "--variables", self.variables],
            ("tokenizer", "decode"): ["--tokenizer", self.model],
            ("data",): ["--tokenizer", self.model, "--out", self.new(), self.text],
            ("data", "inspect"): [self.base / "dataset", "--sequence-length", 32],
            ("train",): [self.run_file, "--set", f"run.dir={self.new()}"],
            ("logits",): [self.model, "--tokens", "1,2,3", "--out", self.new()],
            ("generate",): [self.model, "--prompt", "class", "--max-new-tokens", 20, "--seed", 3],
            ("chat",): [self.model, "--max-new-tokens", 20, "--seed", 3],
            ("eval", "loss"): [self.model, self.text],
            ("eval", "experts"): [self.model, self.base / "dataset", "--out", self.new()],
            ("eval", "causal"): [self.model, self.text, "--tokens", 100],
            ("compare",): [self.model, self.adapter, self.text],
            ("convert",): [self.model, self.new()],
            ("merge",): [self.model, "--lora", f"{self.adapter}:0.5", "--out", self.new()],
            ("init",): ["--config", self.run_file, "--out", self.new()],
            ("inspect",): [self.model],
            ("verify",): [self.model, self.model],
            ("cost",): ["--preset", "deepseekmoe-2b"],
            ("study", "run"): [self.study_file],
            ("study", "show"): [self.study_file],
            ("trace",): [self.model, "--prompt", "class"],
            ("report",): [self.run, "--out", self.new(".html")],
            ("completion", "bash"): [],
            ("help",): ["eval", "loss"],
            ("bench",): step,
            ("bench", "step"): step,
            ("bench", "layer"): [*size, "--tokens", 8, "--repeats", 1],
            ("bench", "generate"): [*model, "--prompt", 8, "--tokens", 2, "--repeats", 1],
            ("bench", "tokenizer"): ["--tokenizer", self.model, "--mib", 1, "--repeats", 1, self.text],
            ("bench", "machine"): ["--product", 64, "--copy-mib", 1, "--repeats", 1],
        }

    def arguments(self, *command):
        return self.command_lines()[command]

    def vocabulary(self):
        return json.loads((self.model / "tokenizer.json").read_text())
