// The head computes its logits for some rows at a time. Real vocabularies need several such chunks; here the number of
// logits at once makes them of a small one.

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "nn/head.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

constexpr int kRows = 32, kLength = 12;  // microbatches of 192 and 384 tokens

Batch rows_of_documents(const ModelConfig& config) {
  std::vector<std::vector<int>> rows;
  for (int row = 0; row < kRows; ++row) rows.push_back({1 + row % 7, 4});
  return packed_batch(rows, kLength, config.vocab_size, 3);
}

struct StepResult {
  double loss, norm;
  std::vector<std::vector<float>> gradients;
};

StepResult one_step(const ModelConfig& config, DType dtype, int64_t microbatches, int64_t logits_per_chunk) {
  const Batch batch = rows_of_documents(config);
  StepConfig step = step_config_for(batch, microbatches, dtype);
  step.logits_per_chunk = logits_per_chunk;
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  StepUnderTest under(config, step, *device, *backend);
  under.accumulate(batch, microbatches);
  StepResult result;
  for (const View& view : under.run.gradients()) {
    if (view) result.gradients.push_back(download_floats(*device, view));
  }
  const StepReport report = under.run.update(1, 1e-3);
  result.loss = report.loss;
  result.norm = report.gradient_norm;
  return result;
}

class HeadChunks : public testing::TestWithParam<DType> {};

// Rows do not depend on their neighbours, so losses agree to the bit; the head's gradient is a sum in another order.
TEST_P(HeadChunks, ChangeNeitherLossesNorGradients) {
  for (const bool tied : {false, true}) {
    ModelConfig config = tiny_config();
    config.tie_word_embeddings = tied;
    ASSERT_EQ(head_chunk_rows(config.vocab_size, 1), 64) << "three chunks of a microbatch of 192 tokens";
    for (const int64_t microbatches : {1, 2}) {
      const StepResult whole = one_step(config, GetParam(), microbatches, Pass::kLogitsPerChunk);
      const StepResult chunks = one_step(config, GetParam(), microbatches, 1);
      EXPECT_EQ(chunks.loss, whole.loss);
      EXPECT_NEAR(chunks.norm, whole.norm, 2e-5 * whole.norm);
      ASSERT_EQ(chunks.gradients.size(), whole.gradients.size());
      for (size_t p = 0; p < whole.gradients.size(); ++p) {
        double largest = 0, difference = 0;
        for (size_t i = 0; i < whole.gradients[p].size(); ++i) {
          const auto value = static_cast<double>(whole.gradients[p][i]);
          largest = std::max(largest, std::fabs(value));
          difference = std::max(difference, std::fabs(value - static_cast<double>(chunks.gradients[p][i])));
        }
        EXPECT_LE(difference, 2e-5 * largest) << "gradient " << p << ", tied " << tied;
      }
    }
  }
}

TEST(HeadChunksOfAGpu, HaveRowsEnoughForEveryVocabulary) {
  const auto rows = [](int64_t vocabulary) { return head_chunk_rows(vocabulary, gpu_logits_per_chunk(vocabulary)); };
  EXPECT_EQ(rows(8192), 16384);
  EXPECT_EQ(rows(32768), 4096);
  EXPECT_EQ(rows(102400), 4096);
  EXPECT_EQ(rows(1 << 20), 4096);
}

INSTANTIATE_TEST_SUITE_P(Types, HeadChunks, testing::Values(DType::f32, DType::bf16),
                         [](const auto& tested) { return std::string(name(tested.param)); });

}  // namespace
}  // namespace moe
