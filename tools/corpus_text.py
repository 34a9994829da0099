"""Turns the files of Debian packages into plain text: HTML, roff manual pages, dictd dictionaries, the bible program's data.

Every function gives units, (name, [paragraph, ...]): a unit is a chapter, an article, a source file, a manual page or a run of
dictionary entries; a paragraph is text without markup and without blank lines inside. A paragraph may begin with line ends,
where the text has more of them there than elsewhere (before an entry of the dictionary; Python source keeps its layout).
"""

import gzip
import html.parser
import re
import struct
import subprocess
import unicodedata

HAN = r"\u3400-\u9fff"
CJK = HAN + r"\u3000-\u303f\uff00-\uffef"

BOOKS = (
    "Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|1 Samuel|2 Samuel|1 Kings|2 Kings|1 Chronicles|"
    "2 Chronicles|Ezra|Nehemiah|Esther|Job|Psalms|Proverbs|Ecclesiastes|Song of Solomon|Isaiah|Jeremiah|Lamentations|Ezekiel|"
    "Daniel|Hosea|Joel|Amos|Obadiah|Jonah|Micah|Nahum|Habakkuk|Zephaniah|Haggai|Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|"
    "Romans|1 Corinthians|2 Corinthians|Galatians|Ephesians|Philippians|Colossians|1 Thessalonians|2 Thessalonians|1 Timothy|"
    "2 Timothy|Titus|Philemon|Hebrews|James|1 Peter|2 Peter|1 John|2 John|3 John|Jude|Revelation"
).split("|")


