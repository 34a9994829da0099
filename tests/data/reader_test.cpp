#include "data/reader.h"

#include <fstream>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/compress.h"
#include "tests/support/peak_memory.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::u32string code_points(std::string_view utf8) {
  std::u32string codes;
  for (const char byte : utf8) {
    const auto value = static_cast<unsigned char>(byte);
    if ((value & 0xC0) == 0x80) {
      codes.back() = codes.back() << 6 | (value & 0x3F);
    } else {
      codes += value < 0x80 ? value : value < 0xE0 ? value & 0x1F : value < 0xF0 ? value & 0x0F : value & 0x07;
    }
  }
  return codes;
}

class Reader : public testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::vector<std::string> documents(const std::string& name, const std::string& content) {
    std::vector<std::string> found;
    for_each_document(file(name, content), [&](std::string_view text, uint64_t) { found.emplace_back(text); });
    return found;
  }
  std::string refusal(const std::string& name, const std::string& content) {
    const std::string error = error_of<Error>([&] { documents(name, content); });
    EXPECT_TRUE(error.starts_with((folder_ / name).string())) << error;
    return error.substr(std::min(error.size(), (folder_ / name).string().size()));
  }
  TemporaryFolder folder_;
};

TEST_F(Reader, JsonLinesGiveTheFieldTextOfEachLine) {
  EXPECT_THAT(documents("a.jsonl",
                        "{\"text\": \"one\\ntwo\"}\n{\"id\": {\"text\": 3}, \"text\": \"\\u00fc \\ud83d\\ude00\"}\n"),
              ElementsAre("one\ntwo", "ü 😀"));
}

TEST_F(Reader, OfATextThatOccursTwiceTheLastCounts) {
  EXPECT_THAT(documents("a.jsonl", "{\"text\": \"one\", \"n\": 1, \"text\": \"two\"}\n"), ElementsAre("two"));
  EXPECT_THAT(documents("b.jsonl", "{\"text\": 1, \"text\": \"two\"}\n"), ElementsAre("two"));
  EXPECT_THAT(refusal("c.jsonl", "{\"text\": \"one\", \"text\": 2}\n"), HasSubstr("is number, expected a string"));
}

TEST_F(Reader, NumbersBeyondAnyIntegerAndEscapedNamesAreRead) {
  EXPECT_THAT(documents("a.jsonl", "{\"n\": 123456789012345678901234567890, \"text\": \"one\"}\n"), ElementsAre("one"));
  EXPECT_THAT(documents("b.jsonl", "{\"\\u0074ext\": \"a\\u0000b\"}\n"), ElementsAre(std::string("a\0b", 3)));
}

TEST_F(Reader, NulBytesNeverEndALine) {
  using namespace std::string_literals;
  const std::string one = "{\"text\": \"one\"}", two = "{\"text\": \"two\"}";
  const std::string gap(8, '\0');
  for (const std::string& line : {one + gap + two, one + gap, gap + one, "{\"text\": \"o" + gap + "ne\"}", gap}) {
    EXPECT_THAT(refusal("a.jsonl", two + "\n" + line + "\n" + two + "\n"),
                HasSubstr(":2: this line is not valid JSON"));
  }
  EXPECT_THAT(refusal("b.jsonl", one + two + "\n"), HasSubstr(":1: this line is not valid JSON"));
  EXPECT_THAT(documents("a.txt", "one\0two"s), ElementsAre("one\0two"s));
}

TEST_F(Reader, TheLastLineNeedsNoEndAndWindowsLineEndsAreFine) {
  EXPECT_THAT(documents("a.jsonl", "{\"text\": \"one\"}\r\n{\"text\": \"two\"}"), ElementsAre("one", "two"));
}

TEST_F(Reader, BlankLinesAndDocumentsWithoutTextAreSkipped) {
  EXPECT_THAT(documents("a.jsonl", "\n  \t\r\n{\"text\": \"one\"}\n\n{\"text\": \"\"}\n\n"), ElementsAre("one"));
  EXPECT_THAT(documents("empty.jsonl", ""), IsEmpty());
  EXPECT_THAT(documents("empty.txt", ""), IsEmpty());
}

