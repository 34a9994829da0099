#pragma once
/// Signs that this process works, so that another of its threads can tell slow work from work that stands still. Any
/// thread may call all of this.

#include <atomic>
#include <cstdint>

namespace moe {

namespace detail {
inline std::atomic<uint64_t> progress{0};
inline std::atomic<int> system_waits{0};
}  // namespace detail

/// Something was done that takes seconds at most: an operation, a part of a file, bytes of another rank.
inline void note_progress() { detail::progress.fetch_add(1, std::memory_order_relaxed); }
/// How often.
inline uint64_t progress_count() { return detail::progress.load(std::memory_order_relaxed); }

/// While one exists, the process waits for a disk or a terminal, which may need any time.
class SystemWait {
 public:
  SystemWait() { ++detail::system_waits; }
  ~SystemWait() { --detail::system_waits; }
  SystemWait(const SystemWait&) = delete;
  SystemWait& operator=(const SystemWait&) = delete;

  static bool any() { return detail::system_waits > 0; }
};

}  // namespace moe
