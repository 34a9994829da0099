#include "backend/cuda/nccl_communicator.h"

#include <cstring>
#include <exception>
#include <tuple>

#include "backend/cuda/context.h"
#include "base/error.h"
#include "base/log.h"

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
    case DType::bf16:
      return NcclType::bf16;
    default:
      fail("{} cannot be added over ranks: f32, f64, i32 or bf16 is expected", name(dtype));
  }
}

size_t count_of(const View& x) { return static_cast<size_t>(x.elements()); }

/// `root` is its number in the group.
NcclStatus queue_reduce(const Rooted& one, NcclGroup group, int root, cudaStream_t stream) {
  return nccl().Reduce(one.x.data, one.x.data, count_of(one.x), sum_type(one.x.dtype), NcclSum::sum, root, group,
                       stream);
}

NcclStatus queue_broadcast(const Rooted& one, NcclGroup group, int root, cudaStream_t stream) {
  return nccl().Broadcast(one.x.data, one.x.data, one.x.bytes(), NcclType::bytes, root, group, stream);
}

}  // namespace

bool NcclCommunicator::Key::operator<(const Key& other) const {
  const auto all = [](const Key& key) {
    return std::tuple(key.ranks.first, key.ranks.count, key.ranks.step, key.aside);
  };
  return all(*this) < all(other);
}

NcclCommunicator::NcclCommunicator(Communicator& hosts, CudaDevice& device)
    : hosts_(hosts), device_(device), exposed_(device.stream()), errors_before_(std::uncaught_exceptions()) {
  group(everyone());
  int least = 0, greatest = 0;
  cuda::check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
  // So that what is aside gets multiprocessors before kernels that were queued later.
  cuda::check(cudaStreamCreateWithPriority(&aside_, cudaStreamNonBlocking, greatest), "creating a stream");
  for (cudaEvent_t* event : {&begun_, &done_}) {
    cuda::check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
  }
}

NcclCommunicator::~NcclCommunicator() {
  // After an error the others may never come to what is queued.
  const bool failed = std::uncaught_exceptions() > errors_before_;
  for (const auto& [key, group] : groups_) failed ? nccl().CommAbort(group) : nccl().CommDestroy(group);
  peers_.reset();
  for (cudaEvent_t event : {begun_, done_}) cudaEventDestroy(event);
  for (cudaEvent_t event : marks_) cudaEventDestroy(event);
  cudaStreamDestroy(aside_);
}

void NcclCommunicator::check(NcclStatus status, const char* attempted) const {
  if (status == 0) return;
  const char* const more = nccl().GetLastError(nullptr);
  fail("{} failed in NCCL: {}{}; NCCL_DEBUG=WARN in the environment tells more", attempted,
       nccl().GetErrorString(status), more == nullptr || *more == '\0' ? "" : fmt::format(" ({})", more));
}

NcclGroup NcclCommunicator::group(const RankGroup& ranks, bool aside) {
  const auto found = groups_.find({ranks, aside});
  if (found != groups_.end()) return found->second;
  NcclId id{};
  std::string own;
  if (rank() == ranks.first) {
    check(nccl().GetUniqueId(&id), "beginning a group of GPUs");
    own.assign(id.bytes, sizeof(id.bytes));
  } else {
    nccl();  // an error of loading comes before the others wait
  }
  // A rank alone has nobody to tell.
  const std::string first = ranks.count == 1 ? own : hosts_.gather(own)[static_cast<size_t>(ranks.first)];
  MOE_CHECK(first.size() == sizeof(id.bytes));
  std::memcpy(id.bytes, first.data(), sizeof(id.bytes));
  NcclGroup made = nullptr;
  check(nccl().CommInitRank(&made, ranks.count, id, ranks.member(rank())), "joining a group of GPUs");
  return groups_[{ranks, aside}] = made;
}

template <class Work>
void NcclCommunicator::timed(const Work& work) {
  exposed_.begin();
  work();
  exposed_.end();
}

void NcclCommunicator::all_reduce(const View& x, const RankGroup& ranks) {
  MOE_CHECK(x.contiguous());
  const NcclType type = sum_type(x.dtype);
  device_.will_run("all_reduce");
  timed([&] {
    check(nccl().AllReduce(x.data, x.data, count_of(x), type, NcclSum::sum, group(ranks), device_.stream()),
          "adding over the ranks");
  });
}

void NcclCommunicator::reduce(const View& x, int root, const RankGroup& ranks) {
  MOE_CHECK(x.contiguous() && ranks.has(root));
  device_.will_run("reduce");
  timed([&] {
    check(queue_reduce({x, root, ranks}, group(ranks), ranks.member(root), device_.stream()), "adding over the ranks");
  });
}

void NcclCommunicator::broadcast(const View& x, int root, const RankGroup& ranks) {
  MOE_CHECK(x.contiguous() && ranks.has(root));
  device_.will_run("broadcast");
  timed([&] {
    check(queue_broadcast({x, root, ranks}, group(ranks), ranks.member(root), device_.stream()),
          "sending to all ranks");
  });
}

void NcclCommunicator::all_gather(const View& x, const View& y, const RankGroup& ranks) {
  MOE_CHECK(x.contiguous() && y.contiguous() && y.bytes() == x.bytes() * static_cast<size_t>(ranks.count));
  device_.will_run("all_gather");
  timed([&] {
    check(nccl().AllGather(x.data, y.data, x.bytes(), NcclType::bytes, group(ranks), device_.stream()),
          "gathering from the ranks");
  });
}

