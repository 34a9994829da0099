#pragma once
/// What an operation needs to execute on a GPU.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "backend/cuda/cublas_products.h"
#include "backend/cuda/path.h"
#include "backend/cuda/workspace.h"
#include "base/error.h"
#include "ops/fields.h"

namespace moe::cuda {

/// If `status` is a failure, throws an Error with the attempted action and CUDA's message.
void check(cudaError_t status, const char* attempted);

/// What the operations of a step that is being recorded have written so far.
struct Written {
  std::vector<View> views;
  int handovers = 0;  ///< that they took
  /// An operation that has not been queued yet, because the next one may be queued with it; null: none. Whatever else
  /// is queued next comes behind it.
  std::function<void()> postponed = {};

  void queue_postponed() {
    if (const auto work = std::exchange(postponed, nullptr)) work();
  }
};

/// How kernels of a recorded step wait for one earlier kernel instead of all (early.cuh): for the one that makes
/// logits, and the one that routes with them. Each pair of flags serves one layer; both are 0 when the step begins.
struct Handover {
  int* arrived;      ///< blocks of the first kernel that have ended
  int* ready;        ///< 1 when the routing is done
  int arrivals = 0;  ///< how many blocks will arrive; 0: the first kernel counts none
  enum class For { nothing, logits, tokens, rows } product = For::nothing;  ///< what the next product reads
};

/// Tiles of a layer's experts (TileProblem::tiles), listed once for both products.
struct TileLists {
  int4* tiles;                   ///< room for kListedTiles
  const int* listed = nullptr;   ///< the offsets whose tiles are listed
  int pair = 0;                  ///< neighbouring tiles that are taken together
  bool may_start_early = false;  ///< the product that is queued next, in a recording
};

struct Context {
  cudaStream_t stream;
  int multiprocessors;
  int compute_capability;  ///< 90 for 9.0
  Workspace workspace;
  CublasProducts products;
  /// kCounters zeros in the GPU's memory. An operation that counts in them sets them to 0 again.
  int* counters = nullptr;
  const Written* recording = nullptr;  ///< null: operations run when they are queued
  Handover* handover = nullptr;        ///< of the layer whose products are queued; mostly null
  TileLists* tile_lists = nullptr;     ///< of the layer whose products are queued; mostly null

  /// True if no operation that may still run writes `view`: none of the recorded ones did, and a replay begins when all
  /// earlier work has ended.
  bool rests(const View& view) const {
    if (recording == nullptr) return false;
    return std::none_of(recording->views.begin(), recording->views.end(),
                        [&](const View& written) { return overlap(written, view); });
  }
};

constexpr int64_t kCounters = 4096;
constexpr int64_t kFlags = 1024;        ///< of handovers, behind the counters
constexpr int64_t kListedTiles = 1024;  ///< of TileLists, behind the flags

/// The multiprocessors that a kernel whose blocks take part after part is started for: the GPU's, or what
/// force_cuda_processors asked for.
inline int processors(const Context& context) {
  return forced_processors() > 0 ? forced_processors() : context.multiprocessors;
}

/// Gives parts of the workspace to one operation, each aligned to 256 bytes. For one thread at a time.
class Carver {
 public:
  Carver(const Context& context, const char* operation) : rest_(context.workspace), operation_(operation) {}

  template <class T>
  T* take(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    if (bytes > rest_.bytes) {
      fail("{}: needs {} more bytes of workspace on the GPU than the {} that it has; use smaller microbatches",
           operation_, bytes - rest_.bytes, kWorkspaceBytes);
    }
    T* const result = reinterpret_cast<T*>(rest_.data);
    rest_.data += bytes;
    rest_.bytes -= bytes;
    return result;
  }
  /// All that is left.
  Workspace rest() const { return rest_; }

 private:
  Workspace rest_;
  const char* operation_;
};

/// Specialised for every operation of OpList, in the file of its family. If one is missing, the program does not link.
template <class Op>
void execute(Context& context, const Op& op);

}  // namespace moe::cuda
