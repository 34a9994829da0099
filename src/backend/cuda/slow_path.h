#pragma once
/// Reports operations that could not use the kernels meant for them, each once. Otherwise a slow step would look like a
/// slow GPU.

#include <cstdint>
#include <string>
#include <vector>

namespace moe::cuda {

/// Operations of fewer multiplications and additions cost nobody time, whichever kernel takes them.
constexpr int64_t kWorthAWarning = 1'000'000'000;

/// Warns that `operation` runs on slower kernels because of `reason`, the first time in this process, and remembers it
/// for slow_paths(). Both texts are literals.
void note_slow_path(const char* operation, const char* reason);

/// What was noted since the program started: "gemm: ...", each once.
std::vector<std::string> slow_paths();

}  // namespace moe::cuda