void NcclCommunicator::reduce_scatter(const View& x, const View& y, const RankGroup& ranks) {
  MOE_CHECK(x.contiguous() && y.contiguous() && x.elements() == y.elements() * ranks.count);
  const NcclType type = sum_type(x.dtype);
  device_.will_run("reduce_scatter");
  timed([&] {
    check(nccl().ReduceScatter(x.data, y.data, count_of(y), type, NcclSum::sum, group(ranks), device_.stream()),
          "scattering sums over the ranks");
  });
}

// One piece of work, so that two ranks that send to each other do not wait for each other.
void NcclCommunicator::exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) {
  constexpr const char* kAttempted = "sending from rank to rank";
  device_.will_run("exchange");
  timed([&] {
    const NcclGroup all = group(everyone());
    check(nccl().GroupStart(), kAttempted);
    NcclStatus status = 0;
    for (const Parcel& one : sent) {
      MOE_CHECK(one.x.contiguous());
      if (status == 0) {
        status = nccl().Send(one.x.data, one.x.bytes(), NcclType::bytes, one.peer, all, device_.stream());
      }
    }
    for (const Parcel& one : received) {
      MOE_CHECK(one.x.contiguous());
      if (status == 0) {
        status = nccl().Recv(one.x.data, one.x.bytes(), NcclType::bytes, one.peer, all, device_.stream());
      }
    }
    const NcclStatus ended = nccl().GroupEnd();
    check(status, kAttempted);
    check(ended, kAttempted);
  });
}

void NcclCommunicator::prepare(const std::vector<RankGroup>& groups) {
  for (const RankGroup& ranks : groups) {
    if (ranks.count == 1) continue;
    for (const bool aside : {false, true}) group(ranks, aside);
  }
}

void NcclCommunicator::show(const std::vector<View>& tensors) {
  peers_.reset();
  std::string why_not = fmt::format("there are {} ranks, at most {} do so", size(), kMostPeers);
  if (size() <= kMostPeers) {
    peers_ = std::make_unique<PeerCopies>(hosts_, device_, tensors);
    why_not = peers_->why_not();
  }
  if (why_not.empty()) return;
  peers_.reset();
  log_warning("the ranks' GPUs do not read each other's memory, so sums of gradients slow the products beside them: {}",
              why_not);
}

void NcclCommunicator::reduce_aside(const std::vector<Rooted>& tensors) {
  if (peers_ == nullptr || !peers_->have(tensors)) return run_aside(tensors, queue_reduce, "adding over the ranks");
  begin_aside();
  peers_->reduce(tensors, aside_);
}

void NcclCommunicator::broadcast_aside(const std::vector<Rooted>& tensors) {
  if (peers_ == nullptr || !peers_->have(tensors)) return run_aside(tensors, queue_broadcast, "sending to all ranks");
  begin_aside();
  peers_->broadcast(tensors, aside_);
}

void NcclCommunicator::begin_aside() {
  cuda::check(cudaEventRecord(begun_, device_.stream()), "beginning what runs aside");
  cuda::check(cudaStreamWaitEvent(aside_, begun_), "beginning what runs aside");
}

// All tensors are one piece of work for NCCL, so that those with different roots go both ways at the same time.
void NcclCommunicator::run_aside(const std::vector<Rooted>& tensors, Queue queue, const char* attempted) {
  if (tensors.empty()) return;
  for (const Rooted& one : tensors) {
    MOE_CHECK(one.x.contiguous() && one.group.has(one.root));
    if (one.group.count > 1) group(one.group, true);  // a group cannot be made within a piece of work
  }
  begin_aside();
  check(nccl().GroupStart(), attempted);
  NcclStatus status = 0;
  for (const Rooted& one : tensors) {
    if (one.group.count == 1 || status != 0) continue;
    status = queue(one, group(one.group, true), one.group.member(one.root), aside_);
  }
  const NcclStatus ended = nccl().GroupEnd();
  check(status, attempted);
  check(ended, attempted);
}

void NcclCommunicator::await() {
  if (peers_ != nullptr) peers_->finish(aside_);
  cuda::check(cudaEventRecord(done_, aside_), "waiting for the ranks");
  timed([&] { cuda::check(cudaStreamWaitEvent(device_.stream(), done_), "waiting for the ranks"); });
  marks_used_ = 0;
}

int64_t NcclCommunicator::mark_aside() {
  if (marks_used_ == marks_.size()) {
    marks_.emplace_back();
    cuda::check(cudaEventCreateWithFlags(&marks_.back(), cudaEventDisableTiming), "creating an event");
  }
  cuda::check(cudaEventRecord(marks_[marks_used_], aside_), "marking what runs aside");
  return static_cast<int64_t>(marks_used_++);
}

void NcclCommunicator::await(int64_t mark) {
  cudaEvent_t const event = marks_.at(static_cast<size_t>(mark));
  timed([&] { cuda::check(cudaStreamWaitEvent(device_.stream(), event), "waiting for the ranks"); });
}

std::vector<std::string> NcclCommunicator::gather(const std::string& bytes) { return hosts_.gather(bytes); }

void NcclCommunicator::abort(const std::string& why) noexcept { hosts_.abort(why); }

}  // namespace moe::cuda
