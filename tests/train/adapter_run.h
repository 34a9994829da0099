#pragma once
/// A run that trains adapters on a tiny model, and what its files give.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "checkpoint/adapter_set.h"
#include "checkpoint/open_model.h"
#include "checkpoint/write_model.h"
#include "eval/loss.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/support/tiny_run.h"

namespace moe::test {

/// A base model of twelve steps, and the settings of a run that trains adapters on it.
struct AdapterRun {
  explicit AdapterRun(const std::vector<std::string>& base = {}) { tiny.train("base", base); }

  std::vector<std::string> settings(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"model.from=" + (tiny / "base").string(), "train.parameters=lora", "lora.rank=3",
                                 "optimizer.weight_decay=0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  fs::path model() const { return tiny / "base/step-12"; }
  fs::path adapter(const std::string& run = "lora") const { return tiny / run / "step-12"; }

  /// Logits of some tokens, f32.
  std::vector<float> logits(const fs::path& folder, const std::vector<ChosenAdapter>& adapters,
                            DType dtype = DType::f32) {
    const auto device = make_cpu_device();
    const auto backend = make_cpu_backend(pool);
    const LoadedModel loaded(folder, dtype, *device, {}, adapters);
    const std::vector<int32_t> ids{5, 99, 3, 120, 7, 7, 31, 260, 14};
    Scorer scorer({loaded.model(), loaded.dtype(), *device, *backend}, static_cast<int64_t>(ids.size()));
    std::vector<float> all;
    scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
      all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
    });
    return all;
  }
  double loss(const std::string& folder, const std::vector<ChosenAdapter>& adapters) {
    const auto device = make_cpu_device();
    const auto backend = make_cpu_backend(pool);
    const LoadedModel loaded(folder, DType::f32, *device, {}, adapters);
    const Dataset valid(tiny / "valid");
    return evaluate({loaded.model(), loaded.dtype(), *device, *backend}, valid,
                    {.sequence_length = 24, .batch_rows = 2})
        .all.loss();
  }
  /// Writes base and adapters as one model.
  fs::path merge(const std::string& name, const std::vector<ChosenAdapter>& adapters) {
    auto base = open_weights(model());
    const AdapterSet set(adapters, base->config());
    make_folder(tiny / name);
    write_model(tiny / name, MergedWeights(std::move(base), set), {}, pool);
    return tiny / name;
  }

  TinyRun tiny;
  ThreadPool pool{2};
};

inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return a.size() == b.size() ? largest : INFINITY;
}

inline double root_mean_square(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

/// A base in nf4 whose rows are whole blocks.
inline const std::vector<std::string> kNf4Sizes{"model.hidden_size=64", "model.moe_intermediate_size=64"};

}  // namespace moe::test
