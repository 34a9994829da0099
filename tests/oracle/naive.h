#pragma once
/// Every operation of OpList, written like the equation in src/ops. Inputs are read as a whole and outputs are written
/// as a whole, so operating in place needs no special care. Elements that the contract does not change are read and
/// written back.

#include "ops/backend.h"

namespace moe::oracle {

void compute(const Gemm& op);
void compute(const GroupedGemm& op);
void compute(const GroupedGemmReduce& op);

void compute(const RmsNorm& op);
void compute(const RmsNormBackward& op);
void compute(const SwiGlu& op);
void compute(const SwiGluBackward& op);
void compute(const RopeTable& op);
void compute(const Rope& op);
void compute(const Add& op);

void compute(const Attention& op);
void compute(const AttentionBackward& op);
void compute(const KvAppend& op);
void compute(const CachedAttention& op);

void compute(const Embed& op);
void compute(const EmbedBackward& op);
void compute(const CrossEntropy& op);
void compute(const NextToken& op);

void compute(const RouterScores& op);
void compute(const RouterTopk& op);
void compute(const RouterGates& op);
void compute(const RoutePlan& op);
void compute(const RowsCombine& op);
void compute(const RowsGather& op);
void compute(const RouterBackward& op);

void compute(const RouterCounts& op);
void compute(const BalanceCoefficients& op);
void compute(const BalanceLoss& op);
void compute(const GateLoss& op);
void compute(const RouterZLoss& op);
void compute(const ExpertSums& op);
void compute(const VariationLoss& op);
void compute(const BiasUpdate& op);

void compute(const RouterDrop& op);
void compute(const RouterJitter& op);
void compute(const Dropout& op);
void compute(const RouterNoise& op);
void compute(const NoiseLoad& op);
void compute(const NoiseBackward& op);
void compute(const TableRoute& op);
void compute(const ExpertChoice& op);
void compute(const Distillation& op);

void compute(const Fill& op);
void compute(const Cast& op);
void compute(const SumSquares& op);
void compute(const ClipScale& op);
void compute(const Blend& op);
void compute(const UnitMatrices& op);
void compute(const AdamW& op);

}  // namespace moe::oracle
