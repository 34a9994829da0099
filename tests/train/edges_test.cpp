// Every key of a run file at the edges of numbers: taken with the value that was written, or refused by its name.

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "train/granularity.h"
#include "train/read_run_config.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using testing::HasSubstr;

const char* const kFile = R"(
[data]
sequence_length = 32
rows_per_step = 4
[model]
vocab_size = 400
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 16
num_experts_per_tok = 1
moe_intermediate_size = 8
intermediate_size = 32
[train]
steps = 100
)";

/// Choices under which every key has an effect somewhere.
std::vector<std::vector<std::string>> contexts() {
  std::vector<std::vector<std::string>> all = {{},
                                               {"model.head_dim=8"},
                                               {"model.n_routed_experts=0"},
                                               {"schedule.kind=wsd"},
                                               {"model.method=device_limited", "model.num_experts_per_tok=3"},
                                               {"model.method=loss_free", "model.num_experts_per_tok=3"},
                                               {"model.method=noisy_topk"},
                                               {"model.method=stable_moe"},
                                               {"model.method=hash"},
                                               {"model.method=st_moe", "model.num_experts_per_tok=2"},
                                               {"model.from=base", "train.parameters=lora"},
                                               {"model.from=base", "train.objective=dpo"}};
  for (const OptimizerMethod* optimizer : kOptimizers)
    all.push_back({fmt::format("optimizer.kind={}", optimizer->name)});
  return all;
}

Settings settings_of(const std::vector<std::string>& context, const std::string& assignment) {
  Settings settings = Settings::parse(kFile, "run.toml");
  for (const std::string& word : context) settings.set(word);
  settings.set(assignment);
  return settings;
}

RunConfig read(Settings& settings, const RunStart& start = {}) {
  return read_run_config(
      settings, [](const std::string&) { return int64_t{400}; },
      [](const DataConfig&, uint64_t) { return int64_t{50}; }, start);
}

/// What model.from stands for: the model of kFile, of which there are no files.
const RunConfig& base() {
  static const RunConfig run = [] {
    Settings settings = Settings::parse(kFile, "base.toml");
    RunConfig read_run = read(settings);
    read_run.from = "base";
    return read_run;
  }();
  return run;
}

std::vector<std::string> edges_of(const KeyInfo& info) {
  std::vector<std::string> edges = {"0",     "-1",  "2147483648", "4294967296", "9223372036854775808",
                                    "1e-30", "inf", "nan"};
  if (info.kind == KeyKind::integer) {
    edges.push_back(fmt::format("{}", info.most));
    edges.push_back(fmt::format("{}", static_cast<uint64_t>(info.most) + 1));
    edges.push_back(fmt::format("{}", info.least));
    edges.push_back(fmt::format("{}", info.least - 1));
  } else {
    for (const double edge : {info.low, info.high, -1e300, 1e300, 1e-50, std::nextafter(info.high, 1e308)}) {
      edges.push_back(toml_text(edge));
    }
  }
  return edges;
}

/// The value as the key's kind reads it.
std::optional<SettingValue> value_of(const KeyInfo& info, const std::string& text) {
  auto value = parse_toml_value(text, "test");
  if (!value) return std::nullopt;
  if (info.kind == KeyKind::number && std::holds_alternative<int64_t>(*value)) {
    return static_cast<double>(std::get<int64_t>(*value));
  }
  return value;
}

class EveryNumber : public testing::TestWithParam<ListedKey> {};

