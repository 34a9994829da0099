#pragma once
/// The types in which a model's weights are stored on a device.

#include <string>
#include <vector>

#include "checkpoint/weight_source.h"

namespace moe {

/// What is asked for. Several threads may read it.
struct WeightTypes {
  /// Every weight becomes `all`, one of weight_types() (ops/type_set.h).
  WeightTypes(DType all) : type(all) {}  // NOLINT(google-explicit-constructor): a type alone says it all
  WeightTypes(DType others, bool keep) : type(others), keep_blocks(keep) {}

  DType type;
  /// Weights that a file stores in blocks keep its type; `type` is for the others.
  bool keep_blocks = false;
};

/// The type of each parameter of the source's table. A matrix whose parts (as q, k and v) have different block types in
/// the file becomes q8_0, which holds each of them nearly exactly; one of which a part has no blocks gets types.type.
std::vector<DType> stored_types(const WeightSource& source, const WeightTypes& types);

/// "8.31 GiB of q4_0, 0.01 GiB of f32": what views of weights hold, largest first.
std::string weights_text(const std::vector<View>& views);

}  // namespace moe
