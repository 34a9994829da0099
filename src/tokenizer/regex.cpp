#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"

namespace moe {
namespace {

// Backtracking over a long text needs more than PCRE2's own 32 KiB of stack.
constexpr size_t kStackStart = size_t{32} << 10;
constexpr size_t kStackEnd = size_t{64} << 20;

std::string pcre2_message(int code) {
  unsigned char text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct RegexScratch::State {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kStackStart, kStackEnd, nullptr);

  State() {
    if (data == nullptr || context == nullptr) fail("out of memory for matching regular expressions");
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern) : pattern_(pattern), code_(std::make_unique<Code>()) {
  const std::string translated = pcre2_pattern(pattern);
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code_->code == nullptr) {
    fail("the regular expression {:?} cannot be used (as PCRE2: {:?}): {} at byte {}", pattern, translated,
         pcre2_message(error), offset);
  }
  code_->jit = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::find(std::string_view text, size_t from, RegexScratch& scratch, Match& match) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  auto& state = *scratch.state_;
  const int count =
      code_->jit ? pcre2_jit_match(code_->code, subject, text.size(), from, 0, state.data, state.context)
                 : pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, state.data, state.context);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  if (count < 0) {
    fail("the regular expression {:?} could not be matched over a text of {} bytes: {}", pattern_, text.size(),
         pcre2_message(count));
  }
  const size_t* offsets = pcre2_get_ovector_pointer(state.data);
  match = {offsets[0], offsets[1]};
  return true;
}

}  // namespace moe
