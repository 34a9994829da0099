#include "backend/cuda/slow_path.h"

#include <mutex>
#include <set>

#include "base/log.h"

namespace moe::cuda {
namespace {

std::mutex mutex;
std::set<std::string> noted;

}  // namespace

void note_slow_path(const char* operation, const char* reason) {
  const std::string note = fmt::format("{}: {}", operation, reason);
  const std::lock_guard lock(mutex);
  if (noted.insert(note).second) log_warning("{}", note);
}

std::vector<std::string> slow_paths() {
  const std::lock_guard lock(mutex);
  return {noted.begin(), noted.end()};
}

}  // namespace moe::cuda
