#pragma once
/// The element types that a backend computes with. check() accepts every type that the contract allows, f64 too. A
/// backend lists the types that it has code for; any other type is an Error and is never read as one of these.

#include <span>

#include "ops/expert_rows.h"
#include "ops/fields.h"
#include "ops/type_set.h"

namespace moe {

/// What one field of one operation may be, instead of the backend's other types.
struct FieldTypes {
  std::string_view operation, field;
  TypeSet types;
};

struct AcceptedTypes {
  const char* backend;  ///< the backend's name, for people
  TypeSet types;        ///< the types of every field that is not listed
  std::span<const FieldTypes> fields;

  TypeSet of(std::string_view operation, std::string_view field) const;
};

[[noreturn]] void refuse_type(const AcceptedTypes& accepted, const char* operation, const char* field,
                              const View& view);

/// Whether all views of an operation are of accepted types; null accepts all.
template <class Op>
bool accepts(const AcceptedTypes* accepted, const Op& op) {
  bool all = true;
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    all = all && (accepted == nullptr || accepted->of(Op::name, field.name).has(view.dtype));
  });
  return all;
}

/// Throws Error naming operation, field and backend for a view of a type that is not accepted.
template <class Op>
void require_types(const AcceptedTypes& accepted, const Op& op) {
  for_each_view(op, [&](const Field<Op>& field, const View& view) {
    if (!accepted.of(Op::name, field.name).has(view.dtype)) refuse_type(accepted, Op::name, field.name, view);
  });
}
template <class Activation>
void require_types(const AcceptedTypes& accepted, const ExpertRows<Activation>& rows) {
  require_types(accepted, rows.first);
  require_types(accepted, rows.activation);
  require_types(accepted, rows.last);
}

}  // namespace moe
