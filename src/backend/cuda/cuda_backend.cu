#include <atomic>
#include <optional>

#include "backend/cuda/combined_norm.h"
#include "backend/cuda/context.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_tokens.h"
#include "backend/cuda/handover.h"
#include "backend/cuda/nccl_communicator.h"
#include "backend/cuda/normed_logits.h"
#include "backend/cuda/rotated_attention.h"
#include "backend/cuda/side_stream.h"
#include "backend/cuda/slow_path.h"
#include "backend/cuda/tile_product.h"
#include "backend/cuda/weight_element.cuh"
#include "ops/adapted_product.h"
#include "ops/overlap.h"
#include "ops/types.h"

namespace moe {
namespace {

// Those that no fast kernel reads are read one by one (weight_element.cuh).
constexpr TypeSet kWeights = [] {
  TypeSet types = cuda::kOtherWeights;
  types.add(DType::f32);
  types.add(DType::bf16);
  return types;
}();
constexpr FieldTypes kOtherFields[] = {
    {"fill", "x", {DType::f64, DType::f32, DType::bf16, DType::i32, DType::u8}},
    {"sum_squares", "sum", {DType::f64}},
    {"grouped_gemm_reduce", "squares", {DType::f64}},
    {"clip_scale", "sum_squares", {DType::f64}},
    {"gemm", "b", kWeights},
    {"grouped_gemm", "b", kWeights},
    {"rms_norm", "gain", kWeights},
    {"router_scores", "weight", kWeights},
    {"embed", "table", kWeights},
};
constexpr AcceptedTypes kTypes{"the GPU", {DType::f32, DType::bf16, DType::i32}, kOtherFields};

constexpr int64_t kMostCountedTokens = 16;  ///< whose logits come from a kernel that may count its blocks

std::atomic<int64_t> fused_products{0};

/// Points a pointer of the context to `to` until the end of the scope.
template <class T>
class Reset {
 public:
  Reset(T*& pointer, T* to) : pointer_(pointer) { pointer = to; }
  ~Reset() { pointer_ = nullptr; }
  Reset(const Reset&) = delete;
  Reset& operator=(const Reset&) = delete;

 private:
  T*& pointer_;
};

class CudaBackend final : public EachOp<CudaBackend>, public Overlap, public AddsInProducts {
 public:
  explicit CudaBackend(cuda::CudaDevice& device)
      : device_(device),
        context_{.stream = device.stream(),
                 .multiprocessors = device.properties().multiProcessorCount,
                 .compute_capability = device.properties().major * 10 + device.properties().minor,
                 .workspace = {nullptr, cuda::kWorkspaceBytes},
                 .products = {},
                 .counters = nullptr} {
    cuda::check(cudaMalloc(&context_.workspace.data, context_.workspace.bytes), "allocating the GPU's workspace");
    constexpr size_t kBytes = (cuda::kCounters + cuda::kFlags) * sizeof(int) + cuda::kListedTiles * sizeof(int4);
    cuda::check(cudaMalloc(&context_.counters, kBytes), "allocating the GPU's counters");
    cuda::check(cudaMemsetAsync(context_.counters, 0, kBytes, context_.stream), "clearing the GPU's counters");
  }
  ~CudaBackend() override {
    cudaStreamSynchronize(context_.stream);  // nothing that is queued may outlive the workspace
    cudaFree(context_.workspace.data);
    cudaFree(context_.counters);
  }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  template <class Op>
  void on(const Op& op) {
    require_types(kTypes, op);
    if constexpr (std::is_same_v<Op, RmsNorm>) {
      if (with_postponed(op)) return;
    }
    begin(Op::name);
    cuda::execute(context_, op);
    end(op);
  }

