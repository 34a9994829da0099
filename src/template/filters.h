#pragma once
/// Filters: value | name(arguments), as in jinja2, with the tojson of transformers.

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

using FilterFunction = Value (*)(const Value& value, const Arguments& arguments);

/// True if jinja2 has a filter of that name.
bool is_filter(std::string_view name);
/// An error if there is no such filter, or if it is one of the few that this program does not have.
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);

/// The filters that one file defines.
struct Filter {
  std::string_view name;
  FilterFunction function;  // null: jinja2 has it, but this program does not
};
std::vector<Filter> text_filters();
std::vector<Filter> escape_filters();
std::vector<Filter> list_filters();
std::vector<Filter> choice_filters();
std::vector<Filter> number_filters();

}  // namespace moe::jinja
