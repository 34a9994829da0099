#include "ops/type_set.h"

namespace moe {

std::string TypeSet::text() const {
  std::string result;
  for (const StorageType& type : kStorageTypes) {
    if (has(type.dtype)) result += (result.empty() ? "" : ", ") + std::string(type.name);
  }
  return result;
}

}  // namespace moe