  const AcceptedTypes* accepts() const override { return &kTypes; }
  bool fuses() const override { return true; }
  using EachOp<CudaBackend>::execute;  // of its gradient too: in turn
  void execute(const ExpertRows<SwiGlu>& rows) override {
    require_types(kTypes, rows.first);
    require_types(kTypes, rows.activation);
    product_and_swiglu(ExpertRows<SwiGlu>::name, rows.first, rows.activation);
    on(rows.last);
  }
  void execute(const ActivatedProduct& op) override {
    require_types(kTypes, op.product);
    require_types(kTypes, op.activation);
    product_and_swiglu(ActivatedProduct::name, op.product, op.activation);
  }
  void execute(const AdaptedProduct& op) override {
    for (const GroupedGemm& change : op.changes()) require_types(kTypes, change);
    require_types(kTypes, op.product);
    if (op.activation.gate_up) require_types(kTypes, op.activation);
    begin(AdaptedProduct::name);
    if (!cuda::adapted_product(context_, op)) return execute_in_turn(*this, op);
    ++fused_products;
    end(op.product);
    if (op.activation.gate_up) end(op.activation);
  }
  void execute(const RouteTokens& op) override {
    require_types(kTypes, op.scores);
    require_types(kTypes, op.choice);
    require_types(kTypes, op.gates);
    require_types(kTypes, op.plan);
    begin(RouteTokens::name);
    if (!cuda::few_tokens_route(context_, op)) return Backend::execute(op);
    end(op.scores);
    end(op.choice);
    end(op.gates);
    end(op.plan);
  }
  void execute(const RoutedFfn& op) override {
    std::optional<cuda::Handover> handover;
    if (cuda::suits_few_tokens(op.route)) handover = cuda::take_handover(context_, device_.recording());
    if (!handover) return run_in_turn(*this, op);
    require_types(kTypes, op.norm);
    require_types(kTypes, op.route.scores);
    require_types(kTypes, op.route.choice);
    require_types(kTypes, op.route.gates);
    require_types(kTypes, op.route.plan);
    require_types(kTypes, op.experts.first);
    require_types(kTypes, op.experts.activation);
    using For = cuda::Handover::For;
    const auto with = [&](For product, const auto& work) {
      handover->product = product;
      const Reset<cuda::Handover> reset{context_.handover, &*handover};
      return work();
    };
    begin(RoutedFfn::name);
    if (with(For::logits, [&] { return cuda::normed_logits(context_, op.norm, op.route.scores); })) {
      end(op.norm);
    } else {
      on(op.norm);
      begin(RoutedFfn::name);
      // Many tokens are routed on a second stream (below), so that their choice takes several blocks.
      const For logits = op.norm.x.size(0) > kMostCountedTokens ? For::nothing : For::logits;
      if (!with(logits, [&] { return cuda::few_tokens_logits(context_, op.route); })) {
        return run_after_norm(*this, op);
      }
    }
    // The choice waits for the logits alone, so it is made while the shared experts read their weights: behind a kernel
    // that counts its blocks as part of the one stream, else on a second one. What runs between the logits and the
    // experts writes nothing that these read (check()).
    const bool counted = handover->arrivals > 0;
    const auto choose = [&] {
      cuda::few_tokens_choice(context_, op.route, counted ? &*handover : nullptr, counted ? nullptr : handover->ready);
    };
    cuda::TileLists lists{.tiles = reinterpret_cast<int4*>(context_.counters + cuda::kCounters + cuda::kFlags)};
    bool listed = false;
    if (!counted) {
      side_.fork(context_, [&] {
        choose();
        const Reset<cuda::TileLists> beside{context_.tile_lists, &lists};
        listed = cuda::list_tiles_ahead(context_, op.experts.first);
      });
    }
    execute(op.shared);
    begin(RoutedFfn::name);
    if (counted) choose();
    end(op.route.scores);
    end(op.route.choice);
    end(op.route.gates);
    end(op.route.plan);
    on(op.shared_down);
    if (!counted) side_.join(context_);  // all that is queued next waits for the choice
    const Reset<cuda::TileLists> reset{context_.tile_lists, listed ? &lists : nullptr};
    with(counted ? For::tokens : For::nothing,
         [&] { product_and_swiglu(ExpertRows<SwiGlu>::name, op.experts.first, op.experts.activation); });
    lists.may_start_early = true;
    with(counted ? For::rows : For::nothing, [&] { on(op.experts.last); });
    postpone(op.combine);
  }
  void execute(const RotatedAttention& op) override {
    require_types(kTypes, op.rope);
    require_types(kTypes, op.append);
    require_types(kTypes, op.attention);
    begin(RotatedAttention::name);
    const bool whole = cuda::attend_new(context_, op);
    if (whole || cuda::rotated_append(context_, op.rope, op.append)) {
      end(op.rope);
      end(op.append);
    } else {
      on(op.rope);
      on(op.append);
    }
    whole ? end(op.attention) : on(op.attention);
  }
  bool gathers(const ExpertsBackward& op) const override { return cuda::gathers(context_, op); }

