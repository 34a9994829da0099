#pragma once
/// Operations that could not take the kernels meant for them say so, once each: a slow step would otherwise look like a
/// slow GPU.

namespace moe::cuda {

/// Warns that `operation` runs on slower kernels because of `reason`, the first time in this process, and remembers it
/// for cuda_slow_paths(). Both texts are literals.
void note_slow_path(const char* operation, const char* reason);

}  // namespace moe::cuda
