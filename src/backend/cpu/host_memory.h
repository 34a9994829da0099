#pragma once
/// Large host memory.

#include <cstddef>
#include <string>

namespace moe::cpu {

/// Uninitialised memory aligned to 64 bytes, large blocks in huge pages where the system gives them.
/// Throws Error naming `purpose` and the size when there is none.
void* allocate_host(size_t bytes, const std::string& purpose);
/// Gives back what allocate_host(bytes) returned.
void release_host(void* data, size_t bytes);

}  // namespace moe::cpu
