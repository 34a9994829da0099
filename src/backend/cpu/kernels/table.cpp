#include "backend/cpu/kernels/kernels.h"

namespace moe::cpu::MOE_ISA {

void product(const Product& product, float* scratch);
void block_product(const BlockProduct& product, float* scratch);
void attention(const AttentionTask& task, float* scratch);
void attention_backward(const AttentionBackwardTask& task, float* scratch);
int64_t multiply_add(int64_t steps, bool pairs);
RowKernels row_kernels();

Kernels kernels() {
  return {.matrix = {.product = product,
                     .block_product = block_product,
                     .attention = attention,
                     .attention_backward = attention_backward,
                     .multiply_add = multiply_add},
          .rows = row_kernels()};
}

}  // namespace moe::cpu::MOE_ISA
