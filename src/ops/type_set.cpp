#include "ops/type_set.h"

#include <fmt/ranges.h>

namespace moe {

std::vector<std::string> TypeSet::names() const {
  std::vector<std::string> names;
  for (const StorageType& type : kStorageTypes) {
    if (has(type.dtype)) names.emplace_back(type.name);
  }
  return names;
}

std::string TypeSet::text() const { return fmt::format("{}", fmt::join(names(), ", ")); }

}  // namespace moe
