#include "comm/thread_communicator.h"

#include <cstring>

#include "comm/ordered_sum.h"

namespace moe {

class ThreadRanks::One final : public Communicator {
 public:
  One(ThreadRanks& ranks, int rank) : ranks_(ranks), rank_(rank) {}

  using Communicator::all_reduce;
  using Communicator::broadcast;

  int rank() const override { return rank_; }
  int size() const override { return ranks_.size_; }

  // Each rank adds up one part of its group's tensors, and writes the sum to all of them.
  void all_reduce(const View& x, const RankGroup& group) override {
    check_summable(x.dtype);
    bring(x, group);
    const Slice slice = slice_of(x.elements(), group.member(rank_), group.count);
    if (slice.count > 0) {
      void* const own = at(x, slice);
      ordered_sum(x.dtype, own, parts_of(group, slice), slice.count);
      for (int member = 0; member < group.count; ++member) {
        void* const other = at(view_of(group.rank(member)), slice);
        if (other != own) std::memcpy(other, own, bytes_of(slice.count, x));
      }
    }
    ranks_.meet(group);
  }

  // Each rank adds up one part, as above, into the root's tensor.
  void reduce(const View& x, int root, const RankGroup& group) override {
    check_summable(x.dtype);
    MOE_CHECK(group.has(root));
    bring(x, group);
    const Slice slice = slice_of(x.elements(), group.member(rank_), group.count);
    ordered_sum(x.dtype, at(view_of(root), slice), parts_of(group, slice), slice.count);
    ranks_.meet(group);
  }

  void broadcast(const View& x, int root, const RankGroup& group) override {
    MOE_CHECK(group.has(root));
    bring(x, group);
    if (rank_ != root) std::memcpy(x.data, view_of(root).data, x.bytes());
    ranks_.meet(group);
  }

  void all_gather(const View& x, const View& y, const RankGroup& group) override {
    MOE_CHECK(y.contiguous() && y.bytes() == x.bytes() * static_cast<size_t>(group.count));
    bring(x, group);
    for (int member = 0; member < group.count; ++member) {
      std::memcpy(static_cast<char*>(y.data) + x.bytes() * static_cast<size_t>(member),
                  view_of(group.rank(member)).data, x.bytes());
    }
    ranks_.meet(group);
  }

  void reduce_scatter(const View& x, const View& y, const RankGroup& group) override {
    check_summable(x.dtype);
    MOE_CHECK(y.contiguous() && x.elements() == y.elements() * group.count);
    bring(x, group);
    const Slice own{y.elements() * group.member(rank_), y.elements()};
    ordered_sum(x.dtype, y.data, parts_of(group, own), own.count);
    ranks_.meet(group);
  }

  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override {
    for (const Parcel& parcel : sent) ranks_.send(rank_, parcel);
    for (const Parcel& parcel : received) ranks_.receive(parcel, rank_);
  }

  std::vector<std::string> gather(const std::string& bytes) override {
    ranks_.bytes_[static_cast<size_t>(rank_)] = bytes;
    ranks_.meet(everyone());
    std::vector<std::string> all = ranks_.bytes_;
    ranks_.meet(everyone());
    return all;
  }

  void abort(const std::string& why) noexcept override { ranks_.lose(rank_, step(), why); }

 private:
  static size_t bytes_of(int64_t elements, const View& view) {
    return static_cast<size_t>(elements) * size_of(view.dtype);
  }
  static void* at(const View& view, const Slice& slice) {
    return static_cast<char*>(view.data) + bytes_of(slice.begin, view);
  }

  const View& view_of(int rank) const { return ranks_.views_[static_cast<size_t>(rank)]; }
  std::vector<const void*> parts_of(const RankGroup& group, const Slice& slice) const {
    std::vector<const void*> parts;
    for (int member = 0; member < group.count; ++member) parts.push_back(at(view_of(group.rank(member)), slice));
    return parts;
  }

  void bring(const View& x, const RankGroup& group) {
    MOE_CHECK(x.contiguous());
    ranks_.views_[static_cast<size_t>(rank_)] = x;
    ranks_.meet(group);
    for (int member = 0; member < group.count; ++member) {
      const View& view = view_of(group.rank(member));
      MOE_CHECK(view.dtype == x.dtype && view.elements() == x.elements());
    }
  }

  ThreadRanks& ranks_;
  const int rank_;
};

ThreadRanks::ThreadRanks(int size) : size_(size), views_(static_cast<size_t>(size)), bytes_(static_cast<size_t>(size)) {
  for (int rank = 0; rank < size; ++rank) communicators_.push_back(std::make_unique<One>(*this, rank));
}

ThreadRanks::~ThreadRanks() = default;

void ThreadRanks::meet(const RankGroup& group) {
  std::unique_lock lock(mutex_);
  if (lost_) throw *lost_;
  Meeting& meeting = meetings_[{group.first, group.count, group.step}];
  const uint64_t number = meeting.number;
  if (++meeting.waiting == group.count) {
    meeting.waiting = 0;
    ++meeting.number;
    changed_.notify_all();
    return;
  }
  changed_.wait(lock, [&] { return meeting.number != number || lost_.has_value(); });
  if (meeting.number == number) throw *lost_;
}

void ThreadRanks::send(int from, const Parcel& parcel) {
  MOE_CHECK(parcel.x.contiguous());
  const std::lock_guard lock(mutex_);
  const auto* const bytes = static_cast<const char*>(parcel.x.data);
  on_the_way_[{from, parcel.peer}].emplace_back(bytes, bytes + parcel.x.bytes());
  changed_.notify_all();
}

void ThreadRanks::receive(const Parcel& parcel, int to) {
  MOE_CHECK(parcel.x.contiguous());
  std::unique_lock lock(mutex_);
  std::deque<std::vector<char>>& from_peer = on_the_way_[{parcel.peer, to}];
  changed_.wait(lock, [&] { return !from_peer.empty() || lost_.has_value(); });
  if (from_peer.empty()) throw *lost_;
  MOE_CHECK(from_peer.front().size() == parcel.x.bytes());
  std::memcpy(parcel.x.data, from_peer.front().data(), parcel.x.bytes());
  from_peer.pop_front();
}

void ThreadRanks::lose(int rank, int64_t step, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!lost_) lost_.emplace(rank, "", step, why);
  changed_.notify_all();
}

}  // namespace moe
