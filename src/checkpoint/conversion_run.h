#pragma once
/// How many elements of a parameter are converted to a storage type at a time.

#include "model/parameters.h"

namespace moe {

/// Elements from `begin` (of all the parameter's) that are converted to `type` in one call, `left` at most. For a type
/// whose scales depend on a whole matrix (StorageType::by_matrix) they are the matrix that begins there: that of an
/// expert, or a slice (q, k or v; gate or up).
int64_t conversion_run(const Parameter& parameter, DType type, int64_t begin, int64_t left);

/// The most that conversion_run() returns for other types.
constexpr int64_t kConvertedAtOnce = int64_t{1} << 18;

}  // namespace moe
