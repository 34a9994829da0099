#pragma once
/// The bytes that the collectives of sockets move, known before they run (comm/socket_communicator.h).

#include <cstdint>

#include "tensor/dtype.h"

namespace moe {

/// Of one rank. With the headers of messages; without the watch's signs of life.
struct Traffic {
  int64_t sent = 0, received = 0;

  Traffic& operator+=(const Traffic& more) {
    sent += more.sent;
    received += more.received;
    return *this;
  }
  bool operator==(const Traffic&) const = default;
};

/// A tensor of at most so many bytes goes to every rank whole when it is added up: one message instead of two.
constexpr int64_t kWholeBytes = int64_t{32} << 10;
/// Before each message.
constexpr int64_t kHeaderBytes = 16;

Traffic all_reduce_traffic(DType type, int64_t elements, int rank, int size);
Traffic reduce_traffic(DType type, int64_t elements, int root, int rank, int size);
Traffic broadcast_traffic(int64_t bytes, int root, int rank, int size);
/// An all-gather of `bytes` from each rank, or a reduce-scatter of `bytes` for each.
Traffic each_to_all_traffic(int64_t bytes, int size);
/// Of `bytes` from each rank; others may have another number.
Traffic gather_traffic(int64_t bytes, int size);

}  // namespace moe
