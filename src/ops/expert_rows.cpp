#include "ops/expert_rows.h"

#include "base/error.h"

namespace moe {
namespace {

/// "f32 [3, 4]", or "absent".
std::string text(const View& view) {
  return view ? fmt::format("{} {}", name(view.dtype), view.shape.text()) : "absent";
}

void require_same(const char* name, const View& a, const char* other, const View& b) {
  if (same_view(a, b)) return;
  fail("expert_rows: {} is {} and {} is {}, expected the very same view", name, text(a), other, text(b));
}

/// `written` may be a view of `op` only if it is the same view as `shared`.
template <class Op>
void require_apart(const char* name, const View& written, const Op& op, const View& shared = {}) {
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    if (!overlap(written, view) || (shared && same_view(view, shared) && same_view(written, shared))) return;
    fail("expert_rows: {} overlaps {} of {}, expected memory of its own", name, field.name, Op::name);
  });
}

/// `in` is what the activation reads from the first product; `out` is what it gives to the last one.
template <class Activation>
void check_rows(const ExpertRows<Activation>& rows, const View& in, const View& out) {
  check(rows.first);
  check(rows.activation);
  check(rows.last);
  require_same("the activation's input", in, "first.c", rows.first.c);
  require_same("last.a", rows.last.a, "the activation's output", out);
  require_same("last.offsets", rows.last.offsets, "first.offsets", rows.first.offsets);
  const View& offsets = rows.first.offsets;
  require_same("activation.row_count", rows.activation.row_count, "the last offset",
               offsets.rows(offsets.size(0) - 1, 1));
  if (rows.last.a_rows) fail("expert_rows: last.a_rows is given, expected none");
  require_apart("last.c", rows.last.c, rows.first);
  require_apart("last.c", rows.last.c, rows.activation);
  // Some rows are written while others are still read.
  for_each_view(rows.activation, [&](const Field<Activation>& field, const View& view) {
    if (field.role == Role::in) return;
    require_apart(field.name, view, rows.first, rows.first.c);
    if (overlap(view, rows.last.b)) fail("expert_rows: {} overlaps last.b, expected memory of its own", field.name);
  });
  if (overlap(rows.first.c, rows.last.b)) fail("expert_rows: first.c overlaps last.b, expected memory of its own");
}

}  // namespace

void check(const ActivatedProduct& op) {
  check(op.product);
  check(op.activation);
  if (!same_view(op.activation.gate_up, op.product.c)) {
    fail("activated_product: activation.gate_up is {} and product.c is {}, expected the very same view",
         text(op.activation.gate_up), text(op.product.c));
  }
  // Some rows are activated while the products of others are not made yet.
  for (const View* read : {&op.product.a, &op.product.b}) {
    if (overlap(op.activation.y, *read)) fail("activated_product: activation.y overlaps what the product reads");
  }
}

void check(const ExpertRows<SwiGlu>& rows) { check_rows(rows, rows.activation.gate_up, rows.activation.y); }

void check(const ExpertRows<SwiGluBackward>& rows) { check_rows(rows, rows.activation.dy, rows.activation.d_gate_up); }

void check(const ExpertsBackward& op) {
  const ExpertRows<SwiGluBackward>& rows = op.rows;
  check(rows);
  check(RowsGather{.x = op.down.a, .slot_row = op.slot_row, .rows = rows.last.c});
  check(RowsGather{.x = op.gate_up.b, .slot_row = op.slot_row, .rows = rows.last.c});
  require_same("down.a", op.down.a, "rows.first.a", rows.first.a);
  require_same("down.a_rows", op.down.a_rows, "rows.first.a_rows", rows.first.a_rows);
  require_same("down.b", op.down.b, "rows.activation.y", rows.activation.y);
  require_same("gate_up.a", op.gate_up.a, "rows.activation.d_gate_up", rows.activation.d_gate_up);
  require_same("gate_up.b_rows", op.gate_up.b_rows, "rows.first.a_rows", rows.first.a_rows);
  for (const GroupedGemmReduce* product : {&op.down, &op.gate_up}) {
    if (!product->c) continue;
    check(*product);
    require_same("the offsets of a reduction", product->offsets, "rows.first.offsets", rows.first.offsets);
    require_apart("rows.last.c", rows.last.c, *product);
    for (const GroupedGemm* other : {&rows.first, &rows.last}) require_apart("a reduction's c", product->c, *other);
    require_apart("a reduction's c", product->c, rows.activation);
  }
}

}  // namespace moe
