#!/usr/bin/env python3
"""Makes the demo's corpus: real text of several domains, from Debian packages, fetched by name and installed nowhere.

For each domain it writes OUT/DOMAIN/train.jsonl and valid.jsonl, one document ({"text": ...}) a line; OUT/manifest.json says
where every byte comes from. The same package versions give the same files.

- A paragraph that occurs in several domains is left out everywhere; of equal paragraphs within a domain the first stays. This
  is done before the split, for paragraphs of at least 40 bytes (shorter ones are headings and idioms).
- The split is by whole units (chapter, file, manual page, run of dictionary entries), taken evenly spread through the domain:
  a unit that gives a validation document gives none for training. Documents are pages of a unit, of whole paragraphs.
- Every domain gets the same number of bytes for training, that of the smallest domain, its documents again evenly spread.
"""

import argparse
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import corpus_text  # noqa: E402

PAGE = 4096  # a page ends with the first paragraph that reaches this many bytes
VALIDATION = 65536  # bytes of validation text per domain, at least
MOST = 4_000_000  # bytes of training text per domain, at most
SHORT = 40  # bytes below which equal paragraphs may repeat
ENGLISH = "usr/share/doc/debian-handbook/html/en-US/*.html"

# domain -> what separates paragraphs, and package -> units from its unpacked folder (of alternatives a|b the first there is)
DOMAINS = {
    "bible": ("\n", {"bible-kjv-text": corpus_text.bible}),
    "dictionary": (
        "\n",
        {"dict-gcide": lambda folder: corpus_text.dictionary(folder, "usr/share/dictd/gcide.dict.dz")},
    ),
    "python": (
        "",
        {
            "libpython3.11-stdlib|libpython3.13-stdlib": corpus_text.python,
            "libpython3.11-minimal|libpython3.13-minimal": corpus_text.python,
        },
    ),
    "handbook": (
        "\n\n",
        {
            "debian-handbook": lambda folder: corpus_text.html_pages(folder, ENGLISH, r"^index"),
            "debian-reference-en": lambda folder: corpus_text.html_pages(
                folder, "usr/share/debian-reference/*.en.html", r"^index"
            ),
            "debian-policy": lambda folder: corpus_text.html_pages(
                folder, "usr/share/doc/debian-policy/**/*.html", r"^(index|genindex|search)"
            ),
            "developers-reference": lambda folder: corpus_text.html_pages(
                folder, "usr/share/developers-reference/*.html", r"^(index|genindex|search|developers-reference)"
            ),
            "maint-guide": lambda folder: corpus_text.html_pages(
                folder, "usr/share/doc/maint-guide/html/*.en.html", r"^index"
            ),
            "debian-faq": lambda folder: corpus_text.html_pages(
                folder, "usr/share/doc/debian/FAQ/*.en.html", r"^index"
            ),
        },
    ),
    "chinese": ("\n", {"manpages-zh": lambda folder: corpus_text.manual_pages(folder, "zh_CN")}),
}


def fail(message):
    sys.exit(f"make_corpus: {message}")


