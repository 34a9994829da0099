// A model whose matrices stay in their source computes what the loaded one does, and the check of a conversion sees
// what has changed.

#include "eval/conversion_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/streamed_model.h"
#include "tests/eval/evaluation.h"
#include "tests/infer/support.h"
#include "tests/support/methods.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

/// Initial weights, but large, so that routes and attention vary; as test::random_model() has them.
class DrawnWeights final : public WeightSource {
 public:
  explicit DrawnWeights(const ModelConfig& config, uint64_t seed = 1) : WeightSource(config), seed_(seed) {}

  DType stored(size_t, int64_t) const override { return DType::f32; }
  StoredElement place(size_t parameter, int64_t element) const override {
    return {"the test", table()[parameter].name, element};
  }
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override {
    read_ += count;
    initial_values(table()[parameter], seed_, 0.3, begin, count, values);
  }
  void read(size_t, int64_t, int64_t, int32_t*) const override { FAIL() << "there are no tables"; }

  int64_t elements_read() const { return read_; }

 private:
  uint64_t seed_;
  mutable std::atomic<int64_t> read_ = 0;
};

/// Every method whose weights do not follow from a dataset, a dense model, and what the families add.
std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> result;
  for (const MethodCase& test : method_cases()) {
    if (!test.config.routes_with(&RoutingRow::hash_table)) result.push_back(test.config);
  }
  result.push_back(method_case("dense").config);
  ModelConfig tied = tiny_config();
  tied.tie_word_embeddings = true;
  result.push_back(tied);
  ModelConfig gated = tiny_config();
  gated.first_k_dense_replace = 0;
  gated.qkv_bias = gated.gated_shared_expert = true;
  gated.n_shared_experts = 1;
  result.push_back(gated);
  ModelConfig normed = tiny_config();
  normed.qk_norm = QkNorm::each_head;
  result.push_back(normed);
  return result;
}

Batch mixed_batch(const ModelConfig& config) { return check_batch(mixed_documents(), config, {.tokens = 120}); }

TEST(StreamedModel, GivesTheBitsOfTheLoadedOneForAnyPart) {
  for (const ModelConfig& config : configs()) {
    const Batch batch = mixed_batch(config);
    test::Cpu cpu;
    const test::MemoryModel loaded = test::random_model(config, DType::f32, *cpu.device);
    const auto tokens = static_cast<int64_t>(batch.tokens.size());
    Scorer expected(loaded.runtime(cpu), tokens, batch.sequence_length, ChosenIds::kept);
    const std::vector<float> losses = expected.losses(batch);
    const DrawnWeights source(config);
    for (const int64_t bytes : {1, 1000, 1 << 20}) {
      const StreamedModel streamed(source, *cpu.device, *cpu.backend, cpu.pool, {.part_bytes = bytes});
      Scorer scorer(streamed.runtime(), tokens, batch.sequence_length, ChosenIds::kept);
      EXPECT_EQ(scorer.losses(batch), losses) << name(config.routing) << ", parts of " << bytes;
      if (config.moe_layers() == 0) continue;
      EXPECT_EQ(scorer.chosen_ids(), expected.chosen_ids()) << name(config.routing);
    }
  }
}

