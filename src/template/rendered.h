#pragma once
/// What a rendering takes beside the template and its variables, and what it gives.

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "template/meter.h"

namespace moe::jinja {

struct RenderOptions {
  Limits limits = {};
  std::optional<std::time_t> now = {};  // local time for strftime_now; without it, the clock's time
};

/// The bytes of a text from `begin` up to, but not including, `end`.
struct Span {
  size_t begin;
  size_t end;
};

struct Rendered {
  std::string text;
  /// The text inside {% generation %} blocks, in order: the parts that an assistant wrote.
  std::vector<Span> generated;
  /// True if the text of a generation block passed through a macro, a filter or a variable. Its place is then unknown,
  /// and `generated` is incomplete.
  bool generated_elsewhere = false;
};

}  // namespace moe::jinja
