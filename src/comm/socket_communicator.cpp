#include "comm/socket_communicator.h"

#include "comm/ordered_sum.h"

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
          *this, std::move(meeting.control), meeting.hosts, [this] { mesh_.shut(); }, std::move(options)) {}

void SocketCommunicator::exchange(const std::vector<Mesh::Part>& sent, const std::vector<Mesh::Part>& received) {
  try {
    mesh_.exchange(sent, received);
  } catch (const LostPeer& peer) {
    if (const auto lost = watch_.lost_within(kCauseSeconds)) throw *lost;
    throw RankLost(peer.rank, hosts_[static_cast<size_t>(peer.rank)], step(), "the connection to it broke");
  }
}

void SocketCommunicator::all_reduce(const View& x) {
  check_summable(x.dtype);
  MOE_CHECK(x.contiguous());
  if (size_ == 1) return;
  const bool whole = static_cast<int64_t>(x.bytes()) <= kWholeBytes;
  whole ? reduce_small(x) : reduce_large(x);
}

void SocketCommunicator::reduce_small(const View& x) {
  const size_t bytes = x.bytes();
  std::vector<char> parts(bytes * static_cast<size_t>(size_));
  std::vector<Mesh::Part> sent, received;
  std::vector<const void*> addends;
  for (int rank = 0; rank < size_; ++rank) {
    char* const part = parts.data() + bytes * static_cast<size_t>(rank);
    addends.push_back(rank == rank_ ? x.data : part);
    if (rank == rank_) continue;
    sent.push_back({rank, static_cast<char*>(x.data), bytes});
    received.push_back({rank, part, bytes});
  }
  exchange(sent, received);
  ordered_sum(x.dtype, x.data, addends, x.elements());
}

// Each rank adds up one part of the tensor, then sends it to all: twice the tensor's bytes for any number of ranks.
void SocketCommunicator::reduce_large(const View& x) {
  const Slice own = slice_of(x.elements(), rank_, size_);
  const size_t own_bytes = bytes_of(x, own);
  std::vector<char> parts(own_bytes * static_cast<size_t>(size_));
  std::vector<Mesh::Part> sent, received;
  std::vector<const void*> addends;
  for (int rank = 0; rank < size_; ++rank) {
    char* const part = parts.data() + own_bytes * static_cast<size_t>(rank);
    addends.push_back(rank == rank_ ? at(x, own) : part);
    if (rank == rank_) continue;
    const Slice theirs = slice_of(x.elements(), rank, size_);
    sent.push_back({rank, at(x, theirs), bytes_of(x, theirs)});
    received.push_back({rank, part, own_bytes});
  }
  exchange(sent, received);
  ordered_sum(x.dtype, at(x, own), addends, own.count);
  sent.clear();
  received.clear();
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const Slice theirs = slice_of(x.elements(), rank, size_);
    sent.push_back({rank, at(x, own), own_bytes});
    received.push_back({rank, at(x, theirs), bytes_of(x, theirs)});
  }
  exchange(sent, received);
}

void SocketCommunicator::broadcast(const View& x, int root) {
  MOE_CHECK(x.contiguous());
  const Mesh::Part part{root, static_cast<char*>(x.data), x.bytes()};
  if (rank_ != root) return exchange({}, {part});
  std::vector<Mesh::Part> sent;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank != root) sent.push_back({rank, part.data, part.bytes});
  }
  exchange(sent, {});
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
  exchange(sent, received);
  for (Mesh::Part& part : sent) part = {part.rank, own.data(), own.size()};
  for (Mesh::Part& part : received) {
    std::string& text = all[static_cast<size_t>(part.rank)];
    text.resize(sizes[static_cast<size_t>(part.rank)]);
    part = {part.rank, text.data(), text.size()};
  }
  exchange(sent, received);
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
