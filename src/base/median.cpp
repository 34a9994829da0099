#include "base/median.h"

#include <algorithm>

#include "base/error.h"

namespace moe {

double median(std::vector<double> values) {
  MOE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace moe