 private:
  void begin(const char* operation) {
    if (cuda::Written* const recording = device_.recording()) recording->queue_postponed();
    device_.will_run(operation);
    context_.recording = device_.recording();
  }
  template <class Op>
  void end(const Op& op) {
    cuda::Written* const recording = device_.recording();
    if (recording == nullptr) return;
    for_each_view(op, [&](const Field<Op>& field, const View& view) {
      if (field.role != Role::in) recording->views.push_back(view);
    });
  }
  template <class Product>
  void product_and_swiglu(const char* operation, const Product& product, const SwiGlu& activation) {
    begin(operation);
    if (!cuda::product_and_swiglu(context_, product, activation)) {
      on(product);
      return on(activation);
    }
    ++fused_products;
    end(product);
    end(activation);
  }

  /// In a recording. The norm of the next layer may be queued with it.
  void postpone(const RowsCombine& op) {
    postponed_ = op;
    device_.recording()->postponed = [this] { on(RowsCombine{postponed_}); };
  }
  bool with_postponed(const RmsNorm& op) {
    cuda::Written* const recording = device_.recording();
    if (recording == nullptr || !recording->postponed) return false;
    if (!cuda::suits_combined_norm(context_, postponed_, op)) return false;
    recording->postponed = nullptr;
    require_types(kTypes, postponed_);
    begin(RmsNorm::name);
    cuda::combined_norm(context_, postponed_, op);
    end(postponed_);
    end(op);
    return true;
  }

  cuda::CudaDevice& device_;
  cuda::Context context_;
  cuda::SideStream side_;
  RowsCombine postponed_{};
};

}  // namespace

std::string why_no_cuda() { return cuda::why_no_device(); }

int cuda_gpus() {
  int count = 0;
  if (!why_no_cuda().empty() || cudaGetDeviceCount(&count) != cudaSuccess) return 0;
  return count;
}

std::unique_ptr<Device> make_cuda_device(int gpu) {
  if (const std::string why = why_no_cuda(); !why.empty()) fail("no GPU can be used: {}", why);
  return std::make_unique<cuda::CudaDevice>(gpu);
}

std::unique_ptr<Communicator> make_cuda_communicator(Communicator& hosts, Device& device) {
  auto* const gpu = dynamic_cast<cuda::CudaDevice*>(&device);
  MOE_CHECK(gpu != nullptr);
  return std::make_unique<cuda::NcclCommunicator>(hosts, *gpu);
}

std::unique_ptr<Backend> make_cuda_backend(Device& device) {
  auto* const gpu = dynamic_cast<cuda::CudaDevice*>(&device);
  MOE_CHECK(gpu != nullptr);
  return std::make_unique<CudaBackend>(*gpu);
}

std::vector<std::string> cuda_slow_paths() { return cuda::slow_paths(); }

int64_t cuda_fused_products() { return fused_products; }

int64_t cuda_workspace_bytes() { return static_cast<int64_t>(cuda::kWorkspaceBytes); }

}  // namespace moe
