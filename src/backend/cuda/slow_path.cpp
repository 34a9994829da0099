#include "backend/cuda/slow_path.h"

#include <mutex>
#include <set>

#include "backend/cuda/cuda_backend.h"
#include "base/log.h"

namespace moe {
namespace {

std::mutex mutex;
std::set<std::string> noted;

}  // namespace

namespace cuda {

void note_slow_path(const char* operation, const char* reason) {
  const std::string note = fmt::format("{}: {}", operation, reason);
  const std::lock_guard lock(mutex);
  if (noted.insert(note).second) log_warning("{}", note);
}

}  // namespace cuda

std::vector<std::string> cuda_slow_paths() {
  const std::lock_guard lock(mutex);
  return {noted.begin(), noted.end()};
}

}  // namespace moe
