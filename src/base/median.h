#pragma once

#include <vector>

namespace moe {

/// The middle value, or the mean of the two middle values. Needs at least one value.
double median(std::vector<double> values);

}  // namespace moe
