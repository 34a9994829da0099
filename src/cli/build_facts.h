#pragma once
/// The version and build of this program, for `moe --version`. cmake/build_facts.cmake writes the values at every
/// build.

#include <string>

namespace moe {

struct BuildFacts {
  const char* version;     ///< "0.1.0"
  const char* commit;      ///< nine digits, with "+changes" if files differ from it; "unknown" without git
  const char* built_with;  ///< compiler, kind of build and GPUs: "GNU 12.2.0, Release, CUDA 13.0 for 90a"
};
extern const BuildFacts kBuildFacts;

/// Two lines: version and commit; what the program was built with.
std::string version_text();

}  // namespace moe
