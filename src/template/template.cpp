#include "template/template.h"

#include "base/error.h"
#include "base/utf8.h"
#include "template/lexer.h"
#include "template/parser.h"
#include "template/renderer.h"

namespace moe::jinja {
namespace {

// The thread's meter for one rendering. When it ends, nothing of the rendering is left.
class MeterScope {
 public:
  explicit MeterScope(const Limits& limits) : outer_(Meter::current) {
    meter_.limits = limits;
    Meter::current = &meter_;
  }
  ~MeterScope() {
    const std::vector<std::weak_ptr<Object>> all = std::move(meter_.may_hold_themselves);
    for (const auto& each : all) {
      if (const auto alive = each.lock()) alive->forget();
    }
    Meter::current = outer_;
  }
  MeterScope(const MeterScope&) = delete;
  MeterScope& operator=(const MeterScope&) = delete;

 private:
  Meter meter_;
  Meter* outer_;
};

}  // namespace

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  if (utf8_valid_prefix(source) != source.size()) {
    fail("{}: the template is not UTF-8 from byte {} on", name_, utf8_valid_prefix(source));
  }
  try {
    parsed_ = std::make_unique<const Parsed>(parse(source));
  } catch (const SyntaxMistake& mistake) {
    fail("{}, line {}: {}", name_, mistake.line, mistake.what());
  }
}

Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

Rendered Template::render(const Value& variables, const RenderOptions& options) const {
  if (!variables.is(Type::dict)) fail("{}: the variables must be a dictionary", name_);
  const MeterScope meter(options.limits);
  Renderer renderer(*parsed_, variables, options);
  try {
    return renderer.run();
  } catch (const Error& error) {
    fail("{}, line {}: {}", name_, renderer.line(), error.what());
  }
}

}  // namespace moe::jinja
