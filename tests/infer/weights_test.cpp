// Weights stored in types that activations do not have. On the CPU the logits are those of the same numbers stored as
// f32, bit for bit, but of blocks within the rounding of the rows beside them; on the GPU within rounding.

#include "checkpoint/weights.h"

#include <cmath>
#include <cstring>
#include <deque>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/conversion_run.h"
#include "checkpoint/hf_config.h"
#include "formats/json.h"
#include "infer/cached_model.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "ops/type_set.h"
#include "tests/infer/support.h"
#include "tests/support/machines.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Rows of whole blocks of 256 (hidden_size) and of 32 alone (the experts), and some of neither (dense layer).
ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 40;
  config.hidden_size = 256;
  config.intermediate_size = 40;
  config.moe_intermediate_size = 32;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.n_shared_experts = 1;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 64;
  return config;
}

/// A model folder whose weights are random numbers stored as `rounded` and read back, in files of the type `stored`.
void write_model(const fs::path& folder, DType rounded, DType stored, Device& device) {
  const ModelConfig config = small_config();
  const auto table = parameter_table(config);
  std::deque<std::vector<char>> memory;
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    const int64_t elements = parameter.shape.elements();
    std::vector<float> values(static_cast<size_t>(elements));
    initial_values(parameter, 5, 0.05, 0, elements, values.data());
    const auto convert = [&](DType type) -> std::vector<char>& {
      auto& bytes = memory.emplace_back(static_cast<size_t>(bytes_of(type, elements)));
      for (int64_t begin = 0, count = 0; begin < elements; begin += count) {
        count = conversion_run(parameter, type, begin, elements - begin);
        char* const at = bytes.data() + bytes_of(type, begin);
        storage(type).from_floats(values.data() + begin, at, count);
        storage(type).to_floats(at, values.data() + begin, count);
      }
      return bytes;
    };
    // In nf4, as in training, embedding and head keep their numbers.
    if (rounded != DType::nf4 || !parameter.is_by_token()) convert(parameter.storage(rounded));
    const DType type = parameter.storage(stored);
    views.emplace_back(convert(type).data(), type, parameter.shape);
  }
  write_file(folder / "config.json", json_text(to_hf_config(config, stored)));
  save_weights(folder, config, table, views, device);
}

std::vector<float> logits_on(Device& device, Backend& backend, const fs::path& folder, DType weights,
                             const std::vector<int32_t>& ids) {
  const LoadedModel loaded(folder, weights, device);
  EXPECT_EQ(loaded.dtype(), weights == DType::bf16 ? DType::bf16 : DType::f32);
  Scorer scorer({loaded.model(), loaded.dtype(), device, backend}, static_cast<int64_t>(ids.size()));
  std::vector<float> all;
  scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
    all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
  });
  return all;
}

std::vector<float> logits_of(const fs::path& folder, DType weights, const std::vector<int32_t>& ids, int threads) {
  Cpu cpu(threads);
  return logits_on(*cpu.device, *cpu.backend, folder, weights, ids);
}

