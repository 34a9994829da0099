#pragma once
/// The contract: OpList names every operation. A Backend that does not implement one of them does not link.

#include "base/progress_count.h"
#include "ops/attention.h"
#include "ops/balance.h"
#include "ops/dense.h"
#include "ops/dropout.h"
#include "ops/embedding_loss.h"
#include "ops/expert_rows.h"
#include "ops/next_token.h"
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
                        Embed, EmbedBackward, CrossEntropy, NextToken,                           //
                        RouterScores, RouterTopk, RouterGates, RoutePlan, RowsCombine,           //
                        RowsGather, RouterBackward,                                              //
                        RouterCounts, BalanceCoefficients, BalanceLoss, GateLoss, RouterZLoss,   //
                        ExpertSums, VariationLoss, BiasUpdate,                                   //
                        RouterDrop, RouterJitter, RouterNoise, NoiseLoad, NoiseBackward,         //
                        TableRoute, ExpertChoice, Distillation, Dropout,                         //
                        Fill, Cast, SumSquares, ClipScale, Blend, UnitMatrices, AdamW>;

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

/// Executes operations on one device, in the given order. An operation may run asynchronously to the host. It allocates
/// no device memory, reads no host values except the scalars of its struct, and keeps no state. Use a backend on one
/// thread at a time; it may use threads of its own.
class Backend : public detail::OpInterfaces<OpList> {
 public:
  using detail::OpInterfaces<OpList>::execute;

  /// Checks shapes, types and aliasing, then executes the operation. Throws an Error that names the operation and the
  /// argument.
  template <class Op>
  void run(const Op& op) {
    check(op);
    this->execute(op);
    note_progress();
  }

  /// The types that it computes with; null: all that the contract allows.
  virtual const AcceptedTypes* accepts() const { return nullptr; }

  /// Fusions: by default their operations in turn, for a backend to override with what gives the same bits; then
  /// fuses() says so to whoever times it.
  virtual bool fuses() const { return false; }
  virtual void execute(const ExpertRows<SwiGlu>& rows) { in_turn(rows); }
  virtual void execute(const ExpertRows<SwiGluBackward>& rows) { in_turn(rows); }
  virtual void execute(const ActivatedProduct& op) {
    this->execute(op.product);
    this->execute(op.activation);
  }
  virtual void execute(const RouteTokens& op) {
    this->execute(op.scores);
    this->execute(op.choice);
    this->execute(op.gates);
    this->execute(op.plan);
  }

  /// Which way the backward pass of experts is to run (ops/expert_rows.h): on rows that are gathered first, or not.
  virtual bool gathers(const ExpertsBackward&) const { return false; }
  void execute(const ExpertsBackward& op) {
    if (gathers(op)) return run_on_gathered_rows(op, [&](const auto& part) { this->execute(part); });
    this->execute(op.rows);
    if (op.down.c) this->execute(op.down);
    if (op.gate_up.c) this->execute(op.gate_up);
  }

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

/// A backend that sends every operation to one member `on(op)` of Derived (a template or overloads). It is the base of
/// the wrappers, and of backends that overload by operation.
template <class Derived>
using EachOp = detail::ForwardTo<Derived, OpList>;

}  // namespace moe
