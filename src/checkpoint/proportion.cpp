#include "checkpoint/proportion.h"

#include "base/error.h"

namespace moe {

void require_in_proportion(const std::vector<Parameter>& table, const std::vector<fs::path>& files) {
  uint64_t bytes = 0;
  for (const fs::path& file : files) {
    std::error_code failed;
    const uintmax_t size = fs::file_size(file, failed);
    if (!failed) bytes += size;
  }
  // Of any type, a byte holds less than 4. Up to this limit it is more useful to name the first tensor that is missing.
  constexpr uint64_t kMostOfAByte = 4096;
  const auto parameters = static_cast<uint64_t>(count_elements(table));
  if (parameters / kMostOfAByte <= bytes) return;
  fail(
      "{}: the configuration asks for {} parameters, and the files have {} bytes; they are of another model or were "
      "cut "
      "short",
      files.front().string(), parameters, bytes);
}

}  // namespace moe
