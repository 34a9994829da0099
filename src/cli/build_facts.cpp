#include "cli/build_facts.h"

#include <fmt/format.h>

namespace moe {

std::string version_text() {
  return fmt::format("moe {} (commit {})\nbuilt with {}", kBuildFacts.version, kBuildFacts.commit,
                     kBuildFacts.built_with);
}

}  // namespace moe