TEST_F(Reader, AByteOrderMarkIsDroppedAtTheBeginningOnly) {
  EXPECT_THAT(documents("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\n"), ElementsAre("one"));
  EXPECT_THAT(documents("a.txt", "\xEF\xBB\xBFone\xEF\xBB\xBF"), ElementsAre("one\xEF\xBB\xBF"));
  EXPECT_THAT(documents("b.txt", "\xEF\xBB\xBF"), IsEmpty());
  EXPECT_THAT(documents("c.txt", "\xEF\xBB"), ElementsAre("\xEF\xBB"));
}

TEST_F(Reader, CompressedFilesReadLikePlainOnes) {
  const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  EXPECT_THAT(documents("a.jsonl.gz", test::gzip(lines)), ElementsAre("one", "two"));
  EXPECT_THAT(documents("a.jsonl.zst", test::zstd(lines)), ElementsAre("one", "two"));
  EXPECT_THAT(documents("a.txt.gz", test::gzip("some text")), ElementsAre("some text"));
  EXPECT_THAT(documents("a.txt.zst", test::zstd("some text")), ElementsAre("some text"));
}

TEST_F(Reader, BadLinesAreNamedWithFileAndLine) {
  const std::string good = "{\"text\": \"one\"}\n\n";
  EXPECT_EQ(
      refusal("a.jsonl", good + "{\"text\": \"two\""),
      ":3: this line is not valid JSON (near its byte 15: unexpected end of input; expected '}'), expected an object "
      "with a field \"text\"");
  EXPECT_EQ(refusal("b.jsonl", good + "{\"Text\": \"two\", \"n\": 1}\n"),
            ":3: this object has no field \"text\" (its fields: \"Text\", \"n\"); name the one that holds the document "
            "with --field");
  EXPECT_EQ(
      refusal("c.jsonl", good + "{}\n"),
      ":3: this object has no field \"text\" (its fields: none); name the one that holds the document with --field");
  EXPECT_EQ(refusal("d.jsonl", good + "{\"text\": 3}\n"), ":3: the field \"text\" is number, expected a string");
  EXPECT_EQ(refusal("e.jsonl", good + "[\"text\"]\n"),
            ":3: this is not a JSON object but a list, expected an object with a field \"text\"");
  EXPECT_THAT(refusal("f.jsonl", good + "{\"text\": \"\xff\xfe\"}\n"), HasSubstr(":3: this line is not valid JSON"));
  EXPECT_THAT(refusal("g.jsonl", good + "{\"text\": \"\\ud800\"}\n"), HasSubstr("surrogate"));
}

TEST_F(Reader, AJsonFileIsAListOrOneObjectAfterTheOther) {
  EXPECT_THAT(
      documents("a.json", "[{\"text\": \"o]n}e\"},\n \"two\\\"\", {\"id\": [1, {}],\n \"text\": \"three\\\\\"}\n]\n"),
      ElementsAre("o]n}e", "two\"", "three\\"));
  EXPECT_THAT(documents("b.json", "{\n  \"text\": \"one\"\n}\n"), ElementsAre("one"));
  EXPECT_THAT(documents("c.json", "{\"text\": \"one\"}\n{\"text\": \"two\"}"), ElementsAre("one", "two"));
  EXPECT_THAT(documents("d.json", "[]"), IsEmpty());
  EXPECT_THAT(documents("e.json", " \n"), IsEmpty());
  EXPECT_THAT(refusal("f.json", "[{\"text\": \"one\"},\n {\"text\": \"two\""),
              HasSubstr(":2: not valid JSON: a value that begins here and has no end"));
  EXPECT_THAT(refusal("g.json", "[{\"text\": \"one\"}"),
              HasSubstr(":1: not valid JSON: the end of the file inside the list"));
  EXPECT_THAT(refusal("h.json", "[{\"text\": \"one\"} {\"text\": \"two\"}]"), HasSubstr("no comma"));
  EXPECT_THAT(refusal("i.json", "[{\"text\": \"one\"}]\n\n{}"), HasSubstr(":3: not valid JSON: text after the list"));
  EXPECT_THAT(refusal("j.json", "[{\"text\": \"one\"},\n 3]"),
              HasSubstr(":2: this is not a JSON object but a number, expected"));
  EXPECT_THAT(refusal("k.json", "[{\"text\": \"one\"},]"), HasSubstr("no value where one is expected"));
  EXPECT_THAT(refusal("l.json", "[\n{\"text\": \"one\", }]"), HasSubstr(":2: this line is not valid JSON"));
  std::string list;
  for (int i = 0; i < 30000; ++i) list += fmt::format("{}{{\"text\": \"document {}\"}}", i == 0 ? "[" : ",\n", i);
  EXPECT_EQ(documents("m.json.gz", test::gzip(list + "]")).size(), 30000u) << "many windows";
}