def squeeze(text):
    """One line: runs of blanks become one, none between two Chinese characters."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(rf"(?<=[{CJK}]) (?=[{CJK}])", "", text)


def bible(folder):
    """Chapters. The data file holds 64 KiB windows of `Ge1:1 In the beginning...` lines, each a compress(1) stream."""
    data = (folder / "usr/lib/bible.data").read_bytes()
    (windows,) = struct.unpack_from(">I", data, 0x58)
    starts = struct.unpack_from(f">{windows + 1}I", data, 0x5C)
    pieces = []
    for start, end in zip(starts, starts[1:]):
        packed = b"\x1f\x9d\x90" + data[start:end]
        pieces.append(subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout)
    books, unit, last = iter(BOOKS), None, None
    for line in b"".join(pieces).decode("ascii").splitlines()[1:]:
        book, chapter, verse, text = re.match(r"(\d?[A-Za-z]+)(\d+):(\d+) (.*)", line).groups()
        if book != last:
            last, title = book, next(books)
        if verse == "1":
            if unit:
                yield unit
            unit = (f"{title} {chapter}", [f"{title} {chapter}"])
        unit[1].append(f"{verse} {text}")
    yield unit


SOURCE_TAG = re.compile(r"\[(?:1913 Webster|Webster|WordNet|PJC|Century|RP|AS|RH|GG|JDG?|Stedman)[^\]\n]*\]")
COMBINING = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ",": "\u0327"}


def dictionary(folder, database):
    """Runs of about 4 KB of neighbouring entries, without the tags of their sources, pronunciation and link marks."""
    text = gzip.decompress((folder / database).read_bytes()).decode("utf-8", errors="replace")
    text = text[re.search(r"(?m)^A \\", text).start() :]
    text = re.sub(r"\s*\((\?|[^()\n]*\[)[^()\n]*\)(?=,| [a-z]+\.)", "", text)  # (j[~e]rm), (?; 135)
    text = re.sub(r" ?\\[^\\\n]*\\", "", SOURCE_TAG.sub("", text))
    text = re.sub(r"\{([^{}]*)\}", r"\1", text)
    text = re.sub(
        r"\[(['`^\"~=,])([A-Za-z])\]", lambda m: unicodedata.normalize("NFC", m[2] + COMBINING[m[1]]), text
    )
    text = re.sub(r"\[(ae|oe|AE|OE)\]", lambda m: {"ae": "æ", "oe": "œ", "AE": "Æ", "OE": "Œ"}[m[1]], text)
    run, size, first = [], 0, None
    for block in re.split(r"\n[ \t]*\n", text):
        starts_entry = bool(block.strip("\n")) and not block.lstrip("\n")[0].isspace()
        if starts_entry and size > 4000:
            yield (first, run)
            run, size = [], 0
        for number, paragraph in enumerate(_dictionary_paragraphs(block)):
            first = paragraph[:40] if not run else first
            run.append("\n" + paragraph if starts_entry and number == 0 else paragraph)
            size += len(paragraph.encode()) + 1
    if run:
        yield (first, run)


def _dictionary_paragraphs(block):
    """The head of an entry, and each numbered or lettered sense, on a line of its own."""
    lines, head = [], True
    for line in block.splitlines():
        if not line.strip():
            continue
        was_head = head
        head = not line[0].isspace() or bool(was_head and lines and lines[-1].count("[") > lines[-1].count("]"))
        new = not lines or (was_head and not head) or re.match(r"\s+(\d+\.|\([a-z]\)|Syn:|Note:)(\s|$)", line)
        if new:
            lines.append(line)
        else:
            lines[-1] += " " + line
    return [squeezed for squeezed in map(squeeze, lines) if len(squeezed) > 1 and "\ufffd" not in squeezed]


def python(folder):
    """Source files, as they are; generated tables, test support and text kept as data are left out."""
    for path in sorted(folder.glob("usr/lib/python3*/**/*.py")):
        name = path.relative_to(next(folder.glob("usr/lib/python3*"))).as_posix()
        if re.match(r"(encodings|pydoc_data|test|lib2to3/tests|__phello__)/|_sysconfigdata|html/entities|this\.py", name):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.is_symlink() or "\0" in text:
            continue
        yield (name, re.findall(r"(?s)\s*?\S.*?(?=\n[ \t]*\n|\Z)", text.strip()))


class _Html(html.parser.HTMLParser):
    """Collects paragraphs; headings, preformatted text and list items are paragraphs too; navigation and tables are left out."""

    BLOCK = set("p div section article h1 h2 h3 h4 h5 h6 li dt dd ul ol dl pre blockquote body br hr".split())
    SKIP = set("head script style table nav header footer noscript svg".split())
    SKIP_NAME = re.compile(
        r"(?<![\w.-])(banner|docnav|navheader|navfooter|toc|related|sphinxsidebar|headerlink|footer|indexterm|index|clearer|footnotes?|"
        r"list-of-tables|legalnotice|contents|topic|producttitle|versionbox)(?![\w.-])"
    )
    VOID = set("br hr img meta link input col area base wbr source".split())

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.text, self.stack, self.skipped, self.pre, self.heading = [], [], [], 0, 0, False

    def handle_starttag(self, tag, attributes):
        if tag in self.BLOCK and not (self.pre and tag == "br"):
            self.end_paragraph()
        self.heading = tag in ("h1", "h2") if tag in self.BLOCK else self.heading
        if tag in self.VOID:
            return
        names = " ".join(value or "" for key, value in attributes if key in ("class", "id"))
        skip = tag in self.SKIP or bool(self.SKIP_NAME.search(names))
        self.stack.append((tag, skip))
        self.skipped += skip
        self.pre += tag == "pre"

    def handle_startendtag(self, tag, attributes):
        if tag in self.BLOCK:
            self.end_paragraph()

    def handle_endtag(self, tag):
        if tag not in (open_tag for open_tag, _ in self.stack):
            return
        if tag in self.BLOCK:
            self.end_paragraph()
            self.heading = False
        while self.stack:
            open_tag, skip = self.stack.pop()
            self.skipped -= skip
            self.pre -= open_tag == "pre"
            if open_tag == tag:
                break

    def handle_data(self, data):
        if not self.skipped:
            self.text.append(data)

    def end_paragraph(self):
        text = "".join(self.text).replace("\u00a0", " ")
        self.text = []
        if self.pre:
            text = "\n".join(line.rstrip() for line in text.expandtabs().splitlines() if line.strip())
        else:
            text = squeeze(text)
        if text and "\ufffd" not in text:
            self.paragraphs.append((text, self.heading))


def html_pages(folder, pattern, leave_out=r"^$"):
    """One unit per section of an HTML file: what follows a heading of the first two levels."""
    for path in sorted(folder.glob(pattern)):
        if path.is_symlink() or not path.is_file() or re.search(leave_out, path.name):
            continue
        parser = _Html()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        parser.end_paragraph()
        unit = []
        for paragraph, is_heading in parser.paragraphs:
            if is_heading and any(len(text) >= 80 for text in unit):
                yield (f"{path.name}: {unit[0]}", unit)
                unit = []
            unit.append(paragraph)
        if unit:
            yield (f"{path.name}: {unit[0]}", unit)


ROFF_CHARACTERS = {
    "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "aq": "'", "dq": '"', "bu": "•", "em": "—", "en": "–", "hy": "-", "co": "©",
    "rg": "®", "tm": "™", "ga": "`", "ha": "^", "ti": "~", "rs": "\\", "mi": "−", "mu": "×", "->": "→", "<=": "≤", ">=": "≥",
    "Fo": "«", "Fc": "»", "or": "|", "at": "@", "sh": "#", "bv": "|", "aa": "´", "R": "®", "Tm": "™", "L\"": "“", "R\"": "”",
    "C`": "", "C'": "", "C+": "C++", "--": "--", "PI": "π",
}
FONT_MACROS = set("B I R BR RB BI IB IR RI SM SB".split())
PARAGRAPH_MACROS = set("PP P LP TP IP HP RS RE br sp nf fi Vb Ve EX EE CS CE Sp TQ YS".split())
UNFILLED, FILLED = {"nf", "Vb", "EX", "CS"}, {"fi", "Ve", "EE", "CE"}
SKIPPED_TO = {"de": "..", "ig": "..", "am": "..", "TS": ".TE", "EQ": ".EN", "PS": ".PE"}


def _roff_inline(text):
    text = re.sub(r'\\".*', "", text)
    text = re.sub(r"\\s[+-]?\d+|\\[zv](?=.)|\\[hvwlLoD]'[^']*'|\\n\([\w]{2}|\\n\[[^\]]*\]|\\n\w", "", text)
    text = re.sub(r"\\[fmMF](\(..|\[[^\]]*\]|.)", "", text)
    text = re.sub(r"\\\*?\((..)", lambda m: ROFF_CHARACTERS.get(m[1], ""), text)
    text = re.sub(r"\\\*?\[([^\]]*)\]", lambda m: ROFF_CHARACTERS.get(m[1], ""), text)
    text = re.sub(r"\\\*(.)", lambda m: ROFF_CHARACTERS.get(m[1], ""), text)
    text = re.sub(r"\\[&|^%:/,)cdu{}]", "", text)
    text = text.replace("\\e", "\\\0").replace("\\\\", "\\\0").replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ")
    text = re.sub(r"\\0", " ", text)
    return re.sub(r"\\(?!\0)(.)", r"\1", text).replace("\0", "")


def _roff_arguments(rest):
    return [quoted.replace('""', '"') if quoted else plain for quoted, plain in re.findall(r'"((?:[^"]|"")*)"?|(\S+)', rest)]


class _Roff:
    """The text of a manual page, macro by macro: filled lines are joined, unfilled ones kept."""

    def __init__(self):
        self.paragraphs, self.lines, self.filled, self.until = [], [], True, None

    def end_paragraph(self):
        text = squeeze(" ".join(self.lines)) if self.filled else "\n".join(x.rstrip() for x in self.lines if x.strip())
        self.lines = []
        if text.strip():
            self.paragraphs.append(text)

    def add(self, text):
        text = _roff_inline(text)
        if text.strip():
            self.lines.append(text if not self.filled else text.strip())

    def line(self, line):
        if self.until:
            self.until = None if line.rstrip() == self.until or line.startswith(self.until + " ") else self.until
        elif not line.strip():
            self.end_paragraph()
        elif line[0] not in ".'":
            self.add(line)
        else:
            match = re.match(r"[.']\s*(\\?[^\s]*)\s*(.*)", line)
            self.macro(match[1], match[2])

    def macro(self, name, rest):
        if name.startswith('\\"') or name in ("", "\\"):
            return
        if name in SKIPPED_TO:
            self.until = SKIPPED_TO[name]
        elif name in ("if", "ie", "el", "while"):
            depth = rest.count("\\{") - rest.count("\\}")
            self.until = ".\\}" if depth > 0 else None
        elif name in ("SH", "SS"):
            self.end_paragraph()
            self.filled = True
            self.add(" ".join(_roff_arguments(rest)))
            self.end_paragraph()
        elif name in PARAGRAPH_MACROS:
            self.end_paragraph()
            self.filled = name not in UNFILLED and (self.filled or name in FILLED)
            if name == "IP":
                self.add(" ".join(_roff_arguments(rest)[:1]))
        elif name in FONT_MACROS:
            self.add(("" if len(name) == 2 and name not in ("SM", "SB") else " ").join(_roff_arguments(rest)))


def manual_pages(folder, language):
    """Manual pages in one language, their paragraphs without a character of its script left out (they are untranslated)."""
    for path in sorted(folder.glob(f"usr/share/man/{language}/man*/*.gz")):
        if path.is_symlink():
            continue
        try:
            text = gzip.decompress(path.read_bytes()).decode("utf-8").expandtabs()
        except UnicodeDecodeError:
            continue
        if re.search(r"(?m)^\.(Dd|Sh)\b", text):  # BSD's macros carry their words as arguments
            continue
        page = _Roff()
        for line in re.sub(r"\\\n", "", text).splitlines():
            page.line(line)
        page.end_paragraph()
        paragraphs = [paragraph for paragraph in page.paragraphs if re.search(f"[{HAN}]", paragraph)]
        if paragraphs:
            yield (path.name.removesuffix(".gz"), paragraphs)
