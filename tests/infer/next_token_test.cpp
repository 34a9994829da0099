// Tokens chosen by the CPU's NextToken are those of the Sampler, bit for bit.

#include "ops/next_token.h"

#include <cmath>

#include <gtest/gtest.h>

#include "infer/device_steps.h"
#include "infer/sampler.h"
#include "tests/infer/support.h"

namespace moe::test {
namespace {

std::vector<SamplingOptions> sampling_options() {
  std::vector<SamplingOptions> list{{.temperature = 0}, {.temperature = 1e6}, {.temperature = 1e-30, .top_k = 3}};
  for (const double temperature : {0.2, 1.0, 1.7}) {
    for (const int64_t top_k : {0, 1, 12, 400}) {
      for (const double top_p : {0.3, 0.95, 1.0}) {
        for (const double min_p : {0.0, 0.1}) {
          list.push_back({.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p, .seed = 77});
        }
      }
    }
  }
  const size_t plain = list.size();
  for (size_t i = 0; i < plain; i += 3) {
    list.push_back(list[i]);
    list.back().repetition_penalty = 1.3;
    list.back().presence_penalty = 0.37;
    list.back().frequency_penalty = 0.11;
  }
  return list;
}

TEST(NextToken, OfTheCpuIsTheSamplersChoiceBitForBit) {
  constexpr int64_t kVocabulary = 700;
  const Cpu cpu;
  const Random random(5, 0);
  std::vector<float> logits(kVocabulary);
  std::vector<int32_t> mask(kVocabulary);
  std::vector<bool> allowed(kVocabulary);
  uint64_t draw = 0;
  for (const SamplingOptions& options : sampling_options()) {
    for (int trial = 0; trial < 6; ++trial) {
      const bool rough = trial % 2 == 0;  // many equal logits
      for (size_t v = 0; v < kVocabulary; ++v) {
        logits[v] = static_cast<float>(3 * random.normal(draw++));
        if (rough) logits[v] = std::round(logits[v]);
        allowed[v] = random.below(draw++, 10) > 0;
        mask[v] = allowed[v] ? 1 : 0;
      }
      const std::vector<int32_t> history = random_ids(120, kVocabulary, draw);
      std::vector<int32_t> counts(kVocabulary, 0);
      for (const int32_t id : history) ++counts[static_cast<size_t>(id)];
      DrawWords words = words_of(token_draw(options, 9));
      std::vector<int32_t> ids{-7}, chosen{-7}, positions{119};
      const int32_t before = history[0];
      cpu.backend->run(NextToken{.logits = View(logits.data(), DType::f32, {1, kVocabulary}),
                                 .allowed = View(mask.data(), DType::i32, {kVocabulary}),
                                 .draws = View(words.data(), DType::i32, {1, kDrawWords}),
                                 .counts = View(counts.data(), DType::i32, {1, kVocabulary}),
                                 .ids = View(ids.data(), DType::i32, {1}),
                                 .positions = View(positions.data(), DType::i32, {1}),
                                 .chosen = View(chosen.data(), DType::i32, {1})});
      const int32_t expected = Sampler(options, allowed).sample(logits, history, 9, 120);
      ASSERT_EQ(chosen[0], expected) << options.temperature << " " << options.top_k << " " << options.top_p;
      EXPECT_EQ(ids[0], expected);
      EXPECT_EQ(positions[0], 120);
      EXPECT_GE(counts[static_cast<size_t>(before)], 1);
      EXPECT_EQ(counts[static_cast<size_t>(expected)], 1 + std::count(history.begin(), history.end(), expected));
    }
  }
}

TEST(RecordedRows, AreFewSizesThatHoldTheRowsAndNeverMoreThanThereAre) {
  std::set<int64_t> sizes;
  for (int64_t rows = 1; rows <= 64; ++rows) {
    const int64_t size = recorded_rows(rows, 64);
    EXPECT_GE(size, rows);
    sizes.insert(size);
    EXPECT_LE(recorded_rows(rows, rows), rows);
  }
  EXPECT_LE(sizes.size(), 9u);
}

}  // namespace
}  // namespace moe::test