TEST(StreamedModel, KeepsOnlyAPartOfTheWeightsInMemory) {
  ModelConfig config = tiny_config();
  config.hidden_size = 96;
  config.n_routed_experts = 64;
  config.moe_intermediate_size = 128;
  const DrawnWeights source(config);
  const int64_t all = count_elements(source.table()) * 4;
  test::Cpu cpu;
  std::vector<int64_t> layers;
  const StreamedModel streamed(source, *cpu.device, *cpu.backend, cpu.pool,
                               {.part_bytes = 1 << 18, .progress = [&](int64_t layer) { layers.push_back(layer); }});
  EXPECT_LT(cpu.device->allocated_bytes(), all / 20);
  Scorer(streamed.runtime(), 8).losses(single_document(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_THAT(layers, testing::ElementsAre(-1, 0, 1, 2, -1));
}

TEST(StreamedModel, ReadsNoExpertThatNoTokenHasChosen) {
  ModelConfig config = tiny_config();
  config.n_routed_experts = 64;
  const DrawnWeights source(config);
  test::Cpu cpu;
  const StreamedModel streamed(source, *cpu.device, *cpu.backend, cpu.pool, {.part_bytes = 1});
  Scorer(streamed.runtime(), 2).losses(single_document(std::vector<int32_t>{1, 2}));
  EXPECT_LT(source.elements_read(), count_elements(source.table()) / 4);
}

TEST(ConversionCheck, AnEqualModelHasAllChoicesAndTheEvaluatedLoss) {
  const ModelConfig config = tiny_config();
  const MemoryDocuments documents = mixed_documents();
  const Batch batch = check_batch(documents, config);
  test::Cpu cpu;
  const DrawnWeights source(config);
  const CheckedModel checked = run_check(source, batch, *cpu.device, *cpu.backend, cpu.pool);
  const test::MemoryModel loaded = test::random_model(config, DType::f32, *cpu.device);
  const EvaluationResult expected =
      evaluate(loaded.runtime(cpu), documents, {.sequence_length = config.max_position_embeddings});
  EXPECT_EQ(batch.num_targets, expected.all.tokens);
  EXPECT_NEAR(checked.nats, expected.all.nats, 1e-9 * expected.all.nats);
  const auto layers = same_choices(config, checked, checked);
  ASSERT_EQ(layers.size(), 2u);
  for (const SameChoices& layer : layers) {
    EXPECT_EQ(layer.all, batch.num_tokens * config.num_experts_per_tok);
    EXPECT_EQ(layer.same, layer.all);
  }
  EXPECT_EQ(layers.front().layer, 1);

  const CheckedModel other = run_check(DrawnWeights(config, 2), batch, *cpu.device, *cpu.backend, cpu.pool);
  for (const SameChoices& layer : same_choices(config, checked, other)) {
    EXPECT_LT(layer.same, 0.6 * static_cast<double>(layer.all));  // by chance: two of six, a third
    EXPECT_GT(layer.same, 0.1 * static_cast<double>(layer.all));
  }
}

TEST(ConversionCheck, ChoicesAreComparedAsSets) {
  ModelConfig config = tiny_config();
  config.num_hidden_layers = 2;  // one with experts
  const CheckedModel before{.nats = 0, .chosen = {0, 1, 2, 3, -1, -1, 4, 5}};
  const CheckedModel after{.nats = 0, .chosen = {1, 0, 2, 4, -1, -1, 0, 1}};
  const auto layers = same_choices(config, before, after);
  ASSERT_EQ(layers.size(), 1u);
  EXPECT_EQ(layers[0].all, 6);
  EXPECT_EQ(layers[0].same, 3);
}

TEST(ConversionCheck, TakesTheFirstTokensThatTheMemoryHolds) {
  const ModelConfig config = tiny_config();
  const MemoryDocuments documents = make_documents({{"a", 100}, {"a", 5000}, {"a", 7}});
  const auto tokens = [&](const CheckLimits& limits) { return check_batch(documents, config, limits).num_tokens; };
  EXPECT_EQ(tokens({}), 4096);
  EXPECT_EQ(tokens({.tokens = 50}), 50);
  EXPECT_EQ(tokens({.tokens = 10000}), 5107);
  const int64_t less = tokens({.bytes = 1 << 20});
  EXPECT_LT(less, 4096);
  EXPECT_GT(less, 64);
  EXPECT_THAT(test::error_of<Error>([&] { tokens({.bytes = 1000}); }), testing::HasSubstr("need more than 0 MiB"));
  EXPECT_THAT(test::error_of<Error>([&] {
                check_batch(make_documents({{"a", 1}, {"a", 1}}), config);
              }),
              testing::HasSubstr("nothing to predict"));
}

}  // namespace
}  // namespace moe
