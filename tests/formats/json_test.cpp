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
