#pragma once
/// How tensors are divided among files.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// For tensors of these sizes in bytes, in their order: the index of each file's first tensor, then the number of
/// tensors. A file holds at most `most_bytes`, or one larger tensor.
inline std::vector<size_t> file_begins(std::span<const int64_t> sizes, int64_t most_bytes) {
  std::vector<size_t> begins{0};
  int64_t bytes = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (bytes > 0 && bytes + sizes[i] > most_bytes) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += sizes[i];
  }
  begins.push_back(sizes.size());
  return begins;
}

}  // namespace moe
