#include "cli/device_option.h"

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"

namespace moe {

Compute::Compute(int threads) : pool(threads), device(make_cpu_device()), backend(make_cpu_backend(pool)) {}

void add_device_options(CLI::App& command, DeviceOptions& options) {
  command.add_option("--device", options.device, "where to compute: cpu")->capture_default_str();
  command.add_option("--threads", options.threads, "0: one per processor")->capture_default_str();
}

Compute make_compute(const DeviceOptions& options) {
  if (options.device == "cuda") fail("--device cuda: this program was built without CUDA; use --device cpu");
  if (options.device != "cpu") fail_usage("--device {}: there is no such device; use --device cpu", options.device);
  if (options.threads < 0) fail_usage("--threads {}: expected 0 (one per processor) or more", options.threads);
  return Compute(options.threads);
}

void add_dtype_option(CLI::App& command, std::string& dtype) {
  command.add_option("--dtype", dtype, "storage of weights and activations: f32, or bf16 (half the memory)")
      ->capture_default_str();
}

DType parse_dtype_option(const std::string& dtype) {
  if (dtype == "f32") return DType::f32;
  if (dtype == "bf16") return DType::bf16;
  fail_usage("--dtype {}: expected f32 or bf16", dtype);
}

}  // namespace moe
