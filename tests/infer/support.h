#pragma once
/// Models in memory, token ids and a backend that fails, for tests of inference.

#include <functional>
#include <memory>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "base/random.h"
#include "infer/model_on_device.h"
#include "model/pass_memory.h"
#include "ops/backend.h"

namespace moe::test {

/// The CPU with a number of threads.
struct Cpu {
  explicit Cpu(int threads = 2) : pool(threads) {}

  ThreadPool pool;
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Backend> backend = make_cpu_backend(pool);
};

/// A model whose weights `values(parameter, floats)` fills, parameter by parameter.
class MemoryModel {
 public:
  using Values = std::function<void(const Parameter&, std::vector<float>&)>;

  MemoryModel(const ModelConfig& config, DType dtype, Device& device, const Values& values)
      : memory_(device), dtype_(dtype), table_(parameter_table(config)) {
    Arena arena =
        memory_.arena("weights", static_cast<size_t>(count_elements(table_)) * 4 + Arena::kAlignment * table_.size());
    const std::vector<View> views = push_parameters(arena, table_, dtype);
    for (size_t i = 0; i < table_.size(); ++i) {
      std::vector<float> floats(static_cast<size_t>(table_[i].shape.elements()));
      values(table_[i], floats);
      std::vector<char> stored(views[i].bytes());
      storage(views[i].dtype).from_floats(floats.data(), stored.data(), table_[i].shape.elements());
      device.upload(views[i].data, stored.data(), stored.size());
    }
    model_ = std::make_unique<Model>(config, BalanceConfig{}, bind_weights(config, views));
  }

  ModelOnDevice runtime(Cpu& cpu) const { return {*model_, dtype_, *cpu.device, *cpu.backend}; }

 private:
  DeviceMemory memory_;
  DType dtype_;
  std::vector<Parameter> table_;
  std::unique_ptr<Model> model_;
};

/// Random weights with a large deviation, so that routes and attention differ from token to token.
inline MemoryModel random_model(const ModelConfig& config, DType dtype, Device& device, uint64_t seed = 1) {
  return MemoryModel(config, dtype, device, [seed](const Parameter& parameter, std::vector<float>& values) {
    initial_values(parameter, seed, 0.3, 0, static_cast<int64_t>(values.size()), values.data());
  });
}

/// Fails at one operation, as a GPU does whose memory ran out.
class FailingBackend final : public EachOp<FailingBackend> {
 public:
  explicit FailingBackend(Backend& inner) : inner_(inner) {}
  /// At the `count`-th operation from now on; 0: at none.
  void fail_at(int64_t count) { left_ = count; }

  template <class Op>
  void on(const Op& op) {
    if (left_ > 0 && --left_ == 0) fail("{} failed", Op::name);
    inner_.execute(op);
  }

 private:
  Backend& inner_;
  int64_t left_ = 0;
};

inline std::vector<int32_t> random_ids(int64_t count, int64_t below, uint64_t seed) {
  const Random random(seed, hash_name("ids"));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(below))));
  }
  return ids;
}

}  // namespace moe::test
