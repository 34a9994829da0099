#pragma once
/// A communicator that passes everything on to another one. Tests change some of its calls.

#include "ops/communicator.h"

namespace moe::test {

class ForwardingCommunicator : public Communicator {
 public:
  /// `inner` must outlive it.
  explicit ForwardingCommunicator(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  using Communicator::all_reduce;
  using Communicator::broadcast;
  void all_reduce(const View& x, const RankGroup& group) override { inner_.all_reduce(x, group); }
  void reduce(const View& x, int root, const RankGroup& group) override { inner_.reduce(x, root, group); }
  void broadcast(const View& x, int root, const RankGroup& group) override { inner_.broadcast(x, root, group); }
  void all_gather(const View& x, const View& y, const RankGroup& group) override { inner_.all_gather(x, y, group); }
  void reduce_scatter(const View& x, const View& y, const RankGroup& group) override {
    inner_.reduce_scatter(x, y, group);
  }
  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override {
    inner_.exchange(sent, received);
  }
  void prepare(const std::vector<RankGroup>& groups) override { inner_.prepare(groups); }
  std::vector<std::string> gather(const std::string& bytes) override { return inner_.gather(bytes); }
  void abort(const std::string& why) noexcept override { inner_.abort(why); }

 protected:
  Communicator& inner_;
};

}  // namespace moe::test
