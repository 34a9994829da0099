#include "cli/batch_invariant_option.h"

#include "backend/cuda/path.h"

namespace moe {

void add_batch_invariant_option(CLI::App& command, bool& given) {
  command.add_flag_callback(
      "--batch-invariant",
      [&given] {
        given = true;
        force_cuda_path(CudaPath::invariant);
      },
      "on a GPU: a text has the same bits alone and among others (slower; on a CPU it always has)");
}

}  // namespace moe
