#pragma once
/// Chat templates: a subset of Jinja. It has the whole language except the loading of other templates. The settings are
/// those of Hugging Face's `transformers` (a sandbox without changes to values, trim_blocks, lstrip_blocks, break and
/// continue, generation blocks, its tojson, raise_exception, strftime_now). docs/templates.md lists what is missing.

#include <memory>
#include <string>
#include <string_view>

#include "template/rendered.h"
#include "template/value.h"

namespace moe::jinja {

struct Parsed;

/// A parsed template. It never changes, so several threads may render it at once. Each rendering has its own limits.
class Template {
 public:
  /// Errors call the template `name`, usually a file. Throws an Error with the line if jinja2 would not accept it
  /// either.
  Template(std::string_view source, std::string name);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// `variables` is a dictionary: messages, tools, add_generation_prompt, bos_token ... Throws an Error with the name
  /// and the line: for raise_exception, for what Python would refuse, and for what exceeds the limits.
  Rendered render(const Value& variables, const RenderOptions& options = {}) const;

 private:
  std::string name_;
  std::unique_ptr<const Parsed> parsed_;
};

/// The variables of a JSON document, with members in the document's order. It must be an object. Errors call it `name`.
/// Integers of more than 64 bits are refused.
Value parse_variables(std::string_view json, std::string_view name);

}  // namespace moe::jinja
