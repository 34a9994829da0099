#pragma once
/// The communicator of a run that has one rank: nothing is sent.

#include "ops/communicator.h"

namespace moe {

/// Any thread may use it.
class OneRank final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(const View&) override {}
  void broadcast(const View&, int) override {}
  std::vector<std::string> gather(const std::string& bytes) override { return {bytes}; }
  void abort(const std::string&) noexcept override {}
};

/// It has no state, so all may share it.
inline Communicator& one_rank() {
  static OneRank communicator;
  return communicator;
}

}  // namespace moe
