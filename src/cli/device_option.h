#pragma once
/// Where a command computes: its options. Only this file picks a device and a backend.

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "base/thread_pool.h"
#include "nn/pass.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "ops/type_set.h"

namespace moe {

struct DeviceOptions {
  std::string device = "auto";
  int threads = 0;  ///< 0: one per processor
  int gpu = 0;      ///< which of the visible ones
};

enum class DeviceKind { cpu, cuda };

/// "cpu" or "cuda" as given; for "auto", cuda if a GPU can be used. Only "auto" looks for a GPU.
DeviceKind device_kind(const DeviceOptions& options);

/// An Error says why the GPU that was asked for cannot be used.
void check_device(const DeviceOptions& options);

/// How many logits the head of a training step computes at once, with a vocabulary of this size.
int64_t logits_per_chunk(DeviceKind kind, int64_t vocabulary);

/// Everything that arithmetic needs. It cannot be copied or moved, because the backend refers to the other members.
struct Compute {
  Compute(DeviceKind wanted, int threads, int gpu = 0);

  const DeviceKind kind;
  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
};

/// The CPU beside a device.
struct HostCompute {
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
};

/// With the threads of `compute`, which must outlive it.
HostCompute make_host_compute(Compute& compute);

/// "AMD EPYC 9B14, 2 threads" or the GPU's name.
std::string device_name(const Compute& compute);

/// Declares `--threads`, from 0 (one per processor) to 1024.
void add_threads_option(CLI::App& command, int& threads, const std::string& help = "0: one per processor");

/// Declares `--device` and `--threads`.
void add_device_options(CLI::App& command, DeviceOptions& options);

/// Errors say why the device cannot be used.
Compute make_compute(const DeviceOptions& options);

/// Declares `--dtype`, the type of weights and activations.
void add_dtype_option(CLI::App& command, std::string& dtype);

/// The type with the name `dtype`. If it is not one of `accepted`, a UsageError of --dtype lists them.
DType parse_type(const std::string& dtype, const TypeSet& accepted);

/// f32 or bf16; anything else is a UsageError.
DType parse_dtype_option(const std::string& dtype);

/// The same for a model that is read, whose weights may be stored in more types than activations are.
void add_weights_option(CLI::App& command, std::string& dtype);
DType parse_weights_option(const std::string& dtype);

}  // namespace moe
