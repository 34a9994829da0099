#pragma once
/// Where a command computes: its options, and the one place of this program that picks a device and a backend.

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "tensor/dtype.h"

namespace moe {

struct DeviceOptions {
  std::string device = "cpu";
  int threads = 0;  ///< 0: one per processor
};

/// Everything that arithmetic needs. Neither copied nor moved: the backend holds on to the pool.
struct Compute {
  explicit Compute(int threads);

  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
};

/// Declares `--device` and `--threads`.
void add_device_options(CLI::App& command, DeviceOptions& options);

/// Errors name the device that this build does not have.
Compute make_compute(const DeviceOptions& options);

/// Declares `--dtype`, of the weights and activations.
void add_dtype_option(CLI::App& command, std::string& dtype);

/// f32 or bf16; anything else is a UsageError.
DType parse_dtype_option(const std::string& dtype);

}  // namespace moe
