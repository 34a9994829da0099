#include "comm/traffic.h"

#include "comm/ordered_sum.h"

namespace moe {

Traffic all_reduce_traffic(DType type, int64_t elements, int rank, int size) {
  if (size == 1) return {};
  const int64_t others = size - 1, all = bytes_of(type, elements);
  int64_t bytes = 0;
  if (all <= kWholeBytes) {
    bytes = others * (all + kHeaderBytes);
  } else {  // the others' parts go out and come back added up; of the own part, the reverse
    const int64_t own = bytes_of(type, slice_of(elements, rank, size).count);
    bytes = (all - own) + others * own + 2 * others * kHeaderBytes;
  }
  return {bytes, bytes};
}

Traffic reduce_traffic(DType type, int64_t elements, int root, int rank, int size) {
  if (size == 1) return {};
  const int64_t others = size - 1, headers = others * kHeaderBytes, all = bytes_of(type, elements);
  const bool gets = rank == root;
  if (all <= kWholeBytes) return {.sent = headers + (gets ? 0 : all), .received = headers + (gets ? others * all : 0)};
  const int64_t own = bytes_of(type, slice_of(elements, rank, size).count);
  Traffic traffic{.sent = headers + all - own, .received = headers + others * own};  // parts that are added up
  return traffic += gets ? Traffic{.received = headers + all - own} : Traffic{.sent = kHeaderBytes + own};
}

Traffic broadcast_traffic(int64_t bytes, int root, int rank, int size) {
  if (size == 1) return {};
  const int64_t message = bytes + kHeaderBytes;
  return rank == root ? Traffic{.sent = (size - 1) * message} : Traffic{.received = message};
}

Traffic each_to_all_traffic(int64_t bytes, int size) {
  const int64_t moved = (size - 1) * (bytes + kHeaderBytes);
  return {moved, moved};
}

Traffic gather_traffic(int64_t bytes, int size) {
  const auto length = static_cast<int64_t>(sizeof(uint64_t));
  const int64_t moved = (size - 1) * (length + bytes + 2 * kHeaderBytes);
  return {moved, moved};
}

}  // namespace moe
