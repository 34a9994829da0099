#include "cli/memory_option.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "backend/cuda/cuda_backend.h"
#include "base/error.h"
#include "base/free_memory.h"
#include "base/utf8.h"

namespace moe {
namespace {

struct Unit {
  const char* name;
  double bytes;
};

constexpr Unit kUnits[] = {{"KB", 1e3},     {"MB", 1e6},        {"GB", 1e9},           {"TB", 1e12},
                           {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}};

int64_t bytes_of(const std::string& text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string unit(rest, end);
  const auto found =
      std::find_if(std::begin(kUnits), std::end(kUnits), [&](const Unit& one) { return unit == one.name; });
  const double bytes = found == std::end(kUnits) ? 0 : number * found->bytes;
  if (error != std::errc() || !(bytes >= 1 && bytes < 9e18)) {
    fail_usage("--memory-limit {}: expected a size such as 40GB or 24GiB", text.empty() ? "\"\"" : valid_utf8(text));
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace

void add_memory_option(CLI::App& command, int64_t& bytes) {
  const auto take = [&bytes](const std::string& text) { bytes = bytes_of(text); };
  command
      .add_option_function<std::string>("--memory-limit", take,
                                        "use no more of the device's memory, such as 40GB or 24GiB")
      ->type_name("SIZE");
}

DeviceInfo limited(DeviceInfo info, int64_t limit) {
  if (limit == 0) return info;
  const auto lower = [&](int64_t& bytes) { bytes = bytes > 0 ? std::min(bytes, limit) : limit; };
  lower(info.memory_bytes);
  lower(info.available_bytes);
  return info;
}

Place limited_place(const Device& device, int64_t limit) {
  Place place = place_of(device);
  place.device = limited(place.device, limit);
  return place;
}

Place gpu_place(int64_t bytes) {
  return {.device = {.name = "GPU",
                     .memory_bytes = bytes,
                     .available_bytes = bytes,
                     .scratch_bytes = cuda_workspace_bytes()},
          .process_bytes = resident_bytes()};
}

int64_t free_bytes(const Device& device, int64_t limit) {
  const DeviceInfo info = limited(device.info(), limit);
  if (info.available_bytes == 0) return -1;
  return std::max<int64_t>(0, info.available_bytes - info.scratch_bytes - device.allocated_bytes());
}

}  // namespace moe
