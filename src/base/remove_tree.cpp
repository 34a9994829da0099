#include "base/remove_tree.h"

#include <atomic>

#include "base/progress_count.h"

namespace moe {
namespace {

std::atomic<bool> removals_fail{false};

}  // namespace

std::error_code remove_tree(const fs::path& path) {
  if (removals_fail) return std::make_error_code(std::errc::permission_denied);
  const SystemWait wait;
  std::error_code error;
  fs::remove_all(path, error);
  return error;
}

void fail_removals(bool on) { removals_fail = on; }

}  // namespace moe
