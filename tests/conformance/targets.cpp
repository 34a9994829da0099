#include "tests/conformance/targets.h"

#include "backend/cpu/cpu_backend.h"
#include "tests/conformance/placed.h"
#include "tests/oracle/oracle.h"

namespace moe::conformance {
namespace {

Target oracle_target() {
  Target target{.name = "oracle", .device = make_host_device(), .variants = {}};
  target.variants.push_back({.name = "oracle", .pool = nullptr, .backend = make_oracle()});
  return target;
}

Target cpu_target(Isa isa) {
  Target target{.name = std::string("cpu ") + name(isa), .device = make_cpu_device(), .variants = {}};
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
    for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
      if (isa <= detect_isa()) result.push_back(cpu_target(isa));
    }
    return result;
  }();
  return all;
}

}  // namespace moe::conformance
