#pragma once
/// Large host memory.

#include <cstddef>
#include <string>

namespace moe::cpu {

/// Uninitialised memory, aligned to 64 bytes; large blocks are in huge pages if the system gives them. If there is no
/// memory, throws an Error that names `purpose` and the size.
void* allocate_host(size_t bytes, const std::string& purpose);
/// Releases what allocate_host(bytes) returned.
void release_host(void* data, size_t bytes);

}  // namespace moe::cpu
