// Ranks that divide the layers of a dense model give the bits of one rank.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/weight_source.h"
#include "checkpoint/write_gguf.h"
#include "tests/infer/rank_models.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Five layers, which two, three and four ranks cannot divide evenly.
ModelConfig dense_config() {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = config.intermediate_size = 256;  // blocks of q4_K have 256
  config.num_hidden_layers = 5;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.head_dim = 64;
  config.n_routed_experts = config.num_experts_per_tok = config.n_shared_experts = 0;
  config.max_position_embeddings = 256;
  config.initializer_range = 0.06;
  return config;
}

/// A file of random weights of this model.
struct DenseFile {
  TemporaryFolder folder;
  fs::path path = folder / "model.gguf";

  explicit DenseFile(const char* quantization) {
    ThreadPool pool(1);
    write_gguf(path, InitialWeights(dense_config(), 3), {.quantization = find_quantization(quantization)}, pool);
  }
};

TEST(LayerRanks, GiveTheBitsOfOneRank) {
  for (const char* const name : {"dense", "families/llama", "families/llama_odd"}) {
    const RankedModel model{golden(name)};
    EXPECT_EQ(logits_on(2, model), logits_on(1, model)) << name;
  }
  for (const char* const type : {"f32", "f16", "q8_0", "q4_k_m"}) {
    const DenseFile file(type);
    const RankedModel model{file.path, {DType::f32, true}};
    const std::vector<float> one = logits_on(1, model);
    for (const int ranks : {2, 3, 5}) EXPECT_EQ(logits_on(ranks, model), one) << type << ", " << ranks << " ranks";
  }
}

// Otherwise every rank would have the whole model, and the results would be the same.
TEST(LayerRanks, HaveTheirOwnLayersAlone) {
  const DenseFile file("f32");
  const RankedModel model{file.path};
  const WeightSizes sizes = WeightSizes(model.path, model.weights).of_rank({.pipeline = 3}, 0);
  const ModelConfig config = dense_config();
  // Each tensor here is a multiple of 256 bytes, and as many are free behind it.
  constexpr auto kFree = static_cast<int64_t>(Arena::kAlignment);
  int64_t of_layer = 0, embedding = 0;
  for (const Parameter& parameter : parameter_table(config)) {
    const int64_t bytes = parameter.shape.elements() * 4 + kFree;
    if (parameter.layer == 0) of_layer += bytes;
    if (parameter.role == ParameterRole::embedding) embedding = bytes;
  }
  // Two, two and one; the first rank also has the embedding.
  EXPECT_EQ(sizes.of().bytes, 2 * of_layer + embedding);
  EXPECT_EQ(sizes.held().layer_count(), 2);
  const PagedSizes paged{.pages = 4, .pages_each = 4, .tokens = 16};
  const auto bytes_of = [&](const HeldModel& of) { return PagedModel::bytes(of, DType::f32, paged); };
  const int64_t cached = PagedModel::page_bytes(config, DType::f32) / 5 * paged.pages + 2 * kFree;  // of a layer
  EXPECT_EQ(bytes_of(config) - bytes_of(sizes.held()), 3 * cached);
  lead(3, model, [&](const Lead& one) {
    EXPECT_EQ(one.cpu.device->allocated_bytes(), sizes.of().bytes);
    const PagedModel cache(one.runtime(), paged);
    EXPECT_EQ(one.cpu.device->allocated_bytes(), sizes.of().bytes + bytes_of(sizes.held()));
  });
}

TEST(LayerRanks, HaveATiedEmbeddingTwice) {
  const RankedModel model{golden("families/llama_odd")};
  const WeightSizes whole(model.path, model.weights);
  ASSERT_TRUE(whole.config().tie_word_embeddings);
  int64_t all = 0;
  for (const int64_t rank : {0, 1}) all += whole.of_rank({.pipeline = 2}, rank).of().bytes;
  const int64_t embedding = 4 * whole.config().vocab_size * whole.config().hidden_size;
  EXPECT_NEAR(static_cast<double>(all), static_cast<double>(whole.of().bytes + embedding), 4096);
}

TEST(LayerRanks, AnEngineGivesTheTokensOfOneRank) {
  const DenseFile file("f32");
  const RankedModel model{file.path};
  for (const bool on_device : {false, true}) {
    std::vector<Answer> expected;
    lead(1, model, [&](const Lead& one) { expected = answers_of(one, on_device); });
    for (const int ranks : {2, 4}) {
      lead(ranks, model, [&](const Lead& one) {
        const std::vector<Answer> found = answers_of(one, on_device);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_EQ(found[i].ids, expected[i].ids) << ranks << " ranks, request " << i;
          EXPECT_EQ(found[i].error, "");
        }
      });
    }
  }
}

}  // namespace
}  // namespace moe::test
