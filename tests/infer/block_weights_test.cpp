// Models in GGUF files whose weights stay in blocks: the file's numbers bit for bit, and logits near those of the same
// numbers as f32.

#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/open_model.h"
#include "checkpoint/write_gguf.h"
#include "infer/cached_model.h"
#include "infer/expert_offload.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/host_device.h"
#include "tests/support/machines.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Rows of whole blocks of 256, and of 32 alone (the experts' second matrices).
ModelConfig config_of_blocks() {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.moe_intermediate_size = 96;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.n_shared_experts = 1;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 6;  // all: rounding changes no choice
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.06;
  return config;
}

const WeightTypes kKept{DType::f32, true};

class BlockWeights : public testing::TestWithParam<const char*> {
 protected:
  BlockWeights() {
    write_gguf(path_, InitialWeights(config_of_blocks(), 3), {.quantization = find_quantization(GetParam())},
               cpu_.pool);
  }

  std::vector<float> logits(const WeightTypes& types, Cpu& cpu) {
    const LoadedModel loaded(path_, types, *cpu.device);
    EXPECT_EQ(loaded.dtype(), DType::f32);
    Scorer scorer({loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend}, static_cast<int64_t>(ids_.size()));
    std::vector<float> all;
    scorer.logits(single_document(ids_), [&](int64_t, int64_t rows, const float* values) {
      all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
    });
    return all;
  }

  Cpu cpu_{1};
  TemporaryFolder folder_;
  fs::path path_ = folder_ / "model.gguf";
  std::vector<int32_t> ids_ = random_ids(24, 64, 9);
};

/// The root of the mean square of a - b, by that of b.
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double off = 0, all = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    off += difference * difference;
    all += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(off / all);
}

/// Also those that a GPU has in another order.
TEST_P(BlockWeights, AreTheFilesNumbersBitForBit) {
  const GgufWeights source(path_);
  for (const bool rearranges : {false, true}) {
    std::vector<DType> types = stored_types(source, kKept);
    std::vector<std::vector<char>> memory;
    std::vector<View> views;
    for (size_t i = 0; i < types.size(); ++i) {
      const Shape& shape = source.table()[i].shape;
      if (rearranges) types[i] = rearranged(types[i], shape[shape.rank() - 1]);
      memory.emplace_back(static_cast<size_t>(bytes_of(types[i], shape.elements())));
      views.emplace_back(memory.back().data(), types[i], shape);
    }
    load_weights(source, path_, source.table(), views, *cpu_.device);
    int64_t in_blocks = 0, in_another_order = 0;
    for (size_t i = 0; i < types.size(); ++i) {
      const Parameter& parameter = source.table()[i];
      if (stored_type(source, i) != storage(types[i]).rearranges) continue;  // a mixture
      in_blocks += is_plain(types[i]) ? 0 : 1;
      in_another_order += is_rearranged(types[i]) ? 1 : 0;
      std::vector<float> expected(static_cast<size_t>(parameter.shape.elements())), found(expected.size());
      source.read(i, 0, parameter.shape.elements(), expected.data());
      storage(types[i]).to_floats(views[i].data, found.data(), parameter.shape.elements());
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0) << parameter.name;
    }
    EXPECT_GE(in_blocks, 20);
    const bool has_order = std::string(GetParam()) == "q8_0" || std::string(GetParam()) == "q4_0";
    EXPECT_EQ(in_another_order >= 10, rearranges && has_order);
  }
}

/// Rows are rounded to integers whose unit is the largest of 32 numbers / 127, so the error is 1/sqrt 12 of it on
/// average; the largest of 32 normal numbers is about 2.3 times their root mean square. A path through the model has
/// four products in each layer and the head's, with independent errors. Twice that: SwiGLU multiplies two of them.
double rounding_bound(int64_t layers) {
  return 2 * (2.3 / 127 / std::sqrt(12.0)) * std::sqrt(4 * static_cast<double>(layers) + 1);
}

TEST_P(BlockWeights, GiveTheLogitsOfTheSameNumbersAsF32WithinTheRoundingOfRows) {
  const std::vector<float> expected = logits(DType::f32, cpu_), found = logits(kKept, cpu_);
  EXPECT_LT(relative_error(found, expected), rounding_bound(config_of_blocks().num_hidden_layers));
  EXPECT_NE(found, expected);
  Cpu three(3);
  EXPECT_EQ(logits(kKept, three), found) << "threads change no bits";
}

