// Experts by their granularity: the sizes that follow, equal parameters and FLOPs, and every mistake.

#include "train/granularity.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/cost.h"
#include "model/parameters.h"
#include "tests/support/temporary_folder.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

RunConfig read(const std::string& model) {
  Settings settings = Settings::parse(R"(
[data]
sequence_length = 32
rows_per_step = 4
[train]
steps = 100
[model]
vocab_size = 400
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
full_width = 64
full_experts = 16
full_experts_per_tok = 2
)" + model,
                                      "run.toml");
  return read_run_config(settings, [](const std::string&) { return int64_t{400}; });
}

std::string refusal(const std::string& model) {
  return error_of<UsageError>([&] { read(model); });
}

// Section 3.1 of the paper: 16 experts, 2 active: m = 1 gives C(16, 2) choices, m = 4 C(64, 8).
TEST(Granularity, SplitsExpertsAsInThePaper) {
  for (const int64_t m : {1, 2, 4}) {
    const ModelConfig model = read(fmt::format("granularity = {}\n", m)).model;
    EXPECT_EQ(model.n_routed_experts, 16 * m);
    EXPECT_EQ(model.num_experts_per_tok, 2 * m);
    EXPECT_EQ(model.moe_intermediate_size, 64 / m);
  }
}

TEST(Granularity, SharedExpertsAreAmongThem) {
  const ModelConfig model = read("granularity = 4\nn_shared_experts = 1\n").model;
  EXPECT_EQ(model.n_routed_experts, 63);
  EXPECT_EQ(model.num_experts_per_tok, 7);
  EXPECT_EQ(model.n_shared_experts, 1);
}

TEST(Granularity, ChangesNoParametersOfExpertsAndFewFlops) {
  const ModelConfig one = read("granularity = 1\n").model, fine = read("granularity = 8\nn_shared_experts = 2\n").model;
  const auto experts = [](const ModelConfig& model, bool activated) {
    const ParameterCounts counts(model);
    const auto of = [&](ParameterKind kind) { return activated ? counts.activated(kind) : counts.stored(kind); };
    return of(ParameterKind::routed_experts) + of(ParameterKind::shared_experts);
  };
  EXPECT_EQ(experts(one, false), experts(fine, false));
  EXPECT_EQ(experts(one, true), experts(fine, true));
  // What differs is the router alone, 24 * (126 - 16) weights in each of 2 layers, 6 FLOPs each per token.
  EXPECT_NEAR(exact_flops(fine, 32) - exact_flops(one, 32), 32.0 * 2 * 6 * 24 * (126 - 16), 1);
}

TEST(Granularity, IsAbsentFromTheRunsOwnFile) {
  const RunConfig run = read("granularity = 2\n");
  EXPECT_THAT(run.resolved, HasSubstr("n_routed_experts = 32\n"));
  EXPECT_THAT(run.resolved, testing::Not(HasSubstr("granularity")));
  EXPECT_THAT(run.resolved, testing::Not(HasSubstr("full_")));
  Settings again = Settings::parse(run.resolved, "again");
  EXPECT_EQ(read_run_config(again, [](const std::string&) { return int64_t{400}; }).resolved, run.resolved);
}

TEST(Granularity, EveryNumberIsTakenOrRefusedByName) {
  const std::string sizes =
      "[data]\nsequence_length = 32\nrows_per_step = 4\n[train]\nsteps = 100\n[model]\n"
      "vocab_size = 400\nhidden_size = 24\nnum_hidden_layers = 2\nnum_attention_heads = 2\n";
  const auto read_with = [&](const std::string& key, const std::string& value) {
    Settings settings = Settings::parse(sizes, "run.toml");
    for (const char* good : {"granularity=2", "full_width=64", "full_experts=16", "full_experts_per_tok=2"}) {
      settings.set(std::string("model.") + good);
    }
    settings.set(key + "=" + value);
    return read_run_config(settings, [](const std::string&) { return int64_t{400}; });
  };
  for (const KeyRow<FullWidth>& row : full_width_keys()) {
    EXPECT_EQ(read_with(row.key, "2").model.n_routed_experts, std::string(row.key) == "model.full_experts" ? 4 : 32);
    const std::vector<std::string> refused = {"0", "-1", "1.5", "nan", "\"two\"", std::to_string(row.most + 1)};
    for (const std::string& bad : refused) {
      EXPECT_THAT(error_of<UsageError>([&] { read_with(row.key, bad); }), HasSubstr(row.key)) << bad;
    }
  }
}

TEST(Granularity, MistakesAreNamed) {
  EXPECT_THAT(refusal("granularity = 3\n"), HasSubstr("model.granularity is 3, expected a divisor of model.full_width, "
                                                      "which is 64"));
  EXPECT_EQ(read("").model.n_routed_experts, 16) << "m is 1";
  const std::string lacks = error_of<UsageError>([] {
    Settings settings = Settings::parse(
        "[data]\nsequence_length = 32\nrows_per_step = 4\n[train]\nsteps = 1\n[model]\n"
        "vocab_size = 9\nhidden_size = 24\nnum_hidden_layers = 2\n"
        "num_attention_heads = 2\ngranularity = 2\n",
        "run.toml");
    read_run_config(settings, [](const std::string&) { return int64_t{400}; });
  });
  EXPECT_THAT(lacks, HasSubstr("model.full_width is missing, expected the width of an expert before it is split, as "
                               "model.granularity is given"));
  EXPECT_THAT(refusal("granularity = 2\nn_routed_experts = 8\n"),
              HasSubstr("model.n_routed_experts is 8, expected to be left out, because model.full_experts sets it"));
  EXPECT_THAT(refusal("granularity = 1\nn_shared_experts = 2\n"),
              HasSubstr("expected at least 2, so that a token uses"));
  EXPECT_THAT(refusal("granularity = 0\n"), HasSubstr("model.granularity is 0"));
}

}  // namespace
}  // namespace moe
