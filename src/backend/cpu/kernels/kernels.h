#pragma once
/// Inner loops, compiled once per instruction set from the same sources and chosen at run time.
/// A kernel is a plain function of pointers and sizes: no Views, threads, allocation or library templates.

#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/rows.h"
#include "base/platform.h"

namespace moe::cpu {

struct Kernels {
  MatrixKernels matrix;
  RowKernels rows;
};

/// The kernels of one instruction set; the caller has checked that the processor has it.
const Kernels& kernels_for(Isa isa);

}  // namespace moe::cpu
