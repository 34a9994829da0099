#pragma once
/// The memory of a pass. Its size comes from a first run over a null device.

#include <memory>

#include "comm/planned_ranks.h"
#include "model/model.h"
#include "ops/count.h"
#include "ops/device.h"

namespace moe {

/// Peaks of the three arenas of an inference pass.
struct PassSizes {
  size_t inputs = size_t{1} << 52;  // a null device's memory does not end
  size_t saved = size_t{1} << 52;
  size_t scratch = size_t{1} << 52;

  int64_t total() const { return static_cast<int64_t>(inputs + saved + scratch); }
};

/// The arenas, each one allocation.
struct PassArenas {
  Arena inputs;
  Arena saved;
  Arena scratch;

  PassSizes peaks() const { return {inputs.peak_bytes(), saved.peak_bytes(), scratch.peak_bytes()}; }

  Pass pass(Backend& backend, DType dtype) {
    return {.backend = backend, .saved = saved, .scratch = scratch, .dtype = dtype};
  }
};

/// The owner of memory on a device: allocations that end with the object. Use it on one thread at a time.
class DeviceMemory {
 public:
  explicit DeviceMemory(Device& device) : device_(device) {}
  ~DeviceMemory() {
    for (void* data : allocations_) device_.release(data);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  Arena arena(const std::string& name, size_t bytes) {
    allocations_.push_back(device_.allocate(bytes, name));
    return Arena(name, allocations_.back(), bytes);
  }
  PassArenas pass_arenas(const PassSizes& sizes) {
    return {arena("inputs", sizes.inputs), arena("activations", sizes.saved), arena("scratch", sizes.scratch)};
  }

 private:
  Device& device_;
  std::vector<void*> allocations_;
};

/// Pushes the views of a model's parameters on `arena`, in the order of the table.
inline std::vector<View> push_parameters(Arena& arena, const std::vector<Parameter>& table, DType dtype) {
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    views.push_back(arena.push(parameter.name, parameter.storage(dtype), parameter.shape));
  }
  return views;
}

/// Runs `body(model, device, backend, arenas)` without memory or arithmetic, and returns the peaks. With `traffic`, it
/// gets what the rank would move.
template <class Body>
PassSizes measure_pass(const HeldModel& held, DType dtype, Body body, CollectiveTraffic* traffic = nullptr) {
  const auto device = make_null_device();
  CountingBackend counter;
  DeviceMemory memory(*device);
  Arena weights = memory.arena("weights", PassSizes{}.saved);
  std::vector<Parameter> table = parameter_table(held.config);
  held.keep(table);
  PlannedRanks ranks(static_cast<int>(held.rank), static_cast<int>(held.layout.ranks()));
  const ModelPart part = part_of(held, ranks);
  const Model model(held.config, {}, bind_weights(held.config, push_parameters(weights, table, dtype), held.layers()),
                    part.experts, part.stage);
  PassArenas arenas = memory.pass_arenas({});
  body(model, *device, static_cast<Backend&>(counter), arenas);
  if (traffic != nullptr) *traffic = ranks.take_moved();
  return arenas.peaks();
}

}  // namespace moe
