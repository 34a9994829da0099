#pragma once
/// Filters: value | name(arguments), as jinja2 has them, with transformers' tojson.

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

using FilterFunction = Value (*)(const Value& value, const Arguments& arguments);

/// Whether jinja2 has a filter of that name.
bool is_filter(std::string_view name);
/// An error where there is none, or where it is one of the few that templates have here no use for.
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);

/// The filters, by the file that holds them.
struct Filter {
  std::string_view name;
  FilterFunction function;  // null: jinja2 has it, this program does not
};
std::vector<Filter> text_filters();
std::vector<Filter> escape_filters();
std::vector<Filter> list_filters();
std::vector<Filter> choice_filters();
std::vector<Filter> number_filters();

}  // namespace moe::jinja
