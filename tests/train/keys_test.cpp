// The tables of keys against the page that documents them, and against what reading a run file gives.

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "train/read_keys.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using testing::HasSubstr;

TEST(Keys, ThePageHoldsTheTableThatTheProgramPrints) {
  const std::string page = read_file(fs::path(MOE_SOURCE_DIR) / "docs/training.md");
  const std::string begin = "<!-- moe train --keys -->\n", end = "<!-- end of keys -->";
  const size_t first = page.find(begin) + begin.size();
  EXPECT_EQ(page.substr(first, page.find(end) - first), keys_as_markdown(all_run_keys()))
      << "put the output of `moe train --keys` between the markers of docs/training.md";
}

TEST(Keys, AreEachInOneTableOnceWithAMeaning) {
  std::set<std::string> seen;
  for (const ListedKey& key : all_run_keys()) {
    EXPECT_TRUE(seen.insert(key.info->key).second) << key.info->key;
    EXPECT_STRNE(key.info->doc, "") << key.info->key;
    EXPECT_FALSE(key.default_text.empty()) << key.info->key;
  }
  EXPECT_GT(seen.size(), 70u);
}

TEST(Keys, DefaultsAreOfTheirKeysValues) {
  const auto check = [](auto rows, const auto& plain) {
    for (const auto& row : rows) {
      const bool own_default = !row.required && row.shown_default == nullptr;
      if (own_default) {
        EXPECT_TRUE(takes(row, row.get(plain))) << row.key;
      }
    }
  };
  check(run_keys(), RunConfig());
  check(data_keys(), DataConfig());
  check(schedule_keys(), Schedule());
  check(optimizer_keys(), OptimizerConfig());
  check(step_keys(), StepConfig());
  check(lora_keys(), LoraConfig());
  check(evaluation_keys(), EvaluationConfig());
  check(checkpoint_keys(), CheckpointConfig());
  check(sample_keys(), SampleConfig());
  check(model_keys(), ModelConfig());
  check(balance_keys(), BalanceConfig());
}

struct Held {
  int64_t rows = 0;
  bool flag = false, open = false;
};
constexpr KeyRow<Held> kHeld[] = {
    row<Held>("made.rows", integer<&Held::rows>(1, 8, {"auto", 0}), {.doc = "an integer or a word"}),
};
constexpr KeyRow<Held> kFlag[] = {
    row<Held>("made.flag", boolean_or_auto<&Held::flag, &Held::open>(), {.doc = "a boolean or a word"}),
};

// Flag, whether it is open, and the resolved settings.
std::tuple<bool, bool, std::string> read_flag(const std::string& assignment) {
  Settings settings;
  settings.set(assignment);
  settings.know("made.rows");
  Held held;
  held.open = true;
  read_rows(settings, std::span<const KeyRow<Held>>(kFlag), held, {});
  settings.finish();
  return {held.flag, held.open, settings.to_toml()};
}

TEST(Keys, ABooleanMayAlsoBeAWord) {
  EXPECT_EQ(read_flag("made.flag=auto"), std::tuple(false, true, std::string("[made]\nflag = \"auto\"\n")));
  EXPECT_EQ(read_flag("made.flag=true"), std::tuple(true, false, std::string("[made]\nflag = true\n")));
  EXPECT_EQ(read_flag("made.flag=false"), std::tuple(false, false, std::string("[made]\nflag = false\n")));
  EXPECT_EQ(std::get<2>(read_flag("made.rows=3")), "[made]\nflag = \"auto\"\n") << "the default";
  for (const char* wrong : {"0", "1", "most", "1.5"}) {
    EXPECT_THAT(test::error_of<UsageError>([&] { read_flag(std::string("made.flag=") + wrong); }),
                HasSubstr("expected true, false or \"auto\""))
        << wrong;
  }
}

// Rows hold what keys to come need: an integer or a word.
TEST(Keys, AnIntegerMayAlsoBeAWord) {
  const auto read = [](const std::string& value) {
    Settings settings;
    settings.set("made.rows=" + value);
    Held held;
    held.rows = 5;
    read_rows(settings, std::span<const KeyRow<Held>>(kHeld), held, {});
    settings.finish();
    return std::pair(held.rows, settings.to_toml());
  };
  EXPECT_EQ(read("auto"), std::pair(int64_t{0}, std::string("[made]\nrows = \"auto\"\n")));
  EXPECT_EQ(read("3"), std::pair(int64_t{3}, std::string("[made]\nrows = 3\n")));
  for (const char* wrong : {"9", "0", "most", "1.5"}) {
    EXPECT_THAT(test::error_of<UsageError>([&] { read(wrong); }), HasSubstr("made.rows is")) << wrong;
  }
}

}  // namespace
}  // namespace moe
