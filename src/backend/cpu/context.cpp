#include "backend/cpu/context.h"

#include <atomic>

#include "backend/cpu/host_memory.h"

namespace moe::cpu {

namespace baseline {
Kernels kernels();
}
namespace avx2 {
Kernels kernels();
}
namespace avx512 {
Kernels kernels();
}
namespace avx512_vnni {
Kernels kernels();
}
namespace avx512_bf16 {
Kernels kernels();
}

// Code of its own instruction set creates each table, so it runs only on request.
const Kernels& kernels_for(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16: {
      static const Kernels table = avx512_bf16::kernels();
      return table;
    }
    case Isa::avx512_vnni: {
      static const Kernels table = avx512_vnni::kernels();
      return table;
    }
    case Isa::avx512: {
      static const Kernels table = avx512::kernels();
      return table;
    }
    case Isa::avx2: {
      static const Kernels table = avx2::kernels();
      return table;
    }
    default: {
      static const Kernels table = baseline::kernels();
      return table;
    }
  }
}

namespace {
std::atomic<int64_t> scratch_held{0};
}

int64_t scratch_bytes() { return scratch_held; }

Scratch::Scratch(int workers) {
  for (int worker = 0; worker < workers; ++worker) {
    blocks_.push_back(allocate_host(kBlock, "the scratch of a CPU thread"));
    scratch_held += static_cast<int64_t>(kBlock);
  }
}

Scratch::~Scratch() {
  for (void* block : blocks_) {
    release_host(block, kBlock);
    scratch_held -= static_cast<int64_t>(kBlock);
  }
}

}  // namespace moe::cpu
