#include "formats/weighted_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/toml.h"
#include "formats/toml_value.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

TEST(WeightedPaths, AreReadBackFromTheirText) {
  const std::vector<WeightedPath> paths = {{"runs/a \"b\"", 0.1}, {"c", 3}, {"d\\e", 1e-9}};
  const std::string text = weighted_paths_text(paths);
  EXPECT_TRUE(is_weighted_paths(text));
  EXPECT_EQ(parse_weighted_paths(text, "f"), paths);
  EXPECT_EQ(parse_weighted_paths("runs/a", "f"), (std::vector<WeightedPath>{{"runs/a", 1}}));
  EXPECT_EQ(parse_weighted_paths("[{path = \"a\"}]", "f"), (std::vector<WeightedPath>{{"a", 1}}));
}

TEST(WeightedPaths, WithoutWeightsAreAListOfStrings) {
  const std::vector<WeightedPath> expected = {{"a \"b\"", 0}, {"c", 0}};
  EXPECT_EQ(weighted_paths_text(expected), "[\"a \\\"b\\\"\", \"c\"]");
  EXPECT_EQ(parse_weighted_paths(weighted_paths_text(expected), "f"), expected);
  Settings settings = Settings::parse("[data]\ntrain = ['a \"b\"', \"c\"]\n[sample]\nprompts = [\"a\"]\n", "run.toml");
  settings.take_as_paths("data.train");
  settings.take_as_paths("data.valid");
  EXPECT_EQ(parse_weighted_paths(settings.get<std::string>("data.train", ""), "f"), expected);
  Settings again = Settings::parse(settings.to_toml(), "again.toml");
  again.take_as_paths("data.train");
  EXPECT_EQ(parse_weighted_paths(again.get<std::string>("data.train", ""), "f"), expected);
  Settings set = Settings::parse("", "run.toml");
  set.set("data.train=[\"a \\\"b\\\"\", 'c']");
  set.take_as_paths("data.train");
  EXPECT_EQ(parse_weighted_paths(set.get<std::string>("data.train", ""), "f"), expected);
  Settings empty = Settings::parse("[data]\ntrain = [\"a\", \"\"]", "run.toml");
  EXPECT_THAT(error_of<UsageError>([&] { empty.take_as_paths("data.train"); }),
              HasSubstr("run.toml:2: data.train: expected"));
  EXPECT_THAT(error_of<UsageError>([] { parse_weighted_paths("[\"a\", {path = \"b\"}]", "f"); }),
              HasSubstr("f: expected"));
}

// Divided by their sum, such weights would all become the same.
TEST(WeightedPaths, WhoseSharesCannotBeToldApartAreRefused) {
  const auto refusal = [](const std::string& first, const std::string& second) {
    const std::string text =
        fmt::format("[{{path = \"a\", weight = {}}}, {{path = \"b\", weight = {}}}]", first, second);
    return error_of<UsageError>([&] { parse_weighted_paths(text, "f"); });
  };
  EXPECT_EQ(refusal("1e308", "1e308"), "f: the weight of a is 1e+308, expected at most 1e+30");
  EXPECT_EQ(refusal("1", "1e31"), "f: the weight of b is 1e+31, expected at most 1e+30");
  EXPECT_EQ(refusal("1e-300", "1"),
            "f: the weight of a is 1e-300, which is less than 1 / 2^32 of their sum; leave it out");
  EXPECT_EQ(parse_weighted_paths("[{path = \"a\", weight = 1e30}, {path = \"b\", weight = 1e21}]", "f").size(), 2u);
}

TEST(WeightedPaths, AreAListOfTablesInARunFileAndInWhatIsWrittenOfIt) {
  const std::string text = "[data]\ntrain = [\n  {path = \"a\", weight = 0.7},\n  {path = \"b\", weight = 3},\n]\n";
  const std::vector<WeightedPath> expected = {{"a", 0.7}, {"b", 3}};
  const auto entries = parse_toml(text, "run.toml");
  ASSERT_EQ(entries.size(), 1u);
  const auto& value = std::get<std::string>(entries[0].value);
  EXPECT_EQ(parse_weighted_paths(value, "f"), expected);
  const auto again = parse_toml("x = " + toml_text(entries[0].value), "run.toml");
  EXPECT_EQ(again[0].value, entries[0].value);
  EXPECT_EQ(toml_text(entries[0].value).front(), '[');
  const auto set = parse_toml_value("[{path=\"a\",weight=0.7},{path=\"b\",weight=3}]", "--set");
  ASSERT_TRUE(set);
  EXPECT_EQ(std::get<std::string>(*set), value);
}

TEST(WeightedPaths, TakeWholeNumbersThatADoubleRounds) {
  const auto paths = parse_weighted_paths("[{path = \"a\", weight = 9223372036854775807}]", "test");
  EXPECT_EQ(paths.front().weight, 9223372036854775808.0);
}

TEST(WeightedPaths, OfAnotherFormAreRefusedWithTheLine) {
  for (const std::string list :
       {"[{weight = 1}]", "[{path = 3}]", "[{path = \"a\", wieght = 1}]", "[{path = \"a\"}, {}]"}) {
    EXPECT_THAT(error_of<UsageError>([&] { parse_toml("[data]\ntrain = " + list, "run.toml"); }),
                HasSubstr("run.toml:2: data.train: expected a path, or a list such as"))
        << list;
  }
  for (const std::string weight : {"0", "-1", "inf", "nan"}) {
    EXPECT_THAT(error_of<UsageError>([&] { parse_toml("t = [{path = \"a\", weight = " + weight + "}]", "run.toml"); }),
                HasSubstr("the weight of a is"));
  }
}

}  // namespace
}  // namespace moe