TEST_P(EveryNumber, IsTakenAsWrittenOrRefusedByName) {
  const KeyInfo& info = *GetParam().info;
  int64_t taken = 0;
  for (const std::string& edge : edges_of(info)) {
    for (const std::vector<std::string>& context : contexts()) {
      const std::string assignment = fmt::format("{}={}", info.key, edge);
      Settings settings = settings_of(context, assignment);
      RunConfig run;
      try {
        run = read(settings, {.like = &base()});
      } catch (const UsageError& error) {
        EXPECT_THAT(error.what(), HasSubstr(info.leaf())) << assignment;
        continue;
      }
      ++taken;
      const std::string key = info.key;
      if (key == "train.epochs" || key == "train.hours") continue;  // they become steps: length_test.cpp
      Settings resolved = Settings::parse(run.resolved, "resolved");
      const auto wanted = value_of(info, edge);
      ASSERT_TRUE(wanted) << assignment;
      const auto held = info.kind == KeyKind::integer ? resolved.find<int64_t>(key).value_or(-99)
                                                      : resolved.find<double>(key).value_or(-99.0);
      const auto written =
          info.kind == KeyKind::integer ? static_cast<double>(std::get<int64_t>(*wanted)) : std::get<double>(*wanted);
      EXPECT_EQ(static_cast<double>(held), written) << assignment;
    }
  }
  EXPECT_GT(taken, 0) << "some edge of every key is one of its values";
}

std::vector<ListedKey> number_keys() {
  std::vector<ListedKey> keys = all_run_keys();
  std::erase_if(keys, [](const ListedKey& key) {
    // Keys of full-width experts become other keys: granularity_test.cpp has their edges.
    const auto full = full_width_keys();
    const bool becomes_others = std::any_of(
        full.begin(), full.end(), [&](const auto& row) { return key.info->key == std::string_view(row.key); });
    return becomes_others || (key.info->kind != KeyKind::integer && key.info->kind != KeyKind::number);
  });
  return keys;
}

std::string test_name(const testing::TestParamInfo<ListedKey>& info) {
  std::string name = info.param.info->key;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Keys, EveryNumber, testing::ValuesIn(number_keys()), test_name);

std::string refusal(const std::vector<std::string>& more) {
  return test::error_of<UsageError>([&] {
    Settings settings = settings_of({}, "train.seed=1");
    for (const std::string& word : more) settings.set(word);
    read(settings);
  });
}

TEST(Edges, AreNotCutToFewerBits) {
  EXPECT_THAT(refusal({"balance.alpha_device=0.05", "balance.devices=4294967297"}),
              HasSubstr("balance.devices is 4294967297, expected an integer from 1 to 65536"));
  EXPECT_THAT(refusal({"balance.devices=4294967296"}), HasSubstr("balance.devices is 4294967296"));
  EXPECT_THAT(refusal({"model.num_attention_heads=4294967298"}), HasSubstr("model.num_attention_heads is 4294967298"));
}

TEST(Edges, OfF32AreThoseOfTheNumbersItComputesWith) {
  EXPECT_THAT(refusal({"optimizer.eps=0"}), HasSubstr("optimizer.eps is 0, expected a number from 1e-30 to"));
  EXPECT_THAT(refusal({"optimizer.eps=1e-50"}), HasSubstr("optimizer.eps is 1e-50"));
  EXPECT_THAT(refusal({"optimizer.clip=1e-50"}), HasSubstr("optimizer.clip is 1e-50"));
  EXPECT_THAT(refusal({"balance.z_loss=1e-50"}), HasSubstr("balance.z_loss is 1e-50"));
}

TEST(Edges, SizesThatDoNotDivideAreRefusedNotRounded) {
  EXPECT_THAT(refusal({"model.hidden_size=33", "model.num_attention_heads=4"}),
              HasSubstr("hidden_size is 33, expected a multiple of num_attention_heads, which is 4"));
}

TEST(Edges, TogetherThatOverflowAreRefused) {
  EXPECT_THAT(
      refusal({"data.sequence_length=65536", "model.max_position_embeddings=65536", "data.rows_per_step=65536",
               "data.microbatch_rows=65536"}),
      HasSubstr("data.microbatch_rows is 65536, expected at most 32767 rows of data.sequence_length = 65536 tokens"));
  EXPECT_THAT(refusal({"model.hidden_size=1048576", "model.num_attention_heads=65536", "model.n_routed_experts=65536",
                       "model.num_hidden_layers=65536", "model.moe_intermediate_size=1048576"}),
              HasSubstr("parameters, expected at most 9.007e+15"));
}

}  // namespace
}  // namespace moe
