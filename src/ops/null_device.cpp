#include <map>
#include <vector>

#include "base/error.h"
#include "ops/device.h"

namespace moe {
namespace {

/// For devices whose operations cost nothing to queue.
class Repeated final : public Recording {
 public:
  explicit Repeated(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

class CopiedNow final : public LateCopy {
 public:
  CopiedNow(Device& device, size_t bytes) : device_(device), bytes_(bytes) {}
  void start(const void* device) override { device_.download(bytes_.data(), device, bytes_.size()); }
  const void* wait() override { return bytes_.data(); }

 private:
  Device& device_;
  std::vector<std::byte> bytes_;
};

class NullDevice final : public Device {
 public:
  void* allocate(size_t bytes, const std::string& purpose) override {
    (void)purpose;
    void* address = reinterpret_cast<void*>(next_);  // NOLINT: never dereferenced
    next_ += (bytes + 127) / 64 * 64;
    sizes_[address] = bytes;
    count_allocation(bytes);
    return address;
  }
  void release(void* data) override {
    const auto found = sizes_.find(data);
    MOE_CHECK(found != sizes_.end());
    count_release(found->second);
    sizes_.erase(found);
  }
  void upload(void*, const void*, size_t) override {}
  void download(void*, const void*, size_t) override { MOE_CHECK(!"a null device holds no values"); }
  void synchronize() override {}
  DeviceInfo info() const override { return {.name = "null"}; }

 private:
  uintptr_t next_ = uintptr_t{1} << 44;
  std::map<void*, size_t> sizes_;
};

}  // namespace

std::unique_ptr<Recording> Device::record(const std::function<void()>& work) {
  return std::make_unique<Repeated>(work);
}

std::unique_ptr<LateCopy> Device::late_copy(size_t bytes) { return std::make_unique<CopiedNow>(*this, bytes); }

std::unique_ptr<Device> make_null_device() { return std::make_unique<NullDevice>(); }

}  // namespace moe
