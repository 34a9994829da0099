#include "base/stack.h"

#include <cstddef>

namespace moe {

void reserve_stack() {
  constexpr size_t kBytes = size_t{512} << 10, kPage = 4096;
  volatile char stack[kBytes];
  stack[0] = 0;
  for (size_t at = 0; at < kBytes; at += kPage) stack[at] = stack[0];
}

}  // namespace moe
