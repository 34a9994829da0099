// Tokens drawn on the GPU: those of the host's sampler, and the distribution that they should have.

#include <cmath>

#include "infer/sampler.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

class CudaNextToken : public GpuTest {
 protected:
  std::vector<int32_t> ints(const View& view) {
    std::vector<int32_t> result(static_cast<size_t>(view.elements()));
    gpu_->device->download(result.data(), view.data, view.bytes());
    return result;
  }
  View words(const std::vector<TokenDraw>& draws) {
    std::vector<int32_t> values;
    for (const TokenDraw& draw : draws) {
      const DrawWords row = words_of(draw);
      values.insert(values.end(), row.begin(), row.end());
    }
    View view = integers(values);
    return view.reshaped({static_cast<int64_t>(draws.size()), kDrawWords});
  }
};

TEST_F(CudaNextToken, IsTheChoiceOfTheHostsSampler) {
  constexpr int64_t kVocabulary = 102400, kRows = 48;
  const std::vector<SamplingOptions> options{
      {.temperature = 0},
      {.seed = 1},
      {.temperature = 0.7, .seed = 2},
      {.temperature = 1e6, .seed = 3},
      {.temperature = 0.8, .top_k = 40, .seed = 4},
      {.temperature = 1, .top_p = 0.95, .seed = 5},
      {.temperature = 1.4, .top_p = 0.5, .min_p = 0.01, .seed = 6},
      {.temperature = 1, .min_p = 0.05, .seed = 7},
      {.temperature = 0.9, .top_k = 5000, .top_p = 0.9, .seed = 8},
      {.repetition_penalty = 1.1, .presence_penalty = 0.3, .frequency_penalty = 0.2, .temperature = 0.9, .seed = 9},
      {.temperature = 1e-6, .top_k = 3, .seed = 10}};
  for (const float scale : {1.0f, 4.0f}) {
    std::vector<float> logits = values(floats(DType::f32, {kRows, kVocabulary}));
    for (float& logit : logits) logit = scale == 1.0f ? std::round(4 * logit) / 4 : scale * logit;
    const View device_logits = empty(DType::f32, {kRows, kVocabulary});
    gpu_->device->upload(device_logits.data, logits.data(), device_logits.bytes());
    std::vector<bool> allowed(kVocabulary);
    for (size_t v = 0; v < kVocabulary; ++v) allowed[v] = v % 97 != 5 && v < 102000;
    const View mask = integers({allowed.begin(), allowed.end()});
    std::vector<int32_t> history;
    for (int32_t i = 0; i < 300; ++i) history.push_back(i * i * 7 % 102000);
    std::vector<int32_t> counts(static_cast<size_t>(kRows * kVocabulary), 0);
    for (size_t t = 0; t < kRows; ++t) {
      for (const int32_t id : history) ++counts[t * kVocabulary + static_cast<size_t>(id)];
    }
    for (const SamplingOptions& each : options) {
      std::vector<TokenDraw> draws;
      for (uint64_t t = 0; t < kRows; ++t) draws.push_back(token_draw(each, t));
      const View ids = empty(DType::i32, {kRows}), chosen = empty(DType::i32, {kRows});
      const View positions = integers(std::vector<int32_t>(kRows, 299));
      gpu_->backend->run(NextToken{.logits = device_logits,
                                   .allowed = mask,
                                   .draws = words(draws),
                                   .counts = integers(counts).reshaped({kRows, kVocabulary}),
                                   .ids = ids,
                                   .positions = positions,
                                   .chosen = chosen});
      Sampler sampler(each, allowed);
      const std::vector<int32_t> found = ints(chosen);
      for (size_t t = 0; t < kRows; ++t) {
        const std::span<const float> row = std::span(logits).subspan(t * kVocabulary, kVocabulary);
        EXPECT_EQ(found[t], sampler.sample(row, history, t, 300))
            << "scale " << scale << ", seed " << each.seed << ", row " << t;
      }
    }
  }
}

// Pearson's statistic; beyond the bound a right sampler comes once in 10^7 seeds.
TEST_F(CudaNextToken, DrawsHaveTheModelsFrequencies) {
  const std::vector<double> p{0.02, 0.3, 0.08, 0.25, 0.05, 0.01, 0.19, 0.1};
  struct Case {
    SamplingOptions options;
    std::vector<double> expected;
  };
  const double three = 0.3 + 0.25 + 0.19;
  const std::vector<double> filtered{0, 0.3 / three, 0, 0.25 / three, 0, 0, 0.19 / three, 0};
  for (const Case& each : {Case{{.seed = 11}, p}, Case{{.top_k = 3, .seed = 13}, filtered},
                           Case{{.top_p = 0.6, .seed = 14}, filtered}, Case{{.min_p = 0.5, .seed = 15}, filtered}}) {
    constexpr int64_t kRows = 4000, kRounds = 50;
    std::vector<float> logits;
    for (int64_t t = 0; t < kRows; ++t) {
      for (const double probability : p) logits.push_back(static_cast<float>(std::log(probability) + 3));
    }
    const View device_logits = empty(DType::f32, {kRows, 8});
    gpu_->device->upload(device_logits.data, logits.data(), device_logits.bytes());
    std::vector<TokenDraw> draws;
    for (uint64_t t = 0; t < kRows; ++t) draws.push_back(token_draw(each.options, t));
    const NextToken op{.logits = device_logits,
                       .draws = words(draws),
                       .ids = empty(DType::i32, {kRows}),
                       .positions = integers(std::vector<int32_t>(kRows, 0)),
                       .chosen = empty(DType::i32, {kRows})};
    std::vector<int64_t> counts(p.size(), 0);
    for (int64_t round = 0; round < kRounds; ++round) {
      gpu_->backend->run(op);
      for (const int32_t id : ints(op.chosen)) ++counts[static_cast<size_t>(id)];
    }
    double statistic = 0, freedom = -1;
    for (size_t id = 0; id < p.size(); ++id) {
      if (each.expected[id] == 0) {
        EXPECT_EQ(counts[id], 0) << "id " << id;
        continue;
      }
      const double expected = kRows * kRounds * each.expected[id];
      statistic +=
          (static_cast<double>(counts[id]) - expected) * (static_cast<double>(counts[id]) - expected) / expected;
      freedom += 1;
    }
    const double spread = 2.0 / (9.0 * freedom);
    EXPECT_LT(statistic, freedom * std::pow(1 - spread + 5.2 * std::sqrt(spread), 3));
  }
}

}  // namespace
}  // namespace moe
