#pragma once
/// The contract: every operation is in OpList, and a Backend implements each or does not compile.

#include "ops/attention.h"
#include "ops/balance.h"
#include "ops/dense.h"
#include "ops/ends.h"
#include "ops/expert_rows.h"
#include "ops/numbers.h"
#include "ops/routing.h"
#include "ops/routing_methods.h"
#include "ops/rows.h"
#include "ops/types.h"

namespace moe {

template <class... Ops>
struct TypeList {};

using OpList = TypeList<Gemm, GroupedGemm, GroupedGemmReduce,                                    //
                        RmsNorm, RmsNormBackward, SwiGlu, SwiGluBackward, RopeTable, Rope, Add,  //
                        Attention, AttentionBackward, KvAppend, CachedAttention,                 //
                        Embed, EmbedBackward, CrossEntropy,                                      //
                        RouterScores, RouterTopk, RouterGates, RoutePlan, RowsCombine,           //
                        RouterBackward,                                                          //
                        RouterCounts, BalanceCoefficients, BalanceLoss, GateLoss, RouterZLoss,   //
                        ExpertSums, VariationLoss, BiasUpdate,                                   //
                        RouterDrop, RouterJitter, RouterNoise, NoiseLoad, NoiseBackward,         //
                        TableRoute, ExpertChoice, Distillation,                                  //
                        Fill, Cast, SumSquares, ClipScale, AdamW>;

namespace detail {

template <class Op>
struct OpInterface {
  virtual ~OpInterface() = default;
  virtual void execute(const Op& op) = 0;
};

template <class List>
struct OpInterfaces;
template <class... Ops>
struct OpInterfaces<TypeList<Ops...>> : OpInterface<Ops>... {
  using OpInterface<Ops>::execute...;
};

}  // namespace detail

/// Executes operations, in the order given, on one device. An operation may be asynchronous to the host; it allocates
/// nothing, reads no host values besides the struct's scalars and keeps no state.
class Backend : public detail::OpInterfaces<OpList> {
 public:
  using detail::OpInterfaces<OpList>::execute;

  /// Checks shapes, types and aliasing (throws Error naming operation and argument), then executes.
  template <class Op>
  void run(const Op& op) {
    check(op);
    this->execute(op);
  }

  /// The types that it computes with; null: all that the contract allows.
  virtual const AcceptedTypes* accepts() const { return nullptr; }

  /// Fusions: by default their operations in turn, for a backend to override with what gives the same bits; then
  /// fuses() says so to whoever times it.
  virtual bool fuses() const { return false; }
  virtual void execute(const ExpertRows<SwiGlu>& rows) { in_turn(rows); }
  virtual void execute(const ExpertRows<SwiGluBackward>& rows) { in_turn(rows); }

 private:
  template <class Activation>
  void in_turn(const ExpertRows<Activation>& rows) {
    this->execute(rows.first);
    this->execute(rows.activation);
    this->execute(rows.last);
  }
};

namespace detail {

template <class Derived, class List>
struct ForwardTo;
template <class Derived>
struct ForwardTo<Derived, TypeList<>> : Backend {
  using Backend::execute;
};
template <class Derived, class First, class... Rest>
struct ForwardTo<Derived, TypeList<First, Rest...>> : ForwardTo<Derived, TypeList<Rest...>> {
  using ForwardTo<Derived, TypeList<Rest...>>::execute;
  void execute(const First& op) final { static_cast<Derived*>(this)->on(op); }
};

}  // namespace detail

/// A backend that sends every operation to one (template or overloaded) member `on(op)` of Derived: the base of the
/// wrappers and of backends that overload by operation.
template <class Derived>
using EachOp = detail::ForwardTo<Derived, OpList>;

}  // namespace moe
