// Weights stored as f16 on the CPU: the logits are those of the same numbers stored as f32, bit for bit.

#include <cmath>
#include <cstring>
#include <deque>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "formats/json.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// A model folder whose weights are random numbers rounded to f16 and stored as `stored`.
void write_model(const fs::path& folder, const ModelConfig& config, DType stored, Device& device) {
  const auto table = parameter_table(config);
  std::deque<std::vector<char>> memory;
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    const int64_t elements = parameter.shape.elements();
    std::vector<float> values(static_cast<size_t>(elements));
    initial_values(parameter, 5, 0.3, 0, elements, values.data());
    std::vector<char> rounded(values.size() * 2);
    floats_to_f16(values.data(), rounded.data(), elements);
    f16_to_floats(rounded.data(), values.data(), elements);
    const DType type = parameter.storage(stored);
    auto& bytes = memory.emplace_back(static_cast<size_t>(bytes_of(type, elements)));
    storage(type).from_floats(values.data(), bytes.data(), elements);
    views.emplace_back(bytes.data(), type, parameter.shape);
  }
  write_file(folder / "config.json", json_text(to_hf_config(config, stored)));
  save_weights(folder, config, table, views, device);
}

std::vector<float> logits_of(const fs::path& folder, DType weights, const std::vector<int32_t>& ids, int threads) {
  Cpu cpu(threads);
  const LoadedModel loaded(folder, weights, *cpu.device);
  EXPECT_EQ(loaded.dtype(), weights == DType::bf16 ? DType::bf16 : DType::f32);
  Scorer scorer({loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend}, static_cast<int64_t>(ids.size()));
  std::vector<float> all;
  scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
    all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
  });
  return all;
}

/// Of two sequences in a cache: three tokens, then one at a time.
std::vector<float> cached_logits(const fs::path& folder, DType weights, const std::vector<int32_t>& ids) {
  Cpu cpu;
  const LoadedModel loaded(folder, weights, *cpu.device);
  CachedModel cached({loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend}, 1, 64, 3);
  std::vector<float> all;
  const auto add = [&](std::vector<int32_t> some) {
    const auto logits = cached.append(0, some);
    all.insert(all.end(), logits.begin(), logits.end());
  };
  add({ids[0], ids[1], ids[2]});
  for (size_t i = 3; i < ids.size(); ++i) add({ids[i]});
  return all;
}

class F16 : public testing::Test {
 protected:
  F16() {
    config_ = read_hf_config(fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / "moe_basic");
    write_model(wide_.path(), config_, DType::f32, *cpu_.device);
    write_model(narrow_.path(), config_, DType::f16, *cpu_.device);
  }
  Cpu cpu_{1};
  ModelConfig config_;
  TemporaryFolder wide_, narrow_;
  std::vector<int32_t> ids_ = random_ids(40, 20, 3);
};

void expect_same_bits(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_FALSE(found.empty());
  for (const float value : expected) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
}

TEST_F(F16, GivesTheLogitsOfTheSameNumbersAsF32) {
  const auto expected = logits_of(wide_.path(), DType::f32, ids_, 1);
  for (const int threads : {1, 3}) {
    expect_same_bits(logits_of(narrow_.path(), DType::f16, ids_, threads), expected);
    expect_same_bits(logits_of(narrow_.path(), DType::f32, ids_, threads), expected);
    expect_same_bits(logits_of(wide_.path(), DType::f16, ids_, threads), expected);
  }
}

TEST_F(F16, GeneratesTheSameToo) {
  expect_same_bits(cached_logits(narrow_.path(), DType::f16, ids_), cached_logits(wide_.path(), DType::f32, ids_));
}

TEST_F(F16, IsRoundedOnceToBf16) {
  expect_same_bits(logits_of(narrow_.path(), DType::bf16, ids_, 2), logits_of(wide_.path(), DType::bf16, ids_, 2));
}

TEST_F(F16, TakesHalfTheFile) {
  const auto size = [](const fs::path& folder) { return fs::file_size(folder / "model.safetensors"); };
  EXPECT_LT(size(narrow_.path()), size(wide_.path()) * 6 / 10);
  EXPECT_THAT(read_file(narrow_.path() / "config.json"), testing::HasSubstr("float16"));
}

}  // namespace
}  // namespace moe::test
