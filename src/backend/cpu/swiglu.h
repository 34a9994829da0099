#pragma once
/// SwiGLU for some rows, for its own operations and for fusions that contain it.

#include "backend/cpu/context.h"
#include "ops/rows.h"

namespace moe::cpu {

/// The operation on rows [begin, end); row_count is ignored.
void swiglu_rows(const Context& context, const SwiGlu& op, int64_t begin, int64_t end);
void swiglu_rows(const Context& context, const SwiGluBackward& op, int64_t begin, int64_t end);

}  // namespace moe::cpu
