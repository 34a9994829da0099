#include "tests/conformance/placed.h"

#include <cstdlib>
#include <cstring>

#include "tests/oracle/array.h"
#include "tests/oracle/store.h"

namespace moe::conformance {
namespace {

constexpr size_t kGuardBytes = 128;

class HostDevice final : public Device {
 public:
  void* allocate(size_t bytes, const std::string&) override {
    count_allocation(bytes);
    return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  }
  void release(void* data) override { std::free(data); }
  void upload(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void synchronize() override {}
  DeviceInfo info() const override { return {.name = "host"}; }
};

std::vector<uint8_t> pattern(size_t bytes, uint16_t word) {
  std::vector<uint8_t> result(bytes);
  for (size_t i = 0; i < bytes; ++i) result[i] = static_cast<uint8_t>(i % 2 == 0 ? word & 0xff : word >> 8);
  return result;
}

/// Copies the bits of each element between views of one shape and type.
void copy_elements(const View& from, const View& to) {
  if (from.elements() == 0) return;
  if (from.rank() > 1) {
    for (int64_t i = 0; i < from.size(0); ++i) copy_elements(from.at(i), to.at(i));
    return;
  }
  std::memcpy(to.data, from.data, from.bytes());
}

/// Elements from the first to one past the last.
int64_t extent(const View& view) {
  if (view.elements() == 0) return 0;
  int64_t result = 1;
  for (int axis = 0; axis < view.rank(); ++axis) {
    result += (view.shape[axis] - 1) * view.stride[static_cast<size_t>(axis)];
  }
  return result;
}

bool same_place(const View& a, const View& b) {
  return a.data == b.data && a.dtype == b.dtype && a.shape == b.shape && a.stride == b.stride;
}

}  // namespace

std::unique_ptr<Device> make_host_device() { return std::make_unique<HostDevice>(); }

Buffers::Buffers(Device& device, Precision precision, int misalign)
    : device_(device), precision_(precision), misalign_(misalign) {}

Buffers::~Buffers() {
  for (const auto& buffer : buffers_) device_.release(buffer->memory);
}

void Buffers::add(const char* name, const View& source, Role role) {
  for (const auto& buffer : buffers_) {
    if (!same_place(buffer->source, source)) continue;
    buffer->names += std::string(" = ") + name;
    buffer->written = buffer->written || role != Role::in;
    by_name_.emplace_back(name, buffer.get());
    return;
  }
  auto buffer = std::make_unique<Buffer>();
  buffer->names = name;
  buffer->source = source;
  buffer->view = source;
  buffer->written = role != Role::in;
  if (precision_ == Precision::twice && is_float(source.dtype)) buffer->view.dtype = DType::f64;
  const DType type = buffer->view.dtype;
  buffer->offset = kGuardBytes + static_cast<size_t>(misalign_) * static_cast<size_t>(storage(type).bytes);
  buffer->before = pattern(buffer->offset + static_cast<size_t>(bytes_of(type, extent(source))) + kGuardBytes, kGuard);
  buffer->memory = device_.allocate(buffer->before.size(), name);
  buffer->view.data = static_cast<char*>(buffer->memory) + buffer->offset;

  const View elements = on(*buffer, buffer->before);
  if (role == Role::out) {
    std::vector<uint8_t> poison = pattern(buffer->before.size(), oracle::kPoison);
    copy_elements(on(*buffer, poison), elements);
  } else if (elements.dtype == source.dtype) {
    copy_elements(source, elements);
  } else {
    oracle::write(elements, oracle::read(source));
  }
  by_name_.emplace_back(name, buffer.get());
  buffers_.push_back(std::move(buffer));
}

void Buffers::upload() {
  for (const auto& buffer : buffers_) device_.upload(buffer->memory, buffer->before.data(), buffer->before.size());
}

void Buffers::download() {
  device_.synchronize();
  for (const auto& buffer : buffers_) {
    buffer->after.resize(buffer->before.size());
    device_.download(buffer->after.data(), buffer->memory, buffer->after.size());
  }
}

const Buffers::Buffer& Buffers::find(const char* name) const {
  for (const auto& [known, buffer] : by_name_) {
    if (known == name) return *buffer;
  }
  MOE_CHECK(!"the operation has a view of this name");
  return *buffers_[0];
}

View Buffers::on(const Buffer& buffer, const std::vector<uint8_t>& bytes) {
  View result = buffer.view;
  result.data = const_cast<uint8_t*>(bytes.data()) + buffer.offset;
  return result;
}

View Buffers::device_view(const char* name) const { return find(name).view; }
View Buffers::before(const char* name) const { return on(find(name), find(name).before); }
View Buffers::after(const char* name) const { return on(find(name), find(name).after); }

std::vector<std::string> Buffers::damage() const {
  std::vector<std::string> result;
  for (const auto& buffer : buffers_) {
    if (!buffer->written) {
      if (buffer->after != buffer->before) result.push_back(buffer->names + " is an input and changed");
      continue;
    }
    std::vector<uint8_t> outside = buffer->after;
    copy_elements(on(*buffer, buffer->before), on(*buffer, outside));
    if (outside != buffer->before) {
      size_t i = 0;
      while (outside[i] == buffer->before[i]) ++i;
      result.push_back(fmt::format("{} was written outside its elements, at byte {} from its first", buffer->names,
                                   static_cast<int64_t>(i) - static_cast<int64_t>(buffer->offset)));
    }
  }
  return result;
}

std::vector<uint8_t> Buffers::image() const {
  std::vector<uint8_t> result;
  for (const auto& buffer : buffers_) result.insert(result.end(), buffer->after.begin(), buffer->after.end());
  return result;
}

}  // namespace moe::conformance
