#pragma once
/// upper(), lower() and similar functions, as in Python's str.

#include <string>
#include <string_view>

namespace moe::jinja {

std::string upper_case(std::string_view text);
std::string lower_case(std::string_view text);
std::string case_folded(std::string_view text);
std::string capitalized(std::string_view text);  // the first character in title case, the rest in lower case
std::string title_case(std::string_view text);   // each stretch of letters so
std::string swapped_case(std::string_view text);

bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);

}  // namespace moe::jinja
