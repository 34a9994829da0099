#include "backend/cuda/nccl_communicator.h"

#include <cstring>
#include <exception>

#include "base/error.h"

namespace moe::cuda {
namespace {

NcclType sum_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return NcclType::f32;
    case DType::f64:
      return NcclType::f64;
    case DType::i32:
      return NcclType::i32;
    default:
      fail("{} cannot be added over ranks: f32, f64 or i32 is expected", name(dtype));
  }
}

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& hosts, CudaDevice& device)
    : hosts_(hosts), device_(device), errors_before_(std::uncaught_exceptions()) {
  NcclId id{};
  std::string own;
  if (rank() == 0) {
    check(nccl().GetUniqueId(&id), "beginning a group of GPUs");
    own.assign(id.bytes, sizeof(id.bytes));
  } else {
    nccl();  // an error of loading comes before the others wait
  }
  const std::string first = hosts_.gather(own)[0];
  MOE_CHECK(first.size() == sizeof(id.bytes));
  std::memcpy(id.bytes, first.data(), sizeof(id.bytes));
  check(nccl().CommInitRank(&group_, size(), id, rank()), "joining the group of GPUs");
}

NcclCommunicator::~NcclCommunicator() {
  if (group_ == nullptr) return;
  // After an error the others may never come to what is queued.
  const bool failed = std::uncaught_exceptions() > errors_before_;
  failed ? nccl().CommAbort(group_) : nccl().CommDestroy(group_);
}

void NcclCommunicator::check(NcclStatus status, const char* attempted) const {
  if (status == 0) return;
  const char* const more = nccl().GetLastError(group_);
  fail("{} failed in NCCL: {}{}; NCCL_DEBUG=WARN in the environment tells more", attempted,
       nccl().GetErrorString(status), more == nullptr || *more == '\0' ? "" : fmt::format(" ({})", more));
}

void NcclCommunicator::all_reduce(const View& x, const RankGroup& group) {
  MOE_CHECK(x.contiguous() && group.count == size());
  device_.will_run("all_reduce");
  check(nccl().AllReduce(x.data, x.data, static_cast<size_t>(x.elements()), sum_type(x.dtype), NcclSum::sum, group_,
                         device_.stream()),
        "adding over the ranks");
}

void NcclCommunicator::broadcast(const View& x, int root, const RankGroup& group) {
  MOE_CHECK(x.contiguous() && group.count == size());
  device_.will_run("broadcast");
  check(nccl().Broadcast(x.data, x.data, x.bytes(), NcclType::bytes, root, group_, device_.stream()),
        "sending to all ranks");
}

void NcclCommunicator::all_gather(const View&, const View&, const RankGroup&) {
  fail("ranks with GPUs cannot gather tensors yet");
}

void NcclCommunicator::reduce_scatter(const View&, const View&, const RankGroup&) {
  fail("ranks with GPUs cannot scatter sums yet");
}

std::vector<std::string> NcclCommunicator::gather(const std::string& bytes) { return hosts_.gather(bytes); }

void NcclCommunicator::abort(const std::string& why) noexcept { hosts_.abort(why); }

}  // namespace moe::cuda
