#include "ops/adapted_product.h"

#include "base/error.h"

namespace moe {

int64_t AdaptedProduct::slice_count() const {
  int64_t count = 0;
  for (const int64_t columns : slices) count += columns > 0 ? 1 : 0;
  return count;
}

std::vector<GroupedGemm> AdaptedProduct::changes() const {
  GroupedGemm change = product;
  change.a_rows = {};
  change.a = low;
  change.b = b;
  change.accumulate = true;
  if (!product.transpose_b) return {change};
  std::vector<GroupedGemm> result;
  const int64_t rank = b.size(2);
  int64_t row = 0;
  for (int64_t slice = 0; slice < slice_count(); ++slice) {
    const int64_t count = slices[static_cast<size_t>(slice)];
    change.a = low.columns(slice * rank, rank);
    change.b.data = static_cast<char*>(b.data) + bytes_of(b.dtype, row * b.stride[1]);
    change.b.shape = {b.size(0), count, rank};
    change.c = product.c.columns(row, count);
    result.push_back(change);
    row += count;
  }
  return result;
}

void check(const AdaptedProduct& op) {
  check(op.product);
  for (const GroupedGemm& change : op.changes()) check(change);
  const SwiGlu& activation = op.activation;
  if (!activation.gate_up) return;
  check(activation);
  if (!same_view(activation.gate_up, op.product.c)) {
    fail("adapted_product: activation.gate_up is {} {}, expected product.c, {} {}", name(activation.gate_up.dtype),
         activation.gate_up.shape.text(), name(op.product.c.dtype), op.product.c.shape.text());
  }
  for (const View* read : {&op.product.a, &op.product.b, &op.low, &op.b}) {
    if (overlap(activation.y, *read)) fail("adapted_product: activation.y overlaps what the products read");
  }
}

void execute_in_turn(Backend& backend, const AdaptedProduct& op) {
  backend.execute(op.product);
  for (const GroupedGemm& change : op.changes()) backend.execute(change);
  if (op.activation.gate_up) backend.execute(op.activation);
}

void run(Backend& backend, const AdaptedProduct& op) {
  check(op);
  if (auto* const as_one = dynamic_cast<AddsInProducts*>(&backend)) return as_one->execute(op);
  execute_in_turn(backend, op);
}

int64_t flops(const AdaptedProduct& op) {
  int64_t sum = flops(op.product);
  for (const GroupedGemm& change : op.changes()) sum += flops(change);
  return sum;
}

int64_t traffic_bytes(const AdaptedProduct& op) {
  const auto bytes = [](const View& view) { return view ? static_cast<int64_t>(view.bytes()) : 0; };
  return traffic_bytes(op.product) + bytes(op.low) + bytes(op.b) + bytes(op.activation.y);
}

}  // namespace moe
