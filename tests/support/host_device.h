#pragma once
/// A device over plain host memory that only counts its totals, for running blocks on the oracle.

#include <cstdlib>
#include <cstring>
#include <map>

#include "base/error.h"
#include "ops/device.h"

namespace moe {

class HostDevice : public Device {
 public:
  ~HostDevice() override {
    for (const auto& [data, bytes] : sizes_) std::free(data);
  }
  void* allocate(size_t bytes, const std::string&) override {
    void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    std::memset(data, 0xff, bytes);  // NaN in every float type
    sizes_[data] = bytes;
    count_allocation(bytes);
    return data;
  }
  void release(void* data) override {
    const auto found = sizes_.find(data);
    MOE_CHECK(found != sizes_.end());
    count_release(found->second);
    std::free(data);
    sizes_.erase(found);
  }
  void upload(void* device, const void* host, size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void synchronize() override {}
  DeviceInfo info() const override { return {.name = "host"}; }

 private:
  std::map<void*, size_t> sizes_;
};

}  // namespace moe
