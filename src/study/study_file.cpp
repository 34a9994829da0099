#include "study/study_file.h"

namespace moe {

const char* name(Budget budget) {
  switch (budget) {
    case Budget::tokens:
      return "tokens";
    case Budget::flops:
      return "flops";
    case Budget::seconds:
      return "seconds";
  }
  return "?";
}

bool Study::lacks_rate(const std::string& system) const {
  return budget == Budget::seconds && (seconds_per_step.count(system) == 0 || seconds_per_step.count(reference) == 0);
}

}  // namespace moe
