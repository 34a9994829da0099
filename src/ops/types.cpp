#include "ops/types.h"

#include "base/error.h"

namespace moe {

TypeSet AcceptedTypes::of(std::string_view operation, std::string_view field) const {
  for (const FieldTypes& line : fields) {
    if (line.operation == operation && line.field == field) return line.types;
  }
  return types;
}

void refuse_type(const AcceptedTypes& accepted, const char* operation, const char* field, const View& view) {
  fail("{}: {} is {} {}, which {} does not compute; expected one of {}", operation, field, name(view.dtype),
       view.shape.text(), accepted.backend, accepted.of(operation, field).text());
}

}  // namespace moe
