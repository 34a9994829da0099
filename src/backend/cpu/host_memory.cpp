#include "backend/cpu/host_memory.h"

#include <cstdlib>
#include <sys/mman.h>

#include "base/error.h"

namespace moe::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kAlignment = 64;

bool is_large(size_t bytes) { return bytes >= kHugePage; }
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Pages that begin at the boundary of a huge page, or null.
void* map_pages(size_t bytes) {
  const size_t size = round_up(bytes, kHugePage);
  if (size < bytes || size + kHugePage < size) return nullptr;
  void* const mapped = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<size_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + size, kHugePage - before);
  madvise(begin + before, size, MADV_HUGEPAGE);  // only a hint: without it the pages are small
  return begin + before;
}

}  // namespace

void* allocate_host(size_t bytes, const std::string& purpose) {
  const size_t small = round_up(bytes > 0 ? bytes : 1, kAlignment);
  void* const data = is_large(bytes) ? map_pages(bytes) : std::aligned_alloc(kAlignment, small);
  if (data == nullptr) {
    fail("cannot allocate {:.3f} GiB of memory for {}: the system refuses; use a smaller configuration or free memory",
         static_cast<double>(bytes) / (1 << 30), purpose);
  }
  return data;
}

void release_host(void* data, size_t bytes) {
  if (is_large(bytes)) {
    munmap(data, round_up(bytes, kHugePage));
  } else {
    std::free(data);
  }
}

}  // namespace moe::cpu
