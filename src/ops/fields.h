#pragma once
/// Each operation lists its views once. Printing, null checks, aliasing checks, NaN fill, guard bytes and memory
/// traffic use this list.

#include <array>
#include <string>
#include <string_view>

#include "tensor/view.h"

namespace moe {

enum class Role {
  in,       ///< read only
  out,      ///< overwritten, whatever it held
  partial,  ///< overwritten in part, whatever that held; the rest keeps what it holds
  inout,    ///< read, then written; where the operation has `accumulate`, read only if that is set
};

template <class Op>
struct Field {
  const char* name;
  View Op::*view;
  Role role;
  bool optional = false;
  /// The only other field that may be the same view (for computing in place), or null.
  const char* in_place_of = nullptr;

  constexpr Field or_absent() const { return {name, view, role, true, in_place_of}; }
  constexpr Field may_be(const char* other) const { return {name, view, role, optional, other}; }
};

template <class Op>
constexpr Field<Op> in(const char* name, View Op::*view) {
  return {name, view, Role::in};
}
template <class Op>
constexpr Field<Op> out(const char* name, View Op::*view) {
  return {name, view, Role::out};
}
template <class Op>
constexpr Field<Op> partial(const char* name, View Op::*view) {
  return {name, view, Role::partial};
}
template <class Op>
constexpr Field<Op> inout(const char* name, View Op::*view) {
  return {name, view, Role::inout};
}

/// Calls visit(field, view) for each view of the operation that is present.
template <class Op, class Visit>
void for_each_view(const Op& op, Visit visit) {
  for (const auto& field : Op::fields()) {
    if (op.*field.view) visit(field, op.*field.view);
  }
}

/// "rms_norm(x f32 [4, 8], gain f32 [8], ...)"
template <class Op>
std::string describe(const Op& op) {
  std::string result = std::string(Op::name) + "(";
  std::string_view separator;
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    result += fmt::format("{}{} {} {}", separator, field.name, name(view.dtype), view.shape.text());
    separator = ", ";
  });
  return result + ")";
}

/// Bytes that an ideal implementation moves: what is read once, what is written once. An operation of which this is not
/// true has an overload beside it.
template <class Op>
int64_t traffic_bytes(const Op& op) {
  bool reads = true;
  if constexpr (requires { op.accumulate; }) reads = op.accumulate;
  int64_t bytes = 0;
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    bytes += static_cast<int64_t>(view.bytes()) * (field.role == Role::inout && reads ? 2 : 1);
  });
  return bytes;
}

/// True if an element of `a` and an element of `b` share an address. Exact for contiguous views and for column ranges
/// of one matrix. For other views that interleave, the answer may be true without a shared address.
bool overlap(const View& a, const View& b);

/// The same elements in the same order.
bool same_view(const View& a, const View& b);

}  // namespace moe
