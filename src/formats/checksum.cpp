#include "formats/checksum.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <zlib.h>

#include "base/thread_start.h"

namespace moe {
namespace {

constexpr size_t kMostParts = 8;  // more threads wait for memory

}  // namespace

void Crc32::add(const void* data, size_t bytes) {
  value_ = static_cast<uint32_t>(crc32_z(value_, static_cast<const Bytef*>(data), bytes));
}

uint32_t crc32_of(std::span<const std::byte> bytes, size_t least_part) {
  const size_t processors = std::max<size_t>(1, std::thread::hardware_concurrency());
  const size_t count = std::clamp<size_t>(bytes.size() / least_part, 1, std::min(processors, kMostParts));
  const size_t size = (bytes.size() + count - 1) / count;
  std::vector<std::span<const std::byte>> parts;
  for (size_t begin = 0; begin < bytes.size(); begin += size) {
    parts.push_back(bytes.subspan(begin, std::min(size, bytes.size() - begin)));
  }
  std::vector<Crc32> sums(parts.size());
  std::vector<std::future<void>> others;
  const auto sum = [&](size_t i) { sums[i].add(parts[i].data(), parts[i].size()); };
  for (size_t i = 1; i < parts.size(); ++i) others.push_back(run_beside([&, i] { sum(i); }));
  if (!parts.empty()) sum(0);
  for (std::future<void>& other : others) other.get();
  uLong all = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    all = crc32_combine(all, sums[i].value(), static_cast<z_off_t>(parts[i].size()));
  }
  return static_cast<uint32_t>(all);
}

}  // namespace moe
