#include "formats/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

TEST(Json, MistakesAreLocatedByLineColumnAndByte) {
  EXPECT_THAT(error_of<Error>([] { parse_json("{\n \"a\": 1,\n \"b\": x}", "f.json"); }),
              HasSubstr("f.json: not valid JSON at line 3, column 7 (byte 17): "));
  EXPECT_THAT(error_of<Error>([] { parse_json("", "f.json"); }),
              HasSubstr("f.json: not valid JSON at line 1, column 1"));
  EXPECT_THAT(error_of<Error>([] { parse_json("\"\xFF\"", "f.json"); }), HasSubstr("invalid"));
  EXPECT_THAT(error_of<Error>([] { parse_json("[1] 2", "f.json"); }), HasSubstr("f.json: not valid JSON"));
}

TEST(Json, ANulByteIsAnErrorWhereverItIs) {
  using namespace std::string_literals;
  for (const std::string& text : {"{\"a\": 1}\0garbage"s, "{\"a\": 1}\0"s, "\0{\"a\": 1}"s, "{\"a\":\0 1}"s,
                                  "{\"a\": \"x\0y\"}"s, "\0"s, "{\"a\": 1}\n\0\0\0\n{\"b\": 2}"s}) {
    const std::string at = fmt::format("(byte {}): a NUL byte", text.find('\0'));
    EXPECT_THAT(error_of<Error>([&] { parse_json(text, "f.json"); }), HasSubstr(at)) << testing::PrintToString(text);
  }
  EXPECT_EQ(parse_json(R"({"a": "x\u0000y"})", "f.json")["a"], "x\0y"s);
}

TEST(Json, WhatIsTooDeepIsRefusedBeforeItUsesUpTheStack) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(512), "f.json"));
  for (const size_t depth : {size_t{513}, size_t{1000000}}) {
    EXPECT_THAT(error_of<Error>([&] { parse_json(nested(depth), "f.json"); }), HasSubstr("more than 512 others"));
  }
  EXPECT_NO_THROW(parse_json("\"" + std::string(1000, '[') + "\\\"[\"", "f.json"));
}

TEST(Json, MistakesAreInWordsOfTheProgramAndDoNotRepeatTheText) {
  const std::string long_text = "{\"a\": \"" + std::string(5000, 'x');
  for (const std::string& text :
       {std::string("{"), long_text, std::string("1e999"), std::string("\"\xE9\""), std::string("[1,]")}) {
    const std::string error = error_of<Error>([&] { parse_json(text, "f.json"); });
    EXPECT_THAT(error, testing::Not(HasSubstr("json.exception")));
    EXPECT_LT(error.size(), 300u) << error;
  }
}

TEST(Json, TextIsValidWhateverBytesTheStringsHold) {
  const Json json = {{"name", "caf\xE9"}, {"ok", "caf\u00e9"}};
  EXPECT_EQ(parse_json(json_text(json), "f.json")["name"], "caf\uFFFD");
  EXPECT_EQ(parse_json(json_text(json, 2), "f.json")["ok"], "caf\u00e9");
  EXPECT_EQ(parse_json(json_text(nlohmann::ordered_json(json)), "f.json")["name"], "caf\uFFFD");
  EXPECT_LT(json_shown(std::string(100000, 'x')).size(), 200u);
}

TEST(Json, FingerprintsAndIdsAreCheckedForTheirSize) {
  const Json json = {{"good", "00000000000000ff"}, {"short", "ff"}, {"word", "xyz"}, {"id", int64_t{1} << 32}};
  EXPECT_EQ(json_hexadecimal(json, "good", "f.json"), 255u);
  for (const char* key : {"short", "word"}) {
    EXPECT_THAT(error_of<Error>([&] { json_hexadecimal(json, key, "f.json"); }),
                HasSubstr("expected 16 hexadecimal digits"));
  }
  EXPECT_THAT(error_of<Error>([&] { json_int32(json, "id", "f.json"); }), HasSubstr("at most 32 bits"));
}

TEST(Json, FilesAreNamed) {
  const test::TemporaryFolder folder;
  write_file(folder / "bad.json", "{");
  EXPECT_THAT(error_of<Error>([&] { read_json(folder / "bad.json"); }), HasSubstr("bad.json: not valid JSON"));
  write_file(folder / "good.json", "{\"a\": [1]}");
  EXPECT_EQ(read_json(folder / "good.json")["a"][0], 1);
}

TEST(Json, MembersHaveTypesAndDefaults) {
  const Json json =
      parse_json(R"({"s": "x", "i": 3, "f": 2.5, "b": true, "n": null, "a": [1], "big": 18446744073709551615})", "f");
  EXPECT_EQ(json_string(json, "s", "f"), "x");
  EXPECT_EQ(json_int(json, "i", "f"), 3);
  EXPECT_EQ(json_number(json, "i", "f"), 3.0);
  EXPECT_EQ(json_number(json, "f", "f"), 2.5);
  EXPECT_TRUE(json_bool(json, "b", "f"));
  EXPECT_EQ(json_array(json, "a", "f").size(), 1u);
  EXPECT_EQ(json_string(json, "n", "f", "none"), "none");
  EXPECT_EQ(json_int(json, "absent", "f", 7), 7);
  EXPECT_EQ(json_find(json, "n", "f"), nullptr);
  EXPECT_THAT(error_of<Error>([&] { json_int(json, "f", "f.json"); }),
              HasSubstr("f.json: \"f\" is a fractional number, expected an integer"));
  EXPECT_THAT(error_of<Error>([&] { json_string(json, "absent", "f.json"); }),
              HasSubstr("f.json: \"absent\" is missing"));
  EXPECT_THAT(error_of<Error>([&] { json_bool(json, "s", "f.json", false); }),
              HasSubstr("\"s\" is a string, expected true or false"));
  EXPECT_THAT(error_of<Error>([&] { json_int(json, "big", "f.json"); }), HasSubstr("more than 64 bits hold"));
  EXPECT_THAT(error_of<Error>([&] { json_member(json["a"], "x", "f.json: a"); }),
              HasSubstr("f.json: a: found an array, expected an object"));
}

}  // namespace
}  // namespace moe
