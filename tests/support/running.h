#pragma once
/// Whole steps of every routing method on the CPU. The tiny model is kept, to examine what a method does.

#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "batch/batch.h"
#include "infer/scorer.h"
#include "ops/transfer.h"
#include "tests/support/methods.h"

namespace moe {

inline const std::vector<std::vector<int>> kEightRows = {{7, 4}, {11},      {3, 1, 5}, {9},
                                                         {12},   {2, 2, 2}, {6, 6},    {10, 1}};

inline double total_loss(const StepReport& report) {
  return std::accumulate(report.losses.begin(), report.losses.end(), report.loss);
}

struct StepResult {
  StepReport report;
  std::vector<std::vector<float>> gradients;
};

inline StepResult one_step(const MethodCase& test, const Batch& batch, int64_t microbatches, bool recompute = false,
                           int threads = 2) {
  ThreadPool pool(threads);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  StepConfig step = test.step(batch, microbatches);
  step.recompute = recompute;
  StepUnderTest under(test.config, step, *device, *backend);
  spread_zero_parameters(under.run, *device);
  under.accumulate(batch, microbatches);
  StepResult result;
  for (const View& view : under.run.gradients()) {
    if (view) result.gradients.push_back(download_floats(*device, view));
  }
  result.report = under.run.update(1, 1e-3);
  return result;
}

inline void expect_same_bits(const StepResult& a, const StepResult& b) {
  EXPECT_EQ(a.report.loss, b.report.loss);
  EXPECT_EQ(a.report.losses, b.report.losses);
  EXPECT_EQ(a.report.counts, b.report.counts);
  EXPECT_EQ(a.report.dropped, b.report.dropped);
  EXPECT_EQ(a.gradients, b.gradients);
}

/// The tiny model with its memory.
struct Running {
  MethodCase test;
  Batch batch;
  ThreadPool pool{2};
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Backend> backend = make_cpu_backend(pool);
  StepUnderTest under;

  Running(const MethodCase& what, const Batch& rows, int64_t microbatches = 1)
      : test(what), batch(rows), under(test.config, test.step(batch, microbatches), *device, *backend) {}

  StepReport step(int64_t number, double rate) {
    under.run.accumulate([&](int64_t) { return batch; }, number);
    return under.run.update(number, rate);
  }
  const View& view(const std::string& wanted) {
    for (size_t p = 0; p < under.run.table().size(); ++p) {
      if (under.run.table()[p].name == wanted) return under.run.parameters()[p];
    }
    throw std::out_of_range("no parameter " + wanted);
  }
  std::vector<float> parameter(const std::string& wanted) { return download_floats(*device, view(wanted)); }
  void set_parameter(const std::string& wanted, const std::vector<float>& values) {
    upload_vector(*device, view(wanted), values);
  }
  ModelOnDevice runtime() { return {under.run.model(), DType::f32, *device, *backend}; }

  /// [T, V], with the tokens as one document in one row.
  std::vector<float> logits(const std::vector<int32_t>& ids) {
    Scorer scorer(runtime(), static_cast<int64_t>(ids.size()));
    std::vector<float> result;
    scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
      result.insert(result.end(), values, values + rows * test.config.vocab_size);
    });
    return result;
  }
  /// [MoE layer][token]: the experts that each token of a batch chooses in evaluation.
  std::vector<std::vector<std::set<int64_t>>> chosen_in_evaluation(const Batch& rows) {
    const size_t tokens = rows.tokens.size(), experts = static_cast<size_t>(test.config.n_routed_experts);
    std::vector<int32_t> group;  // each token by itself
    for (size_t t = 0; t < tokens; ++t) group.push_back(rows.segment_id[t] < 0 ? -1 : static_cast<int32_t>(t));
    const auto count = static_cast<int64_t>(tokens);
    Scorer scorer(runtime(), count, rows.sequence_length, ChosenIds::forgotten, count);
    ChoiceCounts choices;
    scorer.losses(rows, group, count, choices);
    std::vector<std::vector<std::set<int64_t>>> chosen(static_cast<size_t>(test.config.moe_layers()));
    for (auto& layer : chosen) layer.resize(tokens);
    for (size_t i = 0; i < choices.chosen.size(); ++i) {
      if (choices.chosen[i] == 0) continue;
      chosen[i / (tokens * experts)][i / experts % tokens].insert(static_cast<int64_t>(i % experts));
    }
    return chosen;
  }
};

}  // namespace moe