class Packages:
    """Fetches packages by name into a folder and unpacks them there, with apt's own configuration and no privilege."""

    def __init__(self, folder):
        self.folder, self.options = folder, []
        folder.mkdir(parents=True, exist_ok=True)
        for tool in ("apt-get", "dpkg-deb"):
            if not shutil.which(tool):
                fail(f"there is no {tool} here; the corpus comes from Debian packages, so run this on Debian or Ubuntu")

    def _run(self, *command):
        return subprocess.run(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _own_lists(self):
        """Package lists of our own, for a machine whose apt has none (an image that throws them away, or no root)."""
        (self.folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        lists = (self.folder / "lists").resolve()
        self.options = ["-o", f"Dir::State::lists={lists}", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
        if os.geteuid() == 0:
            self.options += ["-o", "APT::Sandbox::User=root"]
        return self._run("apt-get", *self.options, "-q", "update")

    def fetch(self, name):
        """The .deb file of a package, from an earlier run or from the archive."""
        have = sorted(self.folder.glob(f"{name}_*.deb"))
        if have:
            return have[0]
        done = self._run("apt-get", *self.options, "-q", "download", name)
        if done.returncode and not self.options:
            print("fetching package lists", file=sys.stderr)
            self._own_lists()
            done = self._run("apt-get", *self.options, "-q", "download", name)
        have = sorted(self.folder.glob(f"{name}_*.deb"))
        return have[0] if done.returncode == 0 and have else done.stdout.strip()

    def unpack(self, alternatives):
        """(file, folder) of the first of several packages that can be fetched."""
        for name in alternatives.split("|"):
            file = self.fetch(name)
            if isinstance(file, Path):
                folder = self.folder / "unpacked" / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
                return file, folder
        fail(f"apt-get could not download {alternatives.replace('|', ' or ')}; it said: {file.splitlines()[-1] if file else '?'}")


def key(paragraph):
    """What two equal paragraphs share: the text without a verse number and layout, or None if it is short."""
    text = re.sub(r"\s+", " ", re.sub(r"^\s*\d+ ", "", paragraph)).strip()
    return hashlib.blake2b(text.encode(), digest_size=16).digest() if len(text.encode()) >= SHORT else None


def drop_repeats(domains):
    """Takes out paragraphs of several domains and repeats within one; counts both per domain."""
    keys = {name: [[key(text) for text in paragraphs] for _, paragraphs in units] for name, units in domains.items()}
    homes = Counter(item for rows in keys.values() for item in {k for row in rows for k in row if k})
    dropped = {}
    for name, units in domains.items():
        seen, kept_units = set(), []
        counts = dropped[name] = {"in_several_domains": 0, "repeated": 0}
        for (unit, paragraphs), row in zip(units, keys[name]):
            kept = []
            for text, item in zip(paragraphs, row):
                if item and homes[item] > 1:
                    counts["in_several_domains"] += 1
                elif item and item in seen:
                    counts["repeated"] += 1
                else:
                    kept.append(text)
                    seen.add(item)
            if any(len(text) >= SHORT for text in kept):
                kept_units.append((unit, kept))
        domains[name] = kept_units
    return dropped


def pages(paragraphs, separator):
    """Documents of whole paragraphs; one that would end as a small rest joins the page before it."""
    made, current, size = [], [], 0
    for paragraph in paragraphs:
        current.append(paragraph)
        size += len(paragraph.encode()) + len(separator)
        if size >= PAGE:
            made.append(current)
            current, size = [], 0
    if current and made and size < PAGE // 4:
        made[-1] += current
    elif current:
        made.append(current)
    return [separator.join(page).strip("\n") + "\n" for page in made]


def size_of(documents):
    return sum(len(document.encode()) for document in documents)


def cut(document, size):
    """The document up to the first line end at which it holds at least `size` bytes."""
    data = document.encode()
    end = data.find(b"\n", size - 1)
    return data[: end + 1 if end >= 0 else None].decode()


def split(units, separator):
    """(train, valid): units evenly spread give one page each to validation, the next page at each turn, and nothing else."""
    paged = [pages(paragraphs, separator) for _, paragraphs in units]
    total, count, chosen = sum(map(size_of, paged)), VALIDATION // PAGE, {}
    while size_of(chosen.values()) < VALIDATION:
        count += 1
        chosen, passed = {}, 0
        for index, documents in enumerate(paged):
            before, passed = passed, passed + size_of(documents)
            if before * count // total != passed * count // total and size_of(chosen.values()) < VALIDATION:
                chosen[index] = documents[len(chosen) % len(documents)]
    last = max(chosen)
    chosen[last] = cut(chosen[last], VALIDATION - size_of(chosen.values()) + len(chosen[last].encode()))
    train = [document for index, documents in enumerate(paged) if index not in chosen for document in documents]
    return train, list(chosen.values())


def thin(documents, size):
    """Documents evenly spread over a list, `size` bytes of them to within a paragraph."""
    share, kept, held, passed, left = size / size_of(documents), [], 0, 0, None
    for document in documents:
        length = len(document.encode())
        passed += length
        if held + length / 2 <= passed * share and held + length <= size:
            kept.append(document)
            held += length
        else:
            left = document
    if left and held < size:
        end = left.encode()[: size - held].rfind(b"\n") + 1
        kept += [left.encode()[:end].decode()] if end else []
    return kept


def write(path, documents):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")


def read_domains(packages):
    """({domain: units}, what the manifest says of each package)."""
    domains, sources = {}, {}
    for domain, (_, readers) in DOMAINS.items():
        domains[domain], sources[domain] = [], []
        for name, reader in readers.items():
            file, folder = packages.unpack(name)
            units = list(reader(folder))
            package, version = subprocess.run(
                ["dpkg-deb", "-W", "--showformat=${Package} ${Version}", file], check=True, text=True, stdout=subprocess.PIPE
            ).stdout.split()
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            sources[domain].append({"package": package, "version": version, "sha256": sha256, "units": len(units)})
            domains[domain] += units
            shutil.rmtree(folder)
    return domains, sources


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/corpus"), help="folder to write (default: build/corpus)")
    parser.add_argument("--packages", type=Path, help="folder to keep the packages in (default: OUT/packages)")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)

    print("fetching Debian packages (nothing is installed)", file=sys.stderr)
    domains, sources = read_domains(Packages(arguments.packages or out / "packages"))
    dropped = drop_repeats(domains)
    parts = {name: split(units, DOMAINS[name][0]) for name, units in domains.items()}
    target = min(MOST, *(size_of(train) for train, _ in parts.values()))

    manifest = {"train_bytes_per_domain": target, "validation_bytes_per_domain": VALIDATION, "domains": {}}
    print(f"{'domain':12}{'train bytes':>12}{'documents':>11}{'valid bytes':>13}{'documents':>11}{'xz -9, bits per byte':>23}")
    for name, (train, valid) in parts.items():
        available = size_of(train)
        train = thin(train, target)
        packed = len(lzma.compress("".join(valid).encode(), preset=9))
        entry = {"packages": sources[name], "paragraphs_dropped": dropped[name], "train_bytes_available": available}
        (out / name).mkdir(exist_ok=True)
        for part, documents in (("train", train), ("valid", valid)):
            path = out / name / f"{part}.jsonl"
            write(path, documents)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            entry[part] = {"documents": len(documents), "text_bytes": size_of(documents), "sha256": sha256}
        entry["valid"]["xz_9_bytes"] = packed
        entry["valid"]["xz_9_bits_per_byte"] = round(8 * packed / size_of(valid), 4)
        manifest["domains"][name] = entry
        print(
            f"{name:12}{size_of(train):12}{len(train):11}{size_of(valid):13}{len(valid):11}"
            f"{entry['valid']['xz_9_bits_per_byte']:23.3f}"
        )
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
