#pragma once

#include <cstddef>

namespace moe::cuda {

/// Memory on the GPU that an operation may use while it runs; holds nothing between operations.
struct Workspace {
  char* data;
  size_t bytes;
};

constexpr size_t kWorkspaceBytes = size_t{96} << 20;

}  // namespace moe::cuda
