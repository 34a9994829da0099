#pragma once
/// Inner loops. The same sources are compiled once per instruction set, and one version is chosen at run time. A kernel
/// is a plain function of pointers and sizes, without Views, threads, allocation or library templates.

#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/rows.h"
#include "base/platform.h"

namespace moe::cpu {

struct Kernels {
  MatrixKernels matrix;
  RowKernels rows;
};

/// The kernels of one instruction set. The caller has checked that the processor supports it.
const Kernels& kernels_for(Isa isa);

}  // namespace moe::cpu
