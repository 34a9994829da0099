#include "cli/device_option.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"
#include "base/units.h"
#include "base/words.h"
#include "cli/number_option.h"
#include "nn/head.h"

namespace moe {
namespace {

constexpr TypeSet kDTypes{DType::f32, DType::bf16};

/// The types of weights that activations do not have: those with blocks, or those without.
std::string other_weights(bool blocks) {
  TypeSet types{};
  for (const StorageType& type : kStorageTypes) {
    const bool other = named_weight_types().has(type.dtype) && !kDTypes.has(type.dtype);
    if (other && is_plain(type.dtype) != blocks) types.add(type.dtype);
  }
  return types.text();
}

}  // namespace

DType parse_type(const std::string& dtype, const TypeSet& accepted) {
  for (const StorageType& type : kStorageTypes) {
    if (accepted.has(type.dtype) && dtype == type.name) return type.dtype;
  }
  fail_usage("--dtype {}: expected {}", dtype, alternatives(accepted.names()));
}

DeviceKind device_kind(const DeviceOptions& options) {
  if (options.device == "cpu") return DeviceKind::cpu;
  if (options.device == "cuda") return DeviceKind::cuda;
  if (options.device == "auto") return why_no_cuda().empty() ? DeviceKind::cuda : DeviceKind::cpu;
  fail_usage("--device {}: there is no such device; use cuda, cpu, or auto (cuda if there is a GPU)", options.device);
}

int64_t logits_per_chunk(DeviceKind kind, int64_t vocabulary) {
  return kind == DeviceKind::cuda ? gpu_logits_per_chunk(vocabulary) : Pass::kLogitsPerChunk;
}

Compute::Compute(DeviceKind wanted, int threads, int gpu)
    : kind(wanted),
      pool(threads),
      device(wanted == DeviceKind::cuda ? make_cuda_device(gpu) : make_cpu_device()),
      backend(wanted == DeviceKind::cuda ? make_cuda_backend(*device) : make_cpu_backend(pool)) {}

HostCompute make_host_compute(Compute& compute) { return {make_cpu_device(), make_cpu_backend(compute.pool)}; }

std::string device_name(const Compute& compute) {
  const std::string name = compute.device->info().name;
  if (compute.kind == DeviceKind::cuda) return name;
  return fmt::format("{}, {}", name, counted(compute.pool.size(), "thread"));
}

void add_device_options(CLI::App& command, DeviceOptions& options) {
  command.add_option("--device", options.device, "where to compute: cuda, cpu, or auto (cuda if there is a GPU)")
      ->capture_default_str();
  add_threads_option(command, options.threads, "CPU threads; 0: one per processor");
}

void add_threads_option(CLI::App& command, int& threads, const std::string& help) {
  constexpr int kMostThreads = 1024;
  add_number(command, "--threads", threads, {0, kMostThreads}, help);
}

void check_device(const DeviceOptions& options) {
  if (options.device != "cuda") return;
  if (const std::string why = why_no_cuda(); !why.empty()) fail("--device cuda: {}; or use --device cpu", why);
}

Compute make_compute(const DeviceOptions& options) {
  const DeviceKind kind = device_kind(options);
  check_device(options);
  return Compute(kind, options.threads, options.gpu);
}

void add_dtype_option(CLI::App& command, std::string& dtype) {
  command.add_option("--dtype", dtype, "storage of weights and activations: f32, or bf16 (half the memory)")
      ->capture_default_str();
}

DType parse_dtype_option(const std::string& dtype) { return parse_type(dtype, kDTypes); }

void add_weights_option(CLI::App& command, std::string& dtype) {
  command
      .add_option(
          "--dtype", dtype,
          fmt::format("storage of weights and activations: f32, or bf16 (half the memory); or of weights alone: {}, or "
                      "blocks of a few bits: {}",
                      other_weights(false), other_weights(true)))
      ->capture_default_str();
}

DType parse_weights_option(const std::string& dtype) { return parse_type(dtype, named_weight_types()); }

}  // namespace moe
