// Routed experts in the host's memory. Between two CPU backends the bits are those of the model on one device; between
// a GPU and the CPU the logits are equal within the rounding of activations.

#include "infer/expert_offload.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/write_gguf.h"
#include "checkpoint/write_model.h"
#include "infer/cached_model.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/machines.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

ModelConfig offload_config() {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.moe_intermediate_size = 32;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 32;
  config.n_shared_experts = 1;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 6;  // all: rounding changes no choice
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.1;
  return config;
}

class Offload : public testing::Test {
 protected:
  Offload() {
    write_gguf(path_, InitialWeights(offload_config(), 3), {.quantization = find_quantization("q4_0")}, cpu_.pool);
  }

  std::vector<float> logits(const LoadedModel& loaded, Device& device, Backend& backend) {
    Scorer scorer({loaded.model(), loaded.dtype(), device, backend}, static_cast<int64_t>(ids_.size()));
    std::vector<float> all;
    scorer.logits(single_document(ids_), [&](int64_t, int64_t rows, const float* values) {
      all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
    });
    return all;
  }
  /// Token by token.
  std::vector<float> cached(const LoadedModel& loaded, Device& device, Backend& backend) {
    CachedModel model({loaded.model(), loaded.dtype(), device, backend}, 1, 64, 8);
    std::vector<float> all = model.append(0, std::span(ids_).first(8));
    for (size_t i = 8; i < ids_.size(); ++i) {
      const std::vector<float> next = model.append(0, std::span(ids_).subspan(i, 1));
      all.insert(all.end(), next.begin(), next.end());
    }
    return all;
  }

  Cpu cpu_{1}, host_{2};
  TemporaryFolder folder_;
  fs::path path_ = folder_ / "model.gguf";
  std::vector<int32_t> ids_ = random_ids(20, 64, 9);
};

TEST_F(Offload, GivesTheBitsOfOneDevice) {
  for (const WeightTypes& types : {WeightTypes(DType::f32), WeightTypes(DType::bf16), WeightTypes(DType::f32, true)}) {
    const LoadedModel whole(path_, types, *cpu_.device);
    const std::vector<float> expected = logits(whole, *cpu_.device, *cpu_.backend);
    const std::vector<float> next = cached(whole, *cpu_.device, *cpu_.backend);
    const int64_t bytes = WeightSizes(path_, types).of().bytes;
    int64_t before = 0;
    for (const int64_t layers : {1, 2, 3, 4}) {  // the first one has no experts
      SCOPED_TRACE(fmt::format("{}, {} layers", name(types.type), layers));
      Cpu device(1);
      const ExpertOffload offload(*device.device, *device.backend, *host_.device, *host_.backend);
      const LoadedModel loaded(path_, types, offload.device(), {}, {}, {.layers = layers, .device = &offload.host()});
      EXPECT_EQ(loaded.weights(), whole.weights());
      const WeightsSize size = WeightSizes(path_, types).of(layers);
      EXPECT_EQ(device.device->allocated_bytes(), size.bytes);
      EXPECT_EQ(offload.device().allocated_bytes(), size.bytes);
      EXPECT_EQ(offload.host().allocated_bytes(), size.host_bytes);
      EXPECT_EQ(size.bytes + size.host_bytes, bytes);
      EXPECT_EQ(size.host_bytes > before, layers > 1);
      before = size.host_bytes;
      EXPECT_EQ(logits(loaded, offload.device(), offload.backend()), expected);
      EXPECT_EQ(cached(loaded, offload.device(), offload.backend()), next);
    }
    EXPECT_EQ(host_.device->allocated_bytes(), 0);
  }
}

/// What a replay must not leave out: the host's part.
TEST_F(Offload, RecordsNothingWhileTheHostComputes) {
  const ExpertOffload offload(*cpu_.device, *cpu_.backend, *host_.device, *host_.backend);
  const LoadedModel loaded(path_, DType::f32, offload.device(), {}, {}, {.layers = 4, .device = &offload.host()});
  int runs = 0;
  const auto recording = offload.device().record([&] { ++runs; });
  const int recorded = runs;
  recording->replay();
  EXPECT_EQ(runs, recorded + 1);
}

TEST_F(Offload, TheFewestFirstLayersThatFitAreChosen) {
  const WeightTypes types(DType::f32, true);
  const int64_t all = WeightSizes(path_, types).of().bytes;
  EXPECT_EQ(WeightSizes(path_, types).fitting(all, 0).host_layers, 0);
  EXPECT_EQ(WeightSizes(path_, types).fitting(all - 1, 0).host_layers, 2) << "the first layer has no experts";
  const int64_t three = WeightSizes(path_, types).of(3).bytes;
  EXPECT_EQ(WeightSizes(path_, types).fitting(three, 0).host_layers, 3);
  const WeightsSize least = WeightSizes(path_, types).fitting(1, 0);
  EXPECT_EQ(least.host_layers, 4);
  EXPECT_GT(least.bytes, 1);
}

/// The roundings of activations to bf16 (2^-9 or less on average): about ten in each layer and one behind them, on a
/// path through the model; twice that, as SwiGLU multiplies two rounded numbers.
double bf16_bound(int64_t layers) { return 2 * 0x1p-9 * std::sqrt(10 * static_cast<double>(layers) + 1); }

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double off = 0, all = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    off += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    all += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(off / all);
}

TEST_F(Offload, OfAGpuGivesItsLogitsWithinTheRoundingOfActivations) {
  MOE_SKIP_WITHOUT("cuda");
  Machine gpu("cuda");
  WeightTypes kept(DType::f32, true);
  kept.beside_blocks = DType::bf16;
  for (const WeightTypes& types : {WeightTypes(DType::f32), WeightTypes(DType::bf16), kept}) {
    const LoadedModel whole(path_, types, *gpu.device);
    const std::vector<float> expected = logits(whole, *gpu.device, *gpu.backend);
    const std::vector<float> next = cached(whole, *gpu.device, *gpu.backend);
    for (const int64_t layers : {2, 4}) {
      const ExpertOffload offload(*gpu.device, *gpu.backend, *host_.device, *host_.backend);
      const LoadedModel loaded(path_, types, offload.device(), {}, {}, {.layers = layers, .device = &offload.host()});
      const bool exact = whole.dtype() == DType::f32;
      const double bound = exact ? 1e-5 : (types.keep_blocks ? 2.3 / 127 : 1) * bf16_bound(4) + bf16_bound(4);
      EXPECT_LT(relative_error(logits(loaded, offload.device(), offload.backend()), expected), bound);
      EXPECT_LT(relative_error(cached(loaded, offload.device(), offload.backend()), next), bound);
    }
  }
}

}  // namespace
}  // namespace moe::test