/// A GPU rounds activations to bf16, by 2^-9 or less on average: about ten in each layer and one behind them, on a path
/// through the model; and weights, where they are widened for many rows. Twice that, as for rounding_bound().
double bf16_bound(int64_t layers) { return 2 * 0x1p-9 * std::sqrt(14 * static_cast<double>(layers) + 1); }

/// A pass of 24 tokens widens the blocks, and a token alone is multiplied with them as they are.
TEST_P(BlockWeights, GiveTheLogitsOfTheSameNumbersAsF32OnAGpu) {
  MOE_SKIP_WITHOUT("cuda");
  Machine gpu("cuda");
  WeightTypes types = kKept;
  types.beside_blocks = DType::bf16;
  const LoadedModel loaded(path_, types, *gpu.device);
  EXPECT_EQ(loaded.dtype(), DType::bf16);
  EXPECT_EQ(loaded.weights(), LoadedModel(path_, kKept, *cpu_.device).weights()) << "the same blocks";
  const LoadedModel wide(path_, DType::f32, *cpu_.device);
  CachedModel expected({wide.model(), wide.dtype(), *cpu_.device, *cpu_.backend}, 1, 64, 24);
  const ModelOnDevice runtime{loaded.model(), loaded.dtype(), *gpu.device, *gpu.backend};
  CachedModel whole(runtime, 1, 64, 24), single(runtime, 1, 64, 24);
  const double bound = bf16_bound(config_of_blocks().num_hidden_layers);
  std::vector<float> last, alone;
  for (const int32_t id : ids_) {
    last = expected.append(0, std::vector<int32_t>{id});
    alone = single.append(0, std::vector<int32_t>{id});
    EXPECT_LT(relative_error(alone, last), bound);
  }
  EXPECT_LT(relative_error(whole.append(0, ids_), last), bound);
}

TEST_P(BlockWeights, ATokenAloneHasTheBitsOfAWholePass) {
  const LoadedModel loaded(path_, kKept, *cpu_.device);
  const ModelOnDevice runtime{loaded.model(), loaded.dtype(), *cpu_.device, *cpu_.backend};
  CachedModel whole(runtime, 1, 64, 24), single(runtime, 1, 64, 24);
  const std::vector<float> expected = whole.append(0, ids_);
  std::vector<float> found;
  for (const int32_t id : ids_) found = single.append(0, std::vector<int32_t>{id});
  EXPECT_EQ(found, expected);
}

TEST_P(BlockWeights, AnswerWithACacheInF16AsLlamaCppDoes) {
  const LoadedModel loaded(path_, kKept, *cpu_.device);
  ASSERT_EQ(default_cache_type(*cpu_.backend, loaded.dtype(), loaded.in_blocks()), DType::f16);
  ModelOnDevice runtime{loaded.model(), loaded.dtype(), *cpu_.device, *cpu_.backend};
  const std::vector<float> expected = CachedModel(runtime, 1, 64, 24).append(0, ids_);
  runtime.cache = DType::f16;
  CachedModel whole(runtime, 1, 64, 24), single(runtime, 1, 64, 24);
  const std::vector<float> found = whole.append(0, ids_);
  std::vector<float> one_by_one;
  for (const int32_t id : ids_) one_by_one = single.append(0, std::vector<int32_t>{id});
  EXPECT_EQ(one_by_one, found);
  EXPECT_NE(found, expected);
  // A number changes by at most 2^-11 of itself, and products of rounded rows (above) may round another way: on a
  // random model that moves the logits by a part of what the rounding of rows moves them.
  EXPECT_LT(relative_error(found, expected), rounding_bound(config_of_blocks().num_hidden_layers) / 2);
}

/// The host's memory, which says that it is read as a GPU's.
class RearrangingDevice : public HostDevice {
 public:
  bool rearranges_blocks() const override { return true; }
};

/// Experts in the host's memory stay as the CPU reads them.
TEST_P(BlockWeights, InTheOrderOfAGpuLeaveTheHostsExpertsAsTheyAre) {
  RearrangingDevice device;
  Cpu host(1);
  ExpertOffload offload(device, *cpu_.backend, *host.device, *host.backend);
  const LoadedModel loaded(path_, kKept, offload.device(), {}, {}, {.layers = 2, .device = &offload.host()});
  const LoadedModel plain(path_, kKept, *cpu_.device), wide(path_, DType::f32, *cpu_.device);
  EXPECT_EQ(loaded.weights(), plain.weights());
  const auto all = [&](const LoadedModel& model, Device& on, Backend& backend) {
    return CachedModel({model.model(), model.dtype(), on, backend}, 1, 64, 24).append(0, ids_);
  };
  EXPECT_LT(relative_error(all(loaded, offload.device(), offload.backend()), all(wide, *cpu_.device, *cpu_.backend)),
            rounding_bound(config_of_blocks().num_hidden_layers));
}

