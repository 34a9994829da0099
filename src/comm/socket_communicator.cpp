#include "comm/socket_communicator.h"

#include <cstring>

namespace moe {
namespace {

/// For the watch to find out why a connection broke.
constexpr double kCauseSeconds = 4;

char* at(const View& view, const Slice& slice) {
  return static_cast<char*>(view.data) + static_cast<size_t>(slice.begin) * size_of(view.dtype);
}

size_t bytes_of(const View& view, const Slice& slice) { return static_cast<size_t>(slice.count) * size_of(view.dtype); }

}  // namespace

SocketCommunicator::SocketCommunicator(const RankPlace& place, const Listener* listener, Watch::Options options)
    : SocketCommunicator(place, meet(place, listener), std::move(options)) {}

SocketCommunicator::SocketCommunicator(const RankPlace& place, Meeting meeting, Watch::Options options)
    : rank_(place.rank),
      size_(place.size),
      hosts_(meeting.hosts),
      mesh_(std::move(meeting.data)),
      watch_(
          *this, std::move(meeting.control), meeting.hosts, [this] { return mesh_.waits_for(); },
          [this] { mesh_.shut(); }, std::move(options)) {}

void SocketCommunicator::move(const std::vector<Mesh::Part>& sent, const std::vector<Mesh::Part>& received) {
  try {
    mesh_.exchange(sent, received);
  } catch (const LostPeer& peer) {
    if (const auto lost = watch_.lost_within(kCauseSeconds)) throw *lost;
    throw RankLost(peer.rank, hosts_[static_cast<size_t>(peer.rank)], step(), "the connection to it broke");
  }
}

void SocketCommunicator::all_reduce(const View& x, const RankGroup& group) { reduce_to(x, std::nullopt, group); }

void SocketCommunicator::reduce(const View& x, int root, const RankGroup& group) {
  MOE_CHECK(group.has(root));
  reduce_to(x, root, group);
}

/// Without a root the sum goes to all. A small tensor goes to the ranks that get the sum. Of a large one each member
/// adds up one part and sends it on: at most twice the tensor's bytes for any number of members.
void SocketCommunicator::reduce_to(const View& x, std::optional<int> root, const RankGroup& group) {
  check_summable(x.dtype);
  MOE_CHECK(x.contiguous());
  if (group.count == 1) return;
  const auto gets = [&](int rank) { return !root || *root == rank; };
  const bool whole = static_cast<int64_t>(x.bytes()) <= kWholeBytes;
  std::vector<Slice> slices;
  for (int member = 0; member < group.count; ++member) {
    const Slice all{0, gets(group.rank(member)) ? x.elements() : 0};
    slices.push_back(whole ? all : slice_of(x.elements(), member, group.count));
  }
  const Slice own = slices[static_cast<size_t>(group.member(rank_))];
  sum_parts(x, slices, at(x, own), group);
  if (whole) return;
  std::vector<Mesh::Part> sent, received;
  for (int member = 0; member < group.count; ++member) {
    const int rank = group.rank(member);
    if (rank == rank_) continue;
    const Slice& theirs = slices[static_cast<size_t>(member)];
    if (gets(rank)) sent.push_back({rank, at(x, own), bytes_of(x, own)});
    if (gets(rank_)) received.push_back({rank, at(x, theirs), bytes_of(x, theirs)});
  }
  move(sent, received);
}

/// Sends each member its slice of x, and adds up what all have as this rank's slice. `sum` may be that slice of x.
void SocketCommunicator::sum_parts(const View& x, const std::vector<Slice>& slices, char* sum, const RankGroup& group) {
  const Slice own = slices[static_cast<size_t>(group.member(rank_))];
  const size_t own_bytes = bytes_of(x, own);
  std::vector<char> parts(own_bytes * static_cast<size_t>(group.count));
  std::vector<Mesh::Part> sent, received;
  std::vector<const void*> addends;
  for (int member = 0; member < group.count; ++member) {
    const int rank = group.rank(member);
    char* const part = parts.data() + own_bytes * static_cast<size_t>(member);
    addends.push_back(rank == rank_ ? at(x, own) : part);
    if (rank == rank_) continue;
    const Slice& theirs = slices[static_cast<size_t>(member)];
    sent.push_back({rank, at(x, theirs), bytes_of(x, theirs)});
    received.push_back({rank, part, own_bytes});
  }
  move(sent, received);
  ordered_sum(x.dtype, sum, addends, own.count);
}

void SocketCommunicator::broadcast(const View& x, int root, const RankGroup& group) {
  MOE_CHECK(x.contiguous() && group.has(root));
  if (group.count == 1) return;
  const Mesh::Part part{root, static_cast<char*>(x.data), x.bytes()};
  if (rank_ != root) return move({}, {part});
  std::vector<Mesh::Part> sent;
  for (int member = 0; member < group.count; ++member) {
    if (group.rank(member) != root) sent.push_back({group.rank(member), part.data, part.bytes});
  }
  move(sent, {});
}

void SocketCommunicator::all_gather(const View& x, const View& y, const RankGroup& group) {
  const size_t bytes = x.bytes();
  MOE_CHECK(x.contiguous() && y.contiguous() && y.bytes() == bytes * static_cast<size_t>(group.count));
  const auto place = [&](int member) { return static_cast<char*>(y.data) + bytes * static_cast<size_t>(member); };
  std::vector<Mesh::Part> sent, received;
  for (int member = 0; member < group.count; ++member) {
    const int rank = group.rank(member);
    if (rank == rank_) {
      std::memcpy(place(member), x.data, bytes);
      continue;
    }
    sent.push_back({rank, static_cast<char*>(x.data), bytes});
    received.push_back({rank, place(member), bytes});
  }
  if (group.count > 1) move(sent, received);
}

void SocketCommunicator::reduce_scatter(const View& x, const View& y, const RankGroup& group) {
  check_summable(x.dtype);
  MOE_CHECK(x.contiguous() && y.contiguous() && x.elements() == y.elements() * group.count);
  std::vector<Slice> slices;
  for (int member = 0; member < group.count; ++member) slices.push_back({member * y.elements(), y.elements()});
  sum_parts(x, slices, static_cast<char*>(y.data), group);
}

void SocketCommunicator::exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) {
  const auto parts = [](const std::vector<Parcel>& parcels) {
    std::vector<Mesh::Part> all;
    for (const Parcel& parcel : parcels) {
      MOE_CHECK(parcel.x.contiguous());
      all.push_back({parcel.peer, static_cast<char*>(parcel.x.data), parcel.x.bytes()});
    }
    return all;
  };
  move(parts(sent), parts(received));
}

std::vector<std::string> SocketCommunicator::gather(const std::string& bytes) {
  std::vector<std::string> all(static_cast<size_t>(size_));
  std::vector<uint64_t> sizes(static_cast<size_t>(size_));
  uint64_t own_size = bytes.size();
  std::string own = bytes;
  std::vector<Mesh::Part> sent, received;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    sent.push_back({rank, reinterpret_cast<char*>(&own_size), sizeof own_size});
    received.push_back({rank, reinterpret_cast<char*>(&sizes[static_cast<size_t>(rank)]), sizeof own_size});
  }
  move(sent, received);
  for (Mesh::Part& part : sent) part = {part.rank, own.data(), own.size()};
  for (Mesh::Part& part : received) {
    std::string& text = all[static_cast<size_t>(part.rank)];
    text.resize(sizes[static_cast<size_t>(part.rank)]);
    part = {part.rank, text.data(), text.size()};
  }
  move(sent, received);
  all[static_cast<size_t>(rank_)] = bytes;
  return all;
}

void SocketCommunicator::abort(const std::string& why) noexcept {
  try {
    watch_.say_failed(why);
  } catch (const std::exception&) {  // no memory for the message: the others see the connection end
  }
  mesh_.shut();
}

}  // namespace moe
