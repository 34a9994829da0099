#!/usr/bin/env python3
"""Fine-tunes the demo's model on one domain, once with all parameters and once with the experts that the domain needs (ESFT).

    make demo                                              # runs/demo and build/corpus
    python3 bench/esft.py --domain dictionary              # three seeds: about ten minutes on two cores
    python3 bench/esft.py --domain dictionary --seeds 1 --steps 20 --most 200       # a try

The domain's data are questions and answers (tools/make_questions.py). For each seed the table has

- the loss on the domain's held-out answers: of the demo's model, after full fine-tuning, after ESFT;
- the part of the parameters that ESFT trained;
- how much the loss on held-out text of the other four domains rose (nats per token, the mean over domains).

The last lines say whether ESFT reached full fine-tuning's loss within 1% with at most 10% of the parameters, and whether it lost
at most half as much elsewhere. Both runs have the same steps, data and order; each has its own learning rate.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

DOMAINS = ("bible", "dictionary", "python", "handbook", "chinese")


def run(*command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


class Experiment:
    def __init__(self, options):
        self.options, self.moe, self.work = options, options.moe, options.work
        self.data = self.work / "data" / options.domain

    def losses(self, model, *what):
        file = self.work / "scores.json"
        run(self.moe, "eval", "loss", model, *what, "--json", file, "--device", "cpu")
        scores = json.loads(file.read_text())
        return {name: entry["loss"] for name, entry in scores["domains"].items()}

    def measured(self, model):
        """(loss on the domain's answers, {other domain: loss on its text})"""
        answers = self.losses(model, self.data / "valid")[self.options.domain]
        texts = [self.options.corpus / domain / "valid.jsonl" for domain in DOMAINS if domain != self.options.domain]
        return answers, self.losses(model, *texts)

    def make_data(self):
        if self.data.exists():
            return
        questions = self.work / "questions"
        run(sys.executable, "tools/make_questions.py", "--corpus", self.options.corpus, "--out", questions, "--most",
            self.options.most)
        self.data.mkdir(parents=True)
        for part in ("train", "valid"):
            run(self.moe, "data", "--chat", "--tokenizer", self.options.base, "--max-tokens", 256, "--out",
                self.data / part, questions / part / f"{self.options.domain}.jsonl")

    def train(self, name, seed, rate, *more):
        folder = self.work / f"{self.options.domain}-{name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        settings = {
            "run.dir": folder,
            "model.from": self.options.base,
            "data.train": self.data / "train",
            "data.valid": "",
            "train.seed": seed,
            "train.steps": self.options.steps,
            "train.dtype": self.options.dtype,
            "optimizer.learning_rate": rate,
            "eval.every": 0,
        }
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        said = run(self.moe, "train", "configs/sft-demo.toml", *sets, *more, "--device", "cpu")
        return folder / "latest", said

    def seed(self, seed):
        full, _ = self.train("full", seed, self.options.full_rate)
        experts = self.work / f"{self.options.domain}-{seed}.json"
        run(self.moe, "eval", "experts", self.options.base, self.data / "train", "--rule", self.options.rule, "--p",
            self.options.p, "--seed", seed, "--out", experts, "--device", "cpu")
        part, said = self.train("esft", seed, self.options.esft_rate, "--set", "train.parameters=experts", "--set",
                                f"train.experts={experts}")
        trained, all_of = re.search(r"; ([\d.]+[KM]?) of ([\d.]+[KM]?) parameters", said).groups()
        return self.measured(full), self.measured(part), number(trained) / number(all_of), experts


def number(text):
    return float(text.rstrip("KM")) * {"K": 1e3, "M": 1e6}.get(text[-1], 1)


def rise(before, after):
    return sum(after[domain] - before[domain] for domain in before) / len(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moe", default="build/moe")
    parser.add_argument("--base", type=Path, default=Path("runs/demo"))
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"))
    parser.add_argument("--work", type=Path, default=Path("runs/esft"))
    parser.add_argument("--domain", choices=DOMAINS, default="dictionary")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--most", type=int, default=2400, help="conversations of the domain, at most")
    parser.add_argument("--rule", choices=("token", "gate"), default="token")
    parser.add_argument("--p", type=float, default=0.2)
    parser.add_argument("--full-rate", type=float, default=2.5e-4)
    parser.add_argument("--esft-rate", type=float, default=1.5e-3)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="bf16" if "avx512_bf16" in cpu_flags() else "f32")
    options = parser.parse_args()
    experiment = Experiment(options)
    options.work.mkdir(parents=True, exist_ok=True)
    experiment.make_data()
    base_answers, base_texts = experiment.measured(options.base)
    print(f"{options.domain}: loss on held-out answers, and rise of the loss on text of the other domains")
    print(f"{'seed':>4} {'before':>8} {'full':>8} {'ESFT':>8} {'ESFT/full':>10} {'parameters':>11} {'rise, full':>11} {'rise, ESFT':>11}")
    good = []
    for seed in options.seeds:
        (full, full_texts), (part, part_texts), share, _ = experiment.seed(seed)
        full_rise, part_rise = rise(base_texts, full_texts), rise(base_texts, part_texts)
        print(f"{seed:4} {base_answers:8.4f} {full:8.4f} {part:8.4f} {part / full:10.4f} {share:11.1%} {full_rise:11.4f} {part_rise:11.4f}", flush=True)
        good.append((part <= 1.01 * full, share <= 0.1, part_rise <= full_rise / 2))
    for text, results in zip(("within 1% of full fine-tuning", "at most 10% of the parameters", "at most half the rise elsewhere"), zip(*good)):
        print(f"{text}: {sum(results)} of {len(results)} seeds")


def cpu_flags():
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