/// The CPU widens blocks in another order, so rows beside them are not rounded.
TEST_P(BlockWeights, InTheOrderOfAGpuTheyGiveTheLogitsOfTheSameNumbers) {
  RearrangingDevice device;
  const LoadedModel loaded(path_, kKept, device), plain(path_, kKept, *cpu_.device);
  EXPECT_EQ(loaded.weights(), plain.weights()) << "the same bytes, by the names of the file";
  const auto logits_of = [&](const LoadedModel& model, Device& on) {
    return CachedModel({model.model(), model.dtype(), on, *cpu_.backend}, 1, 64, 24).append(0, ids_);
  };
  const LoadedModel wide(path_, DType::f32, *cpu_.device);
  const std::vector<float> found = logits_of(loaded, device), expected = logits_of(wide, *cpu_.device);
  EXPECT_LT(relative_error(found, expected), rounding_bound(config_of_blocks().num_hidden_layers));
  const bool has_order = std::string(GetParam()) == "q8_0" || std::string(GetParam()) == "q4_0";
  if (has_order) {
    EXPECT_NE(found, logits_of(plain, *cpu_.device));
  }
}

TEST_P(BlockWeights, TakeTheBytesOfTheFile) {
  const LoadedModel kept(path_, kKept, *cpu_.device), wide(path_, DType::f32, *cpu_.device);
  EXPECT_THAT(wide.weights(), testing::EndsWith(" of f32"));
  EXPECT_THAT(wide.weights(), testing::Not(testing::HasSubstr(",")));
  const std::string all = GetParam(), type = all.substr(0, all.find("_m"));  // "q4_k_m" is mostly q4_k
  EXPECT_THAT(kept.weights(), testing::HasSubstr(" of " + type));
}

INSTANTIATE_TEST_SUITE_P(Quantizations, BlockWeights,
                         testing::Values("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k"),
                         [](const auto& test) { return std::string(test.param); });

TEST(MixedBlocks, AMatrixOfPartsInDifferentTypesBecomesQ8) {
  Cpu cpu(1);
  const TemporaryFolder folder;
  const fs::path path = folder / "mixed.gguf";
  write_gguf(path, InitialWeights(config_of_blocks(), 3), {.quantization = find_quantization("q4_k_m")}, cpu.pool);
  const GgufWeights source(path);
  const std::vector<DType> types = stored_types(source, kKept);
  int mixed = 0, others = 0;
  for (size_t i = 0; i < types.size(); ++i) {
    if (source.table()[i].role != ParameterRole::attention_qkv) continue;
    (stored_type(source, i) ? others : mixed) += 1;
    EXPECT_EQ(types[i], stored_type(source, i).value_or(DType::q8_0)) << source.table()[i].name;
  }
  EXPECT_GT(mixed, 0) << "values of some layers are q6_k";
  EXPECT_GT(others, 0);
}

TEST(DamagedBlocks, AScaleThatIsNotFiniteIsNamed) {
  Cpu cpu(1);
  const TemporaryFolder folder;
  const fs::path path = folder / "model.gguf";
  write_gguf(path, InitialWeights(config_of_blocks(), 3), {.quantization = find_quantization("q4_0")}, cpu.pool);
  std::string bytes = read_file(path);
  const GgufFile file(path);
  const GgufTensor* const tensor = file.find("blk.1.ffn_down_exps.weight");
  ASSERT_NE(tensor, nullptr);
  const std::string block(reinterpret_cast<const char*>(tensor->data) + 5 * 18, 18);
  const size_t at = bytes.find(block);
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(bytes.find(block, at + 1), std::string::npos);
  bytes[at] = 0, bytes[at + 1] = 0x7c;  // infinity
  write_file(path, bytes);
  EXPECT_THAT(error_of<Error>([&] { LoadedModel(path, kKept, *cpu.device); }),
              testing::AllOf(testing::HasSubstr("element 160 of the tensor layers.1.experts.down is"),
                             testing::HasSubstr("expected a finite number")));
}

}  // namespace
}  // namespace moe::test