/// With a cache: three tokens, then one at a time.
std::vector<float> cached_logits(const fs::path& folder, DType weights, const std::vector<int32_t>& ids) {
  Cpu cpu;
  const LoadedModel loaded(folder, weights, *cpu.device);
  CachedModel cached({loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend}, 1, 64, 3);
  std::vector<float> all = cached.append(0, std::vector<int32_t>{ids[0], ids[1], ids[2]});
  for (size_t i = 3; i < ids.size(); ++i) {
    const auto logits = cached.append(0, std::vector<int32_t>{ids[i]});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

void expect_same_bits(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_FALSE(found.empty());
  for (const float value : expected) ASSERT_TRUE(std::isfinite(value));
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
}

class Weights : public testing::TestWithParam<DType> {
 protected:
  Cpu cpu_{1};
  TemporaryFolder folder_, other_;
  std::vector<int32_t> ids_ = random_ids(20, 40, 3);
};

/// The same bits; if products round rows beside blocks, within 3% of the root mean square (block_weights_test.cpp).
void expect_near(DType type, const std::vector<float>& found, const std::vector<float>& expected) {
  if (is_plain(type)) return expect_same_bits(found, expected);
  ASSERT_EQ(found.size(), expected.size());
  double off = 0, all = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double x = static_cast<double>(expected[i]), difference = static_cast<double>(found[i]) - x;
    off += difference * difference;
    all += x * x;
  }
  EXPECT_LT(std::sqrt(off / all), 0.03);
}

TEST_P(Weights, GiveTheLogitsOfTheSameNumbersAsF32) {
  write_model(folder_.path(), GetParam(), DType::f32, *cpu_.device);
  write_model(other_.path(), DType::f32, DType::f32, *cpu_.device);
  const auto expected = logits_of(folder_.path(), DType::f32, ids_, 1);
  const auto found = logits_of(other_.path(), GetParam(), ids_, 1);
  expect_near(GetParam(), found, expected);
  expect_same_bits(logits_of(other_.path(), GetParam(), ids_, 3), found);
  EXPECT_NE(logits_of(other_.path(), DType::f32, ids_, 1), expected) << "the type changes the numbers";
}

TEST_P(Weights, GenerateTheSameToo) {
  write_model(folder_.path(), GetParam(), DType::f32, *cpu_.device);
  write_model(other_.path(), DType::f32, DType::f32, *cpu_.device);
  expect_near(GetParam(), cached_logits(other_.path(), GetParam(), ids_),
              cached_logits(folder_.path(), DType::f32, ids_));
}

TEST_P(Weights, GiveTheLogitsOfTheCpuOnAGpu) {
  MOE_SKIP_WITHOUT("cuda");
  Machine gpu("cuda");
  write_model(folder_.path(), GetParam(), DType::f32, *cpu_.device);
  write_model(other_.path(), DType::f32, DType::f32, *cpu_.device);
  const auto expected = logits_of(folder_.path(), DType::f32, ids_, 1);
  const auto found = logits_on(*gpu.device, *gpu.backend, other_.path(), GetParam(), ids_);
  ASSERT_EQ(found.size(), expected.size());
  float largest = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4f * largest) << i;  // sums of f32
}

/// Every type of the table that activations do not have.
std::vector<DType> types_of_weights_alone() {
  std::vector<DType> types;
  for (const StorageType& type : kStorageTypes) {
    if (weight_types().has(type.dtype) && type.activations != type.dtype) types.push_back(type.dtype);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, Weights, testing::ValuesIn(types_of_weights_alone()),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(WeightTypes, NormsAndRoutersStayExactAndRowsThatAreNotWholeBlocksGetAnotherType) {
  int others = 0, blocks = 0;
  for (const Parameter& parameter : parameter_table(small_config())) {
    const DType type = parameter.storage(DType::q4_k);
    if (parameter.kind == ParameterKind::norm || parameter.kind == ParameterKind::router) {
      EXPECT_EQ(type, DType::f32) << parameter.name;
      continue;
    }
    const int64_t width = parameter.shape[parameter.shape.rank() - 1];
    EXPECT_EQ(type, width == 256 ? DType::q4_k : (width == 32 ? DType::q5_0 : DType::f16)) << parameter.name;
    (type == DType::q4_k ? blocks : others) += 1;
  }
  EXPECT_GT(blocks, 0);
  EXPECT_GT(others, 0);
}

class F16 : public testing::Test {
 protected:
  F16() {
    write_model(wide_.path(), DType::f16, DType::f32, *cpu_.device);
    write_model(narrow_.path(), DType::f16, DType::f16, *cpu_.device);
  }
  Cpu cpu_{1};
  TemporaryFolder wide_, narrow_;
  std::vector<int32_t> ids_ = random_ids(20, 40, 3);
};

TEST_F(F16, FilesAreReadExactly) {
  const auto expected = logits_of(wide_.path(), DType::f32, ids_, 1);
  expect_same_bits(logits_of(narrow_.path(), DType::f32, ids_, 2), expected);
  expect_same_bits(logits_of(narrow_.path(), DType::f16, ids_, 2), expected);
  expect_same_bits(logits_of(narrow_.path(), DType::bf16, ids_, 2), logits_of(wide_.path(), DType::bf16, ids_, 2));
}

TEST_F(F16, TakesHalfTheFile) {
  const auto size = [](const fs::path& folder) { return fs::file_size(folder / "model.safetensors"); };
  EXPECT_LT(size(narrow_.path()), size(wide_.path()) * 6 / 10);
  EXPECT_THAT(read_file(narrow_.path() / "config.json"), testing::HasSubstr("float16"));
}

}  // namespace
}  // namespace moe::test
