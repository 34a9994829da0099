#pragma once
/// A model whose matrices stay in their source. Each product reads its matrix part by part, so memory does not grow
/// with the model, and every pass reads all matrices that it needs.

#include <functional>
#include <memory>

#include "base/thread_pool.h"
#include "checkpoint/weight_source.h"
#include "infer/model_on_device.h"

namespace moe {

struct StreamOptions {
  int64_t part_bytes = int64_t{128} << 20;  ///< of a matrix, or of several experts, in f32; at least one row or expert
  std::function<void(int64_t layer)> progress = {};  ///< a layer's first matrix is read; may be empty
};

/// Computes in f32, and gives the bits of the same weights loaded as f32. Experts that no token has chosen are not
/// read. Use it on one thread at a time.
class StreamedModel {
 public:
  /// All arguments must outlive it. `device` has the host's memory. Norms, routers and biases are read here; `pool`
  /// reads the rest.
  StreamedModel(const WeightSource& source, Device& device, Backend& backend, ThreadPool& pool,
                StreamOptions options = {});
  ~StreamedModel();

  /// For forward passes alone. Its backend computes with this model only.
  ModelOnDevice runtime() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moe
