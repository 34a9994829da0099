#include "template/paths.h"

#include <algorithm>

#include "template/attributes.h"
#include "template/digits.h"
#include "template/letter_case.h"
#include "template/text.h"

namespace moe::jinja {

Path::Path(std::string_view text) {
  for (const std::string_view part : split(text, ".", -1, false)) {
    const bool digits = !part.empty() && part.size() < 18 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    parts_.push_back(digits ? Value(digits_value(part)) : Value(part));
  }
}

Path::Path(const Value& attribute) {
  if (attribute.is(Type::none)) return;
  if (attribute.is_string()) {
    *this = Path(std::string_view(attribute.text()));
  } else {
    parts_.push_back(attribute);
  }
}

Value Path::of(const Value& value) const {
  Value member = value;
  for (const Value& part : parts_) member = get_item(member, part);
  return member;
}

std::vector<Path> paths_of(const Value& attribute) {
  std::vector<Path> paths;
  if (!attribute.is_string()) return {Path(attribute)};
  for (const std::string_view path : split(attribute.text(), ",", -1, false)) paths.emplace_back(path);
  return paths;
}

Value without_case(const Value& value) { return value.is_string() ? Value(lower_case(value.text())) : value; }

}  // namespace moe::jinja