TEST_F(Reader, TheFieldCanHaveAnotherName) {
  std::vector<std::string> found;
  const ReadOptions options{.field = "content"};
  const auto read = [&](const std::string& line) {
    for_each_document(
        file("a.jsonl", line), [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
  };
  read("{\"text\": \"no\", \"content\": \"yes\"}\n{\"n\": 12345678901234567890123, \"content\": \"too\"}\n");
  EXPECT_THAT(found, ElementsAre("yes", "too"));
  EXPECT_THAT(error_of<Error>([&] { read("{\"text\": \"no\"}"); }), HasSubstr("has no field \"content\""));
}

TEST_F(Reader, WhatCannotBeReadIsPassedOverOnDemand) {
  std::vector<std::string> found, errors;
  const ReadOptions options{.on_bad_document = [&](const std::string& error) { errors.push_back(error); }};
  const fs::path path =
      file("a.jsonl", "{\"text\": \"one\"}\nnonsense\n{\"text\": 3}\n{\"text\": \"two\"}\n{\"a\": 1}\n");
  for_each_document(
      path, [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
  EXPECT_THAT(found, ElementsAre("one", "two"));
  ASSERT_EQ(errors.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(errors[i].starts_with(fmt::format("{}:{}: ", path.string(), std::vector{2, 3, 5}[i]))) << errors[i];
  }
}

TEST_F(Reader, TheNeighboursOfAWrongElementOfAListAreRead) {
  const auto read = [&](const std::string& content) {
    std::vector<std::string> found;
    int errors = 0;
    const ReadOptions options{.on_bad_document = [&](const std::string&) { ++errors; }};
    for_each_document(
        file("a.json", content), [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
    return std::pair(found, errors);
  };
  const std::string one = "{\"text\": \"one\"}", two = "{\"text\": \"two\"}";
  for (const char* wrong : {"3", "-1.5e3", "null", "true", "[1, [2]]", "nonsense", "{\"text\": 3}",
                            "{\"other\": \"x\"}", "{\"text\": bad}", "{1}"}) {
    for (const std::string& content :
         {fmt::format("[{},{},{}]", one, wrong, two), fmt::format("[{}\n, {}\n, {}, {}]", one, wrong, two, wrong),
          fmt::format("[{},{},{}]", wrong, one, two), fmt::format("{}\n{}\n{}", one, wrong, two)}) {
      const auto [found, errors] = read(content);
      EXPECT_THAT(found, ElementsAre("one", "two")) << content;
      EXPECT_GE(errors, 1) << content;
    }
  }
  for (const std::string& content :
       {fmt::format("[{} {}]", one, two), fmt::format("[{},, {}]", one, two), fmt::format("[,{}, {}]", one, two),
        fmt::format("[{}, {},]", one, two), fmt::format("[{}, {}] x", one, two), fmt::format("[{}, {}", one, two),
        fmt::format("[{}, {}, {{\"text\": \"three", one, two), fmt::format("{} , {}", one, two),
        fmt::format("{}}} {}", one, two)}) {
    const auto [found, errors] = read(content);
    EXPECT_THAT(found, ElementsAre("one", "two")) << content;
    EXPECT_EQ(errors, 1) << content;
  }
}

TEST_F(Reader, AMissingQuoteCostsItsElementAlone) {
  const auto read = [&](const std::string& content) {
    std::vector<std::string> found, errors;
    const ReadOptions options{.on_bad_document = [&](const std::string& error) { errors.push_back(error); }};
    for_each_document(
        file("a.json", content), [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
    EXPECT_EQ(errors.size(), 1u) << content;
    EXPECT_THAT(errors.at(0), HasSubstr(":2: not valid JSON: a line ends inside a string")) << content;
    return found;
  };
  EXPECT_THAT(read("{\"text\": \"one\"}\n{\"text\": \"lost\n{\"text\": \"two\"}\n{\"text\": \"three\"}\n"),
              ElementsAre("one", "two", "three"));
  EXPECT_THAT(read("[{\"text\": \"one\"},\n {\"text\": \"lost},\n {\"text\": \"two\"},\n {\"text\": \"three\"}]"),
              ElementsAre("one", "two", "three"));
  EXPECT_THAT(read("[\n\"lost,\n\"two\",\n\"three\"\n]"), ElementsAre("two", "three"));
  // Other lines of a value are not taken for values: they begin in another column, or with another character.
  EXPECT_THAT(read("[\n  {\n    \"text\": \"lost,\n    \"title\": \"no\",\n    \"more\": [\n    {\"text\": \"no\"}\n   "
                   " ]\n  },\n"
                   "  {\n    \"text\": \"two\"\n  }\n]"),
              ElementsAre("two"));
  // Where values share a line, nothing says where the next one begins.
  EXPECT_THAT(read("[\"one\",\n \"two\", \"lost,\n \"three\"]"), ElementsAre("one", "two"));
}

TEST_F(Reader, AMissingBracketCostsItsElementAlone) {
  const auto read = [&](const std::string& content, const std::string& mistake) {
    std::vector<std::string> found, errors;
    const ReadOptions options{.on_bad_document = [&](const std::string& error) { errors.push_back(error); }};
    for_each_document(
        file("a.json", content), [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
    EXPECT_EQ(errors.size(), 1u) << content << fmt::format("{}", fmt::join(errors, "\n"));
    EXPECT_THAT(errors, testing::Contains(HasSubstr(mistake))) << content;
    return found;
  };
  const std::vector<std::string> separators = {", ", ",\n", "\n,", ",\n  "};
  const std::vector<std::string> broken = {
      R"({"text": "lost", "n": 1)",
      R"({"text": "lost", "meta": {"a": 1)",
      R"({"text": "lost", "meta": {"a": {"b": 1}})",
      R"({"text": "lost", "tags": ["a", "b"})",
      R"({"text": "lost", "tags": [{"a": 1}, {"b": 2]})",
      R"({"text": "lost", "tags": [{"a": 1, {"b": 2}]})",
      R"({"text": "lost", "tags": {"a": [1, 2}})",
      R"({"text": "lost ]} [{", "tags": [["a"], ["b"})",
      R"({"text": "lost"])",
  };
  for (const std::string& element : broken) {
    for (const std::string& separator : separators) {
      const std::string before = R"([{"text": "one"})", after = R"({"text": "two"})";
      for (const std::string& tail : {separator + after + "]", separator + after + separator + after + "\n]\n"}) {
        const std::string line = separator.find('\n') == std::string::npos ? ":1: " : ":2: ";
        const auto found = read(before + separator + element + tail, line + "not valid JSON: a bracket is missing");
        EXPECT_EQ(found.size(), std::count(tail.begin(), tail.end(), '{') + 1) << before + separator + element + tail;
      }
    }
    const std::string mistake = "not valid JSON: a bracket is missing";
    EXPECT_THAT(read("[" + element + "\n, {\"text\": \"two\"}]", mistake), ElementsAre("two"));
    EXPECT_THAT(read("[{\"text\": \"one\"}, " + element + "]", mistake), ElementsAre("one"));
    EXPECT_THAT(read("{\"text\": \"one\"}\n" + element + "\n{\"text\": \"two\"}\n", mistake),
                ElementsAre("one", "two"));
  }
  // On lines of its own. Parts of it are not taken for values.
  EXPECT_THAT(read("[\n  {\n    \"text\": \"lost\",\n    \"more\": [\n      {\"text\": \"no\"}\n  },\n"
                   "  {\n    \"text\": \"two\"\n  }\n]",
                   ":2: not valid JSON: a bracket is missing"),
              ElementsAre("two"));
  // Two are missing, so that everything after it could belong to its list.
  EXPECT_THAT(read("[\n{\"text\": \"lost\", \"more\": [\"a\",\n{\"text\": \"two\"},\n{\"text\": \"three\"}\n]",
                   ":2: not valid JSON: a value that begins here and has no end"),
              ElementsAre("two", "three"));
}

TEST_F(Reader, ValidJsonIsReadWhateverItsLinesLookLike) {
  // Each line begins as the element does.
  const std::string list = R"([
{"text": "one", "more": [
{"text": "no"},
{"text": "no",
"deep": [[{}], [
{}]]}
]},
{"text": "two", "a": {"b": {"c": [1, -2.5e3, null, "]}{[\""]}}}
])";
  std::vector<std::string> found;
  for_each_document(file("a.json", list), [&](std::string_view text, uint64_t) { found.emplace_back(text); });
  EXPECT_THAT(found, ElementsAre("one", "two"));
}

TEST_F(Reader, ManyValuesWithoutAnEndTakeNoQuadraticTime) {
  std::string list = "[\n";
  for (int i = 0; i < 20000; ++i) list += "{\"text\": \"a\", \"more\": [\n{\"text\": \"b\"},\n";
  int documents = 0, errors = 0;
  const ReadOptions options{.on_bad_document = [&](const std::string&) { ++errors; }};
  for_each_document(
      file("a.json", list), [&](std::string_view, uint64_t) { ++documents; }, options);
  EXPECT_GT(documents, 10);
  EXPECT_GT(errors, 10);
}

TEST_F(Reader, WholeDocumentsBeforeADamageAreRead) {
  std::string lines, list = "[", text;
  for (int i = 0; i < 40000; ++i) {
    const std::string object = fmt::format("{{\"text\": \"document {} {}\"}}", i, i * 7919 % 10007);
    lines += object + "\n";
    list += (i == 0 ? "" : ",\n") + object;
  }
  while (text.size() < 3 * kTextPieceBytes) text += fmt::format("line {}\n\n", text.size() * 7919 % 100003);
  const auto read = [&](const std::string& name, const std::string& content, std::vector<std::string>& errors) {
    std::vector<std::string> found;
    const ReadOptions options{.on_bad_document = [&](const std::string& error) { errors.push_back(error); }};
    for_each_document(
        file(name, content), [&](std::string_view each, uint64_t) { found.emplace_back(each); }, options);
    return found;
  };
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"a.jsonl", lines}, {"a.json", list + "]"}, {"a.txt", text}};
  for (const auto& [name, content] : kinds) {
    std::vector<std::string> none;
    const std::vector<std::string> whole = read(name, content, none);
    for (const bool gzip : {true, false}) {
      const std::string packed = gzip ? test::gzip(content) : test::zstd(content);
      const std::string full_name = name + (gzip ? ".gz" : ".zst");
      std::string wrong_sum = packed, wrong_middle = packed;
      wrong_sum[packed.size() - (gzip ? 8 : 4)] ^= 1;
      wrong_middle[packed.size() / 2] ^= 0x55;
      for (const std::string& damaged : {wrong_sum, packed.substr(0, packed.size() - 2), wrong_middle,
                                         packed.substr(0, packed.size() / 2), packed.substr(0, 12)}) {
        std::vector<std::string> errors;
        const std::vector<std::string> found = read(full_name, damaged, errors);
        SCOPED_TRACE(fmt::format("{} of {} bytes: {} of {}", full_name, damaged.size(), found.size(), whole.size()));
        EXPECT_GE(errors.size(), 1u);
        EXPECT_THAT(errors.back(), HasSubstr(full_name));
        ASSERT_LE(found.size(), whole.size());
        if (damaged == wrong_sum || damaged.size() == packed.size() - 2) {
          EXPECT_GE(found.size() + 1, whole.size());  // the last piece of a text may not be whole
        }
        if (damaged != wrong_middle) {  // its text may have changed before the damage is seen
          EXPECT_EQ(errors.size(), 1u);
          EXPECT_TRUE(std::equal(found.begin(), found.end(), whole.begin()));
        }
      }
    }
  }
  EXPECT_THAT(refusal("b.jsonl.gz", test::gzip(lines).substr(0, 1000)), HasSubstr("is cut short"));
}

TEST_F(Reader, ALineThatIsTooLongIsPassedOver) {
  std::vector<std::string> found, errors;
  const ReadOptions options{.on_bad_document = [&](const std::string& error) { errors.push_back(error); }};
  const std::string line = "{\"text\": \"" + std::string(kMaxLineBytes + 100, 'x') + "\"}\n";
  const std::string lines = "{\"text\": \"one\"}\n" + line + "{\"text\": \"two\"}\nno\n";
  for (const char* name : {"a.jsonl.zst", "a.json.zst"}) {
    found.clear(), errors.clear();
    for_each_document(
        file(name, test::zstd(lines)), [&](std::string_view text, uint64_t) { found.emplace_back(text); }, options);
    EXPECT_THAT(found, ElementsAre("one", "two"));
    ASSERT_EQ(errors.size(), 2u);
    EXPECT_THAT(errors[0], HasSubstr(":2: "));
    EXPECT_THAT(errors[0], HasSubstr("more than 256 MiB"));
    EXPECT_THAT(errors[1], HasSubstr(":4: "));
  }
}

TEST_F(Reader, EmptyTextsAreTold) {
  std::vector<std::string> places;
  const ReadOptions options{.on_empty_document = [&](const std::string& where) { places.push_back(where); }};
  const fs::path path = file("a.jsonl", "{\"text\": \"\"}\n\n{\"text\": \"one\"}\n{\"text\": \"\"}");
  for_each_document(
      path, [](std::string_view, uint64_t) {}, options);
  EXPECT_THAT(places, ElementsAre(path.string() + ":1", path.string() + ":4"));
}

TEST_F(Reader, Utf16IsDecodedWithAndWithoutAByteOrderMark) {
  const std::string text = "{\"text\": \"a\u00e9\u4e2d\U0001F600\"}\r\n{\"text\": \"two\"}\n";
  const auto wide = [](std::string_view utf8, bool big_endian) {
    std::string bytes;
    std::u16string units;
    for (const char32_t code : code_points(utf8)) {
      if (code >= 0x10000) units += static_cast<char16_t>(0xD800 + ((code - 0x10000) >> 10));
      units += static_cast<char16_t>(code >= 0x10000 ? 0xDC00 + (code & 0x3FF) : code);
    }
    for (const char16_t unit : units) {
      const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit & 0xFF);
      bytes += big_endian ? high : low;
      bytes += big_endian ? low : high;
    }
    return bytes;
  };
  // Without a mark: no four ASCII characters at the beginning, a short text, letters whose bytes are ASCII.
  for (const std::string other : {"\u201cYes,\u201d he said.\n", "\u4e2d\u6587\u6587\u672c\u3002\n\u4e2d\n", "Hi\n",
                                  "\u0434\u0430 \u0438 \u043d\u0435\u0442\n", "\u00e9t\u00e9 \U0001F600\n"}) {
    EXPECT_THAT(documents("little.txt", wide(other, false)), ElementsAre(other));
    EXPECT_THAT(documents("big.txt", wide(other, true)), ElementsAre(other));
  }
  for (const std::string& kept :
       {std::string("abc\0def\0abc\0", 12), std::string("a\0", 2), std::string("caf\xe9\0x", 6)}) {
    EXPECT_THAT(documents("kept.txt", kept), ElementsAre(kept));
  }
  for (const bool big_endian : {false, true}) {
    const std::string mark = big_endian ? "\xFE\xFF" : "\xFF\xFE";
    for (const std::string& bytes : {mark + wide(text, big_endian), wide(text, big_endian)}) {
      EXPECT_THAT(documents("a.jsonl", bytes), ElementsAre("a\u00e9\u4e2d\U0001F600", "two")) << big_endian;
      EXPECT_THAT(documents("a.jsonl.gz", test::gzip(bytes)), ElementsAre("a\u00e9\u4e2d\U0001F600", "two"));
    }
    const std::string word = "\u4e2d\U0001F600";
    std::string many;
    for (int i = 0; i < 40000; ++i) many += word;
    std::string joined;
    for (const std::string& piece : documents("b.txt", mark + wide(many, big_endian))) joined += piece;
    EXPECT_EQ(joined, many) << "pairs of surrogates at the ends of pieces";
    EXPECT_THAT(refusal("c.txt", mark + wide("abc", big_endian) + "x"), HasSubstr("UTF-16 and cut short"));
    EXPECT_THAT(refusal("d.txt", mark + wide("\U0001F600", big_endian).substr(0, 2)), HasSubstr("surrogates"));
  }
  EXPECT_THAT(refusal("e.txt", std::string("\xFF\xFE\0\0a\0\0\0", 8)), HasSubstr("is UTF-32"));
  EXPECT_THAT(refusal("e.txt", std::string("a\0\0\0\xac\x20\0\0", 8)), HasSubstr("iconv -f UTF-32LE"));
  EXPECT_THAT(refusal("e.txt", std::string("\0\0\x4e\x2d\0\x01\xf6\0\0", 9)), HasSubstr("iconv -f UTF-32BE"));
  EXPECT_THAT(documents("f.txt", std::string("a\0b", 3)), ElementsAre(std::string("a\0b", 3)));
}

TEST_F(Reader, PackedFilesUnderAnotherNameAreNoText) {
  const std::string text = "{\"text\": \"one\"}\n";
  EXPECT_THAT(refusal("a.jsonl.gz", test::gzip(test::gzip(text))),
              HasSubstr("is no text: its content begins like gzip"));
  EXPECT_THAT(refusal("a.txt.zst", test::zstd(test::zstd(text))), HasSubstr("begins like Zstandard"));
  EXPECT_THAT(refusal("a.txt", std::string("PK\3\4\x14\0", 6)), HasSubstr("begins like a ZIP archive"));
  EXPECT_THAT(refusal("a.md", "%PDF-1.4\n"), HasSubstr("begins like a PDF"));
  EXPECT_THAT(documents("b.txt", "PKZIP, BZh and %PDF are names"), ElementsAre("PKZIP, BZh and %PDF are names"));
}

TEST_F(Reader, AnErrorDoesNotRepeatTheWholeLine) {
  EXPECT_LT(refusal("a.jsonl", "{\"text\": \"" + std::string(100000, 'x') + "\n").size(), 300u);
}

TEST_F(Reader, NamesOfOtherKindsAreRefusedBeforeReading) {
  for (const char* name : {"a.csv", "a", "a.zst", "a.txt.bz2"}) {
    EXPECT_EQ(
        error_of<UsageError>([&] { check_document_file(name); }),
        std::string(name) +
            ": cannot tell from its name how to read it, expected .jsonl, .json, .txt, .md or a program's source, "
            "plain or followed by .gz or .zst");
  }
  const std::string parquet = error_of<UsageError>([&] { check_document_file("part-0.parquet"); });
  EXPECT_THAT(parquet, HasSubstr("part-0.parquet is Parquet"));
  EXPECT_THAT(parquet, HasSubstr("lines=True, force_ascii=False)\" part-0.parquet part-0.jsonl"));
}

TEST_F(Reader, ATextOfUpToAMebibyteIsOneDocument) {
  const std::string text(kTextPieceBytes, 'x');
  EXPECT_THAT(documents("a.txt", text), ElementsAre(text));
}

TEST_F(Reader, ALongerTextIsCutBehindTheLastBlankLineOfEachMebibyte) {
  std::string text;
  while (text.size() < 3 * kTextPieceBytes) text += "A line of text.\nAnother one.\n\n";
  const auto found = documents("a.txt", text);
  ASSERT_EQ(found.size(), 4u);
  std::string joined;
  for (const std::string& piece : found) {
    EXPECT_LE(piece.size(), kTextPieceBytes);
    EXPECT_TRUE(piece.starts_with("A line"));
    EXPECT_TRUE(piece.ends_with("\n\n"));
    joined += piece;
  }
  EXPECT_EQ(joined, text);
}

TEST_F(Reader, WithoutBlankLinesItIsCutBehindALineEndOrElseBetweenCharacters) {
  std::string lines;
  while (lines.size() < kTextPieceBytes + 1000) lines += "A line of text.\r\n";
  const auto by_lines = documents("a.txt", lines);
  ASSERT_EQ(by_lines.size(), 2u);
  EXPECT_TRUE(by_lines[0].ends_with("text.\r\n"));
  EXPECT_EQ(by_lines[0] + by_lines[1], lines);

  for (const std::string prefix : {"", "a", "ab"}) {
    std::string characters = prefix;
    while (characters.size() < kTextPieceBytes + 1000) characters += "中";
    const auto pieces = documents("b.txt", characters);
    ASSERT_EQ(pieces.size(), 2u);
    EXPECT_TRUE(pieces[1].starts_with("中"));
    EXPECT_EQ(pieces[0] + pieces[1], characters);
  }
  const std::string noise(kTextPieceBytes + 10, '\x80');
  const auto pieces = documents("c.txt", noise);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0] + pieces[1], noise);
}

TEST_F(Reader, ReportsHowMuchOfTheFileIsRead) {
  std::string lines;
  for (int i = 0; i < 100000; ++i) lines += "{\"text\": \"some document\"}\n";
  uint64_t last = 0;
  bool grows = true;
  for_each_document(file("a.jsonl", lines), [&](std::string_view, uint64_t read) {
    grows = grows && read >= last;
    last = read;
  });
  EXPECT_TRUE(grows);
  EXPECT_EQ(last, lines.size());
}

TEST_F(Reader, MemoryDoesNotGrowWithTheInput) {
  if (!test::kMemoryIsMeasurable) GTEST_SKIP() << "memory cannot be measured under a sanitizer";
  const fs::path small = file("small.jsonl.zst", test::zstd("{\"text\": \"x\"}\n"));
  std::string line = "{\"text\": \"" + std::string(5000, 'y') + "\"}\n";
  std::string block;
  for (int i = 0; i < 1000; ++i) block += line;
  const std::string frame = test::zstd(block);
  std::string frames;
  for (int i = 0; i < 16; ++i) frames += frame;
  const fs::path large = file("large.jsonl.zst", frames);
  const auto read = [](const fs::path& path) {
    uint64_t bytes = 0;
    for_each_document(path, [&](std::string_view text, uint64_t) { bytes += text.size(); });
    return bytes;
  };
  const int64_t for_small = test::peak_memory_of([&] { read(small); });
  const int64_t for_large = test::peak_memory_of([&] { EXPECT_EQ(read(large), 16u * 1000 * 5000); });
  EXPECT_LT(for_large - for_small, int64_t{20} << 20) << "80 MB of documents were read";
}

TEST(DomainOf, IsTheNameOfTheFileOrOfItsFolderForASplit) {
  EXPECT_EQ(domain_of("corpus/code.txt"), "code");
  EXPECT_EQ(domain_of("code.jsonl.zst"), "code");
  EXPECT_EQ(domain_of("text/code/train.jsonl.zst"), "code");
  EXPECT_EQ(domain_of("text/zh/valid.jsonl"), "zh");
  EXPECT_EQ(domain_of("text/./zh/test.txt.gz"), "zh");
  EXPECT_EQ(domain_of("/train.txt"), "train");
  EXPECT_EQ(domain_of("train.txt"), fs::current_path().filename().string());
}

}  // namespace
}  // namespace moe
