#pragma once
/// What the ranks of one run say to each other. A rank is one of several equal workers, with a device of its own.

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/view.h"

namespace moe {

/// Another rank has ended, or does not answer, so the work that all share cannot go on.
struct RankLost : Error {
  /// `host` is where the rank ran, "" if all share a process; `step` is the one that was computed, 0 before the first;
  /// `why` is a sentence of that rank, or what was seen of it.
  RankLost(int rank, const std::string& host, int64_t step, const std::string& why);
  /// The same, with more in its sentence.
  RankLost(const RankLost& lost, const std::string& more) : Error(lost.what() + more), rank(lost.rank) {}
  int rank;
};

/// Some of the ranks: `count` of them from `first` on, each `step` after the one before.
struct RankGroup {
  int first = 0, count = 1, step = 1;

  int rank(int member) const { return first + member * step; }
  /// The place of one of its ranks, from 0.
  int member(int rank) const { return (rank - first) / step; }
  bool has(int rank) const { return rank >= first && (rank - first) % step == 0 && member(rank) < count; }
};

/// A tensor that the ranks of a group have, and the one of them that gets a sum or gives its values.
struct Rooted {
  View x;
  int root;
  RankGroup group;
};

/// A tensor that one rank sends to another one, its peer, or receives from it.
struct Parcel {
  View x;
  int peer;
};

/// Collectives: every rank calls the same ones in the same order, with views of equal shape and type. Each call returns
/// when this rank's part is done, and throws RankLost if another rank has ended before that. Views are contiguous and
/// on the rank's own device. Use it on one thread at a time.
///
/// A collective of a group is called by all ranks too, each with the group that it belongs to. The groups divide the
/// ranks, and have as many members each. After prepare() the members of a group may call one alone.
class Communicator {
 public:
  virtual ~Communicator() = default;

  /// From 0 to size() - 1.
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Every x becomes the sum of all of them, added in the order of the ranks: every rank has the same bits, every time.
  /// f32, f64, i32, or bf16, which is added in f32 and rounded once.
  virtual void all_reduce(const View& x, const RankGroup& group) = 0;
  void all_reduce(const View& x) { all_reduce(x, everyone()); }
  /// The x of the rank `root`, which is in the group, becomes the same sum. That of another rank becomes anything.
  virtual void reduce(const View& x, int root, const RankGroup& group) = 0;
  /// Every x becomes that of the rank `root`, which is in the group. Any type.
  virtual void broadcast(const View& x, int root, const RankGroup& group) = 0;
  void broadcast(const View& x, int root) { broadcast(x, root, everyone()); }
  /// y becomes the x of all members, one behind the other in their order. Any type.
  virtual void all_gather(const View& x, const View& y, const RankGroup& group) = 0;
  /// x is one part for each member; y becomes the sum of what all have as this member's part. Sums as all_reduce().
  virtual void reduce_scatter(const View& x, const View& y, const RankGroup& group) = 0;

  /// Sends and receives at the same time: at most one tensor to each peer and one from each. The peer of each gives or
  /// takes a tensor of equal size, in the same order of calls between the two. Other ranks do not take part.
  virtual void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) = 0;
  /// All ranks call it together, each with as many of its groups, in the same order. From then on the members of such a
  /// group may call its collectives without the other ranks.
  virtual void prepare(const std::vector<RankGroup>& /*groups*/) {}

  /// Tells where this rank has the tensors of later calls aside, so that other ranks may read them there. All ranks
  /// show as many, in the same order, each of the same shape on all. They stay in their memory as long as this is used
  /// or others are shown. Nobody must call it.
  virtual void show(const std::vector<View>& /*tensors*/) {}
  /// The same of several tensors, beside the work that is queued behind it, on devices that can: before await() nothing
  /// may read or write them.
  virtual void reduce_aside(const std::vector<Rooted>& tensors) {
    for (const Rooted& one : tensors) reduce(one.x, one.root, one.group);
  }
  virtual void broadcast_aside(const std::vector<Rooted>& tensors) {
    for (const Rooted& one : tensors) broadcast(one.x, one.root, one.group);
  }
  /// Work that is queued behind this begins when what was begun aside is done.
  virtual void await() {}
  /// The same for what was begun before a mark alone. Marks are valid until the next await() without one.
  virtual int64_t mark_aside() { return 0; }
  virtual void await(int64_t /*mark*/) {}
  /// Seconds since the last call in which this rank's device did nothing but exchange with others or wait for them. Ask
  /// when the device has done what is queued. 0 where it is not measured.
  virtual double take_exposed_seconds() { return 0; }

  /// The bytes of every rank, in the order of the ranks. For small things of the host; they may differ in length.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
  /// Says that this rank ends before its work is done, and why. The others then throw RankLost. After it nothing else
  /// may be called.
  virtual void abort(const std::string& why) noexcept = 0;

  RankGroup everyone() const { return {.first = 0, .count = size(), .step = 1}; }

  /// The sums of numbers of the host, added in the order of the ranks.
  std::vector<double> sums(const std::vector<double>& values);

  /// The step that is computed, for messages. Any thread may ask.
  virtual void set_step(int64_t step) { step_ = step; }
  int64_t step() const { return step_; }

 private:
  std::atomic<int64_t> step_{0};
};

}  // namespace moe
