#include "train/amounts.h"

#include <utility>

#include <fmt/format.h>

namespace moe {

std::string gib_text(int64_t bytes) { return fmt::format("{:.2f} GiB", gib(bytes)); }

std::string mib_text(int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 1048576.0); }

std::string bytes_text(int64_t bytes) {
  if (bytes >= int64_t{1} << 30) return gib_text(bytes);
  if (bytes >= int64_t{1} << 20) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 1048576.0);
  return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024.0);
}

std::string count_text(int64_t count) {
  if (count < 1000) return fmt::format("{}", count);
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000) return fmt::format("{:.2f}B", value * 1e-9);
  if (count >= 1'000'000) return fmt::format("{:.2f}M", value * 1e-6);
  return fmt::format("{:.2f}K", value * 1e-3);
}

std::string flops_text(double flops) {
  for (const auto& [unit, name] : {std::pair{1e21, "ZFLOP"}, {1e18, "EFLOP"}, {1e15, "PFLOP"}, {1e12, "TFLOP"}}) {
    if (flops >= unit) return fmt::format("{:.2f} {}", flops / unit, name);
  }
  return fmt::format("{:.2f} GFLOP", flops * 1e-9);
}

}  // namespace moe
