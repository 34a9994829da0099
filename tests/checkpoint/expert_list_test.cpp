// The list of experts, in the form of the published expert_cfg.json.

#include "checkpoint/expert_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

using testing::HasSubstr;

ExpertList parse(const std::string& text) { return parse_expert_list(parse_json(text, "list"), "list"); }

TEST(ExpertList, ReadsThePublishedForm) {
  const ExpertList list =
      parse(R"({"experts": {"1": [17, 3], "10": [], "2": [0]}, "shared_experts": true, "non_expert_modules": false})");
  EXPECT_EQ(list.experts, (std::map<int64_t, std::vector<int64_t>>{{1, {3, 17}}, {2, {0}}, {10, {}}}));
  EXPECT_TRUE(list.shared_experts);
  EXPECT_FALSE(list.non_expert_modules);
  EXPECT_EQ(list.count(), 3);
  EXPECT_EQ(list.of_layer(1), (std::vector<int64_t>{3, 17}));
  EXPECT_EQ(list.of_layer(5), std::vector<int64_t>());
  EXPECT_EQ(parse(R"({"experts": {"1": [0]}})"), (ExpertList{.experts = {{1, {0}}}}));
}

TEST(ExpertList, IsReadAsItWasWritten) {
  for (const ExpertList& list :
       {ExpertList{}, ExpertList{.experts = {{0, {}}, {1, {0, 5}}}},
        ExpertList{.experts = {{12, {63}}}, .shared_experts = true, .non_expert_modules = true}}) {
    EXPECT_EQ(parse(expert_list_text(list)), list) << expert_list_text(list);
  }
}

TEST(ExpertList, MistakesAreNamed) {
  const auto refusal = [](const std::string& text) { return test::error_of<Error>([&] { parse(text); }); };
  EXPECT_THAT(refusal("[]"), HasSubstr("list"));
  EXPECT_THAT(refusal("{}"), HasSubstr("experts"));
  EXPECT_THAT(refusal(R"({"experts": [1]})"), HasSubstr("expected an object by layer"));
  EXPECT_THAT(refusal(R"({"experts": {"one": [1]}})"), HasSubstr("expected a number such as"));
  EXPECT_THAT(refusal(R"({"experts": {"-1": [1]}})"), HasSubstr("expected a number such as"));
  EXPECT_THAT(refusal(R"({"experts": {"1": 2}})"), HasSubstr("expected a list of experts"));
  EXPECT_THAT(refusal(R"({"experts": {"1": [1.5]}})"), HasSubstr("expected the numbers of experts"));
  EXPECT_THAT(refusal(R"({"experts": {"1": [4, 2, 4]}})"), HasSubstr("names expert 4 twice"));
  EXPECT_THAT(refusal(R"({"experts": {"1": [18446744073709551615]}})"), HasSubstr("holds 18446744073709551615"));
  EXPECT_THAT(refusal(R"({"experts": {"01": [1]}})"), HasSubstr("the layer \"01\", expected a number such as"));
  EXPECT_THAT(refusal(R"({"experts": {"99999999999999999999": [1]}})"), HasSubstr("expected a number such as"));
  EXPECT_THAT(refusal(R"({"experts": {}, "shared_experts": 3})"), HasSubstr("shared_experts"));
  EXPECT_THAT(refusal(R"({"experts": {"1": [1]}, "share_experts": true})"),
              HasSubstr("\"share_experts\" is not known, expected experts, shared_experts, non_expert_modules"));
}

TEST(ExpertList, NoLayerIsNamedTwice) {
  const test::TemporaryFolder folder;
  const fs::path file = folder / "experts.json";
  write_file(file, R"({"experts": {"1": [0], "2": [1]}, "shared_experts": false})");
  EXPECT_EQ(read_expert_list(file).count(), 2);
  for (const char* text : {R"({"experts": {"1": [0], "1": [2]}})", R"({"experts": {}, "experts": {"1": [0]}})"}) {
    write_file(file, text);
    EXPECT_THAT(test::error_of<Error>([&] { read_expert_list(file); }), HasSubstr("twice"));
  }
}

TEST(ExpertList, OfAnotherModelIsRefused) {
  const auto refusal = [](const ExpertList& list) {
    return test::error_of<Error>([&] { check_expert_list(list, tiny_config(), "list"); });
  };
  check_expert_list({.experts = {{1, {0, 5}}, {2, {}}}}, tiny_config(), "list");
  EXPECT_THAT(refusal({.experts = {{0, {0}}}}), HasSubstr("layer 0 has no routed experts"));
  EXPECT_THAT(refusal({.experts = {{3, {0}}}}), HasSubstr("layer 3 has no routed experts"));
  EXPECT_THAT(refusal({.experts = {{2, {6}}}}), HasSubstr("expected 0 to 5"));
  EXPECT_THAT(refusal({.experts = {{2, {-1}}}}), HasSubstr("names expert -1"));
}

}  // namespace
}  // namespace moe
