#include <cstring>
#include <fstream>
#include <map>

#include <unistd.h>

#include "backend/cpu/context.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/host_memory.h"
#include "base/error.h"
#include "base/free_memory.h"

namespace moe {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

class CpuDevice final : public Device {
 public:
  CpuDevice() = default;
  CpuDevice(const CpuDevice&) = delete;
  CpuDevice& operator=(const CpuDevice&) = delete;
  ~CpuDevice() override {
    for (const auto& [data, bytes] : sizes_) cpu::release_host(data, bytes);
  }

  void* allocate(size_t bytes, const std::string& purpose) override {
    void* const data = cpu::allocate_host(bytes, purpose);
    sizes_.emplace(data, bytes);
    count_allocation(bytes);
    return data;
  }

  void release(void* data) override {
    if (data == nullptr) return;
    const auto found = sizes_.find(data);
    MOE_CHECK(found != sizes_.end());
    cpu::release_host(data, found->second);
    count_release(found->second);
    sizes_.erase(found);
  }

  void upload(void* device, const void* host, size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void synchronize() override {}

  DeviceInfo info() const override {
    return {.name = processor_name(),
            .memory_bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE),
            .available_bytes = usable_host_memory(),
            .scratch_bytes = cpu::scratch_bytes(),
            .is_host = true};
  }

 private:
  std::map<void*, size_t> sizes_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() { return std::make_unique<CpuDevice>(); }

}  // namespace moe
