#pragma once
/// Chat templates: a subset of Jinja that holds all of the language but the loading of other templates, with the
/// settings of Hugging Face's `transformers` (sandbox without changes to values, trim_blocks, lstrip_blocks, break and
/// continue, generation blocks, its tojson, raise_exception, strftime_now). docs/templates.md says what is left out.

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "template/meter.h"
#include "template/value.h"

namespace moe::jinja {

struct Parsed;

struct RenderOptions {
  Limits limits = {};
  std::optional<std::time_t> now = {};  // what strftime_now tells, in local time; without it the clock
};

/// Bytes of a text, from `begin` up to but not including `end`.
struct Span {
  size_t begin;
  size_t end;
};

struct Rendered {
  std::string text;
  /// What stood in {% generation %} blocks, in order: the parts that an assistant wrote.
  std::vector<Span> generated;
  /// True where a generation block's text passed through a macro, a filter or a variable: its place is not known then,
  /// and `generated` is not complete.
  bool generated_elsewhere = false;
};

/// A parsed template. It never changes, so several threads may render it at once; each rendering has its own limits.
class Template {
 public:
  /// `name` is what errors call it, usually a file. Throws Error with the line where jinja2 would not take it either.
  Template(std::string_view source, std::string name);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// `variables` is a dictionary: messages, tools, add_generation_prompt, bos_token ... Throws Error with the name and
  /// the line: what raise_exception says, what Python would refuse, and what exceeds the limits.
  Rendered render(const Value& variables, const RenderOptions& options = {}) const;

 private:
  std::string name_;
  std::unique_ptr<const Parsed> parsed_;
};

/// The variables of a JSON document, members in the document's order; it must be an object. `name` is what errors call
/// it. Integers of more than 64 bits are refused.
Value parse_variables(std::string_view json, std::string_view name);

}  // namespace moe::jinja
