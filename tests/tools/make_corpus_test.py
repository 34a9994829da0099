"""tools/make_corpus.py and tools/corpus_text.py: no markup left, no paragraph on both sides of the split, equal shares."""

import gzip
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import corpus_text  # noqa: E402
import make_corpus  # noqa: E402


def numbered_units(count, paragraphs, width=200):
    """Units whose paragraphs are all different and name their unit."""
    return [(f"u{u}", [f"unit {u} paragraph {p} ".ljust(width, "x") for p in range(paragraphs)]) for u in range(count)]


class Extractors(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def test_a_manual_page_becomes_its_words(self):
        page = (
            '.\\" comment\n.TH LS 1\n.de XX\n.B gone\n..\n.SH 描述\n列出\n\\fB文件\\fR的信息\\-甲\n.TP\n.B \\-a\n显示所有\n'
            ".if n gone\n.PP\nonly English words here\n.nf\n第一行\n  第二行\n.fi\n"
        )
        path = self.root / "usr/share/man/zh_CN/man1/ls.1.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(page.encode()))
        self.assertEqual(
            list(corpus_text.manual_pages(self.root, "zh_CN")),
            [("ls.1", ["描述", "列出文件的信息-甲", "-a 显示所有", "第一行\n  第二行"])],
        )

    def test_an_html_page_becomes_sections_without_navigation_and_tables(self):
        long = "word " * 20
        (self.root / "a.html").write_text(
            f"<html><head><title>no</title></head><body><div class='navheader'>no</div><h1>One<a class='headerlink'>¶</a></h1>"
            f"<p>{long}&amp; <code>x</code></p><table><tr><td>no</td></tr></table><pre>  a\n\n  b</pre><h2>Two</h2><p>end</p>"
        )
        self.assertEqual(
            list(corpus_text.html_pages(self.root, "*.html")),
            [("a.html: One", ["One", f"{long}& x", "  a\n  b"]), ("a.html: Two", ["Two", "end"])],
        )

    def test_a_dictionary_entry_keeps_its_words_alone(self):
        text = (
            'front matter\n\nA \\A\\ (named [=a] in the English).\n   The first letter.\n   [1913 Webster]\n\n'
            'Germ \\Germ\\ (j[~e]rm), n. [F. germe. Cf.\n   {Germane}.]\n   1. (Biol.) That which\n      develops.\n'
            "      [1913 Webster +PJC]\n\n   2. Origin, caf['e].\n"
        )
        path = self.root / "d.dz"
        path.write_bytes(gzip.compress(text.encode()))
        ((_, paragraphs),) = corpus_text.dictionary(self.root, "d.dz")
        self.assertEqual(
            paragraphs[2:],
            ["\nGerm, n. [F. germe. Cf. Germane.]", "1. (Biol.) That which develops.", "2. Origin, café."],
        )

    def test_python_source_is_kept_to_the_byte(self):
        text = "import os\n\n\ndef f():\n    a = 1\n\n    return a\n"
        path = self.root / "usr/lib/python3.11/m.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        ((name, paragraphs),) = corpus_text.python(self.root)
        self.assertEqual((name, "".join(paragraphs) + "\n"), ("m.py", text))
        self.assertEqual(make_corpus.pages(paragraphs, ""), [text])


class Split(unittest.TestCase):
    def test_repeats_go_before_the_split(self):
        common, twice = "the same long paragraph in two languages' files", "a long paragraph that occurs twice in here"
        domains = {
            "a": [("1", [common, twice, "short"]), ("2", [f"12 {twice}", "short", "a long paragraph that occurs only once"])],
            "b": [("3", [f"  {common}", "another long paragraph that occurs only once"])],
        }
        dropped = make_corpus.drop_repeats(domains)
        self.assertEqual(domains["a"][0][1], [twice, "short"])
        self.assertNotIn(f"12 {twice}", domains["a"][-1][1])
        self.assertEqual(domains["b"], [("3", ["another long paragraph that occurs only once"])])
        self.assertEqual(dropped["a"], {"in_several_domains": 1, "repeated": 1})
        self.assertEqual(dropped["b"], {"in_several_domains": 1, "repeated": 0})

    def test_no_unit_is_on_both_sides_and_validation_is_spread(self):
        train, valid = make_corpus.split(numbered_units(300, 40), "\n")
        units_of = lambda documents: {line.split()[1] for text in documents for line in text.splitlines()}  # noqa: E731
        self.assertFalse(units_of(train) & units_of(valid))
        size = make_corpus.size_of(valid)
        self.assertTrue(make_corpus.VALIDATION <= size < make_corpus.VALIDATION + 300, size)
        places = sorted(int(unit) for unit in units_of(valid))
        self.assertGreaterEqual(len(places), 14)
        self.assertLess(places[0], 30)
        self.assertGreater(places[-1], 250)
        self.assertEqual((train, valid), make_corpus.split(numbered_units(300, 40), "\n"))

    def test_a_share_of_the_training_text_is_spread_and_of_the_size_asked_for(self):
        train, _ = make_corpus.split(numbered_units(300, 40), "\n")
        kept = make_corpus.thin(train, 500_000)
        self.assertTrue(499_700 < make_corpus.size_of(kept) <= 500_000, make_corpus.size_of(kept))
        units = [int(text.split()[1]) for text in kept]
        self.assertGreater(sum(unit >= 150 for unit in units), len(units) // 3)
        self.assertGreater(sum(unit < 150 for unit in units), len(units) // 3)
        self.assertEqual(make_corpus.thin(train, make_corpus.size_of(train)), train)


if __name__ == "__main__":
    unittest.main()
