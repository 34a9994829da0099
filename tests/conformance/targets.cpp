#include "tests/conformance/targets.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "backend/cuda/cuda_backend.h"
#include "tests/conformance/placed.h"
#include "tests/oracle/oracle.h"

namespace moe::conformance {
namespace {

Target oracle_target() {
  Target target{.name = "oracle", .device = make_host_device(), .variants = {}};
  target.variants.push_back({.name = "oracle", .pool = nullptr, .backend = make_oracle()});
  return target;
}

/// A backend whose products and attention are made to take one of several paths; Hopper's with few processors, so that
/// the blocks of these small cases take tile after tile.
class OnePath final : public EachOp<OnePath> {
 public:
  OnePath(std::unique_ptr<Backend> inner, CudaPath path) : inner_(std::move(inner)), path_(path) {}
  const AcceptedTypes* accepts() const override { return inner_->accepts(); }
  template <class Op>
  void on(const Op& op) {
    const Forced forced(path_);
    inner_->execute(op);
  }

 private:
  struct Forced {
    explicit Forced(CudaPath path) {
      force_cuda_path(path);
      force_cuda_processors(path == CudaPath::hopper ? 3 : 0);
    }
    ~Forced() {
      force_cuda_path(CudaPath::automatic);
      force_cuda_processors(0);
    }
  };

  std::unique_ptr<Backend> inner_;
  CudaPath path_;
};

Target cuda_target(CudaPath path) {
  Target target{.name = std::string("cuda ") + name(path),
                .device = make_cuda_device(),
                .variants = {},
                .arithmetic = path == CudaPath::simt ? Arithmetic::plain : Arithmetic::tensor,
                .batch_invariant = false};
  auto backend = std::make_unique<OnePath>(make_cuda_backend(*target.device), path);
  target.variants.push_back({.name = target.name, .pool = nullptr, .backend = std::move(backend)});
  return target;
}

/// Whether the kernels for it multiply pairs of bf16: the instruction set's own, or (test_pairs) made to.
bool multiplies_pairs(Isa isa) { return cpu::kernels_for(isa).matrix.multiply_add(1, true) > 0; }

Target cpu_target(Isa isa) {
  Target target{.name = std::string("cpu ") + name(isa),
                .device = make_cpu_device(),
                .variants = {},
                .arithmetic = multiplies_pairs(isa) ? Arithmetic::pairs : Arithmetic::bytes};
  for (const int threads : {1, 2}) {
    auto pool = std::make_unique<ThreadPool>(threads);
    auto backend = make_cpu_backend(*pool, isa);
    target.variants.push_back({.name = fmt::format("{} with {} threads", target.name, threads),
                               .pool = std::move(pool),
                               .backend = std::move(backend)});
  }
  return target;
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> all = [] {
    std::vector<Target> result;
    result.push_back(oracle_target());
    for (const Isa isa : kAllIsas) {
      if (supports(isa)) result.push_back(cpu_target(isa));
    }
    if (why_no_cuda().empty()) {
      for (const CudaPath path :
           {CudaPath::automatic, CudaPath::simt, CudaPath::tensor, CudaPath::hopper, CudaPath::invariant}) {
        result.push_back(cuda_target(path));
      }
    }
    return result;
  }();
  return all;
}

}  // namespace moe::conformance
