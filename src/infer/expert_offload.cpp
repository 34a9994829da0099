#include "infer/expert_offload.h"

#include <map>
#include <vector>

#include "base/error.h"
#include "ops/overlap.h"

namespace moe {

/// Remembers what it has given.
class ExpertOffload::HostMemory final : public Device {
 public:
  explicit HostMemory(Device& inner) : inner_(inner) { MOE_CHECK(inner.info().is_host); }

  void* allocate(size_t bytes, const std::string& purpose) override {
    void* const data = inner_.allocate(bytes, purpose);
    ranges_.emplace(static_cast<const char*>(data), bytes);
    count_allocation(bytes);
    return data;
  }
  void release(void* data) override {
    const auto found = ranges_.find(static_cast<const char*>(data));
    if (found == ranges_.end()) return inner_.release(data);
    count_release(found->second);
    ranges_.erase(found);
    inner_.release(data);
  }
  void upload(void* device, const void* host, size_t bytes) override { inner_.upload(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { inner_.download(host, device, bytes); }
  void synchronize() override { inner_.synchronize(); }
  DeviceInfo info() const override { return inner_.info(); }

  bool empty() const { return ranges_.empty(); }
  bool owns(const void* data) const {
    const auto* const at = static_cast<const char*>(data);
    const auto behind = ranges_.upper_bound(at);
    if (behind == ranges_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(behind);
    return at < begin + bytes;
  }

 private:
  Device& inner_;
  std::map<const char*, size_t> ranges_;
};

class ExpertOffload::Both final : public Device {
 public:
  Both(Device& inner, HostMemory& host) : inner_(inner), host_(host) {}

  void* allocate(size_t bytes, const std::string& purpose) override {
    void* const data = inner_.allocate(bytes, purpose);
    sizes_.emplace(data, bytes);
    count_allocation(bytes);
    return data;
  }
  void release(void* data) override {
    if (const auto found = sizes_.find(data); found != sizes_.end()) {
      count_release(found->second);
      sizes_.erase(found);
    }
    inner_.release(data);
  }
  void upload(void* device, const void* host, size_t bytes) override { at(device).upload(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { at(device).download(host, device, bytes); }
  void synchronize() override { inner_.synchronize(); }
  DeviceInfo info() const override { return inner_.info(); }
  bool rearranges_blocks() const override { return inner_.rearranges_blocks(); }  // experts of the host are not
  std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    return host_.empty() ? inner_.record(work) : Device::record(work);
  }

 private:
  Device& at(const void* data) {
    if (host_.owns(data)) return host_;
    return inner_;
  }

  Device& inner_;
  HostMemory& host_;
  std::map<void*, size_t> sizes_;
};

class ExpertOffload::Computing final : public EachOp<Computing>, public Overlap {
 public:
  Computing(Device& device, Backend& inner, const HostMemory& memory, Backend& host)
      : device_(device), inner_(inner), memory_(memory), host_(host) {}

  const AcceptedTypes* accepts() const override { return inner_.accepts(); }
  bool fuses() const override { return true; }
  template <class Op>
  void on(const Op& op) {
    for (const auto& field : Op::fields()) MOE_CHECK(!memory_.owns((op.*field.view).data));
    inner_.execute(op);  // run() has checked it
  }
  using EachOp<Computing>::execute;
  void execute(const ExpertRows<SwiGlu>& op) override {
    memory_.owns(op.first.b.data) ? on_host(op) : inner_.execute(op);
  }
  void execute(const ExpertRows<SwiGluBackward>& op) override { inner_.execute(op); }
  void execute(const ActivatedProduct& op) override { inner_.execute(op); }
  void execute(const RouteTokens& op) override { inner_.execute(op); }
  bool gathers(const ExpertsBackward& op) const override { return inner_.gathers(op); }
  void execute(const RotatedAttention& op) override { moe::run(inner_, op); }
  void execute(const RoutedFfn& op) override {
    memory_.owns(op.experts.first.b.data) ? run_in_turn(*this, op) : moe::run(inner_, op);
  }

 private:
  /// Buffers of one operation, kept for the next.
  enum Place { tokens, token_rows, offsets, scales, scale_rows, gate_up, activated, results, kPlaces };

  View room(Place place, const View& like) {
    std::vector<char>& memory = buffers_[place];
    if (memory.size() < like.bytes()) memory.resize(like.bytes());
    return View(memory.data(), like.dtype, like.shape);
  }
  View copied(Place place, const View& from) {
    if (!from) return {};
    MOE_CHECK(from.contiguous());
    const View to = room(place, from);
    device_.download(to.data, from.data, from.bytes());
    return to;
  }

  void on_host(const ExpertRows<SwiGlu>& op) {
    MOE_CHECK(memory_.owns(op.last.b.data));
    const View begins = copied(offsets, op.first.offsets);
    const int64_t experts = begins.size(0) - 1, rows = begins.as<const int32_t>()[experts];
    if (rows == 0) return;
    ExpertRows<SwiGlu> here = op;
    here.first.a = copied(tokens, op.first.a);
    here.first.a_rows = copied(token_rows, op.first.a_rows);
    here.activation.scale = copied(scales, op.activation.scale);
    here.activation.scale_index = copied(scale_rows, op.activation.scale_index);
    here.first.offsets = here.last.offsets = begins;
    here.activation.row_count = begins.rows(experts, 1);
    here.first.c = here.activation.gate_up = room(gate_up, op.first.c);
    here.activation.y = here.last.a = room(activated, op.activation.y);
    here.last.c = room(results, op.last.c);
    host_.run(here);
    MOE_CHECK(op.last.c.contiguous());
    device_.upload(op.last.c.data, here.last.c.data, op.last.c.rows(0, rows).bytes());
  }

  Device& device_;
  Backend& inner_;
  const HostMemory& memory_;
  Backend& host_;
  std::vector<char> buffers_[kPlaces];
};

ExpertOffload::ExpertOffload(Device& device, Backend& backend, Device& host_device, Backend& host_backend)
    : host_(std::make_unique<HostMemory>(host_device)),
      device_(std::make_unique<Both>(device, *host_)),
      backend_(std::make_unique<Computing>(device, backend, *host_, host_backend)) {}

ExpertOffload::~ExpertOffload() = default;

Device& ExpertOffload::device() const { return *device_; }
Device& ExpertOffload::host() const { return *host_; }
Backend& ExpertOffload::backend() const { return *backend_; }

}  // namespace moe
